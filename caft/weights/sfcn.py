"""The published weights of the superpixel network SFCN."""

from collections.abc import Sequence
from pathlib import Path

from caft.network.vision.superpixels import SFCN
from caft.weights.checkpoints import plain_names, read_checkpoint
from caft.weights.files import fill, read_weights

_OWN = "superpixels."  # in a whole model of this project
# Heads of the published file that its forward pass does not use.
UNUSED_HEADS = ("pred_mask1.", "pred_mask2.", "pred_mask3.")


def sfcn_from_checkpoint(path: str | Path, widths: Sequence[int] | None = None) -> SFCN:
    """SFCN with the weights of the published BSDS checkpoint (`SpixelNet_bsd_ckpt.tar`, a torch file).

    Args:
        path: The file, a dict with a `state_dict` or the like (see `caft.weights.checkpoints`); or a `.safetensors` file.
            Of a whole model of this project, its superpixel network is taken.
        widths: Channels of the selected model's; by default the published.

    Returns:
        The network in evaluation mode.

    Raises:
        CheckpointError: The file cannot be read, or a weight does not fit or is not finite.
    """
    path = Path(path)
    state = plain_names(read_weights(path), path) if path.suffix == ".safetensors" else read_checkpoint(path)
    if any(name.startswith(_OWN) for name in state):
        state = {name.removeprefix(_OWN): tensor for name, tensor in state.items() if name.startswith(_OWN)}
    network = SFCN() if widths is None else SFCN(widths)
    fill(network, {name: t for name, t in state.items() if not name.startswith(UNUSED_HEADS)}, path)
    return network.eval()
