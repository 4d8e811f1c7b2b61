"""The published weights of the superpixel network SFCN."""

from pathlib import Path

from caft.network.vision.superpixels import SFCN
from caft.weights.files import fill, read_checkpoint

# Heads of the published file that its forward pass does not use.
UNUSED_HEADS = ("pred_mask1.", "pred_mask2.", "pred_mask3.")


def sfcn_from_checkpoint(path: str | Path) -> SFCN:
    """SFCN with the weights of the published BSDS checkpoint (`SpixelNet_bsd_ckpt.tar`, a torch file).

    Args:
        path: The file, a dict with a `state_dict`; a `module.` prefix is dropped.

    Returns:
        The network in evaluation mode.

    Raises:
        CheckpointError: The file cannot be read, or a weight does not fit.
    """
    path = Path(path)
    state = read_checkpoint(path)
    network = SFCN()
    fill(network, {name: t for name, t in state.items() if not name.startswith(UNUSED_HEADS)}, path)
    return network.eval()
