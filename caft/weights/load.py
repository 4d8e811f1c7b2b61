"""What `caft.load` runs, models from files: this project's, the authors' weights of CAFT, and FLAIR's."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from caft.model.model import Model
from caft.params.models import ModelParams
from caft.weights import authors, flair, networks
from caft.weights.hub import local


def load(path: str | Path) -> Model:
    """Loads a model on the CPU and in evaluation mode: one that `save_model` wrote, or a published file.

    Args:
        path: A `.safetensors` file with its card, the same name with `.json`, beside it; with any other ending torch's
            checkpoint: the authors' (see `from_release`), FLAIR's (see `from_flair`), or the state dict of one of this
            project's networks, which also needs its card. How weights are found in it: `caft.weights.checkpoints`. Or a
            name on a model hub, `hf:OWNER/NAME` or `hf:OWNER/NAME/FILE` (see `caft.weights.hub`).

    Raises:
        CheckpointError: A file is missing or damaged, or the weights do not fit or are not finite.
    """
    return Model(*networks.read(local(path), str(path)))


def from_release(
    state_dict: Mapping[str, Tensor],
    source: str = "the authors' state dict",
    config: ModelParams = authors.AUTHORS_MODEL,
    copy: bool = True,
) -> Model:
    """CAFT with the weights that the paper's authors released.

    Position encodings and the class token's zero position are fixed: they must have their value, and are dropped. So
    are SFCN's three unused heads. The card says how the authors' code reads captions. One thing is not taken over: their
    code un-normalises SFCN's input with other statistics than it was normalised with; here SFCN sees the picture.

    Args:
        state_dict: Tensors by the authors' names; wrappers around it and prefixes of names are dropped, as `load` does.
        source: What error messages call it.
        config: Sizes; by default the authors' model's.
        copy: Whether the model has memory of its own; else it keeps tensors of `state_dict`, which saves their size.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: Names what is missing, unexpected, of another shape or type, not finite, or fixed but with another
            value.
    """
    return Model(*networks.release_network(state_dict, source, config, copy))


def from_flair(
    state_dict: Mapping[str, Tensor],
    source: str = "FLAIR's state dict",
    config: ModelParams = flair.FLAIR,
    copy: bool = True,
) -> Model:
    """FLAIR, the baseline, with its published weights; a long caption is one text, cut at 77 tokens, as its own scripts.

    Arguments, result and errors are as those of `from_release`, with FLAIR's names and sizes.
    """
    return Model(*networks.flair_network(state_dict, source, config, copy))
