"""What `caft.load` runs, models from files: this project's, the authors' weights of CAFT, and FLAIR's."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from caft.digests import file_digest
from caft.model.card import ModelCard
from caft.model.model import Model
from caft.network.caft import CAFT
from caft.params.models import ModelParams
from caft.weights import authors, flair
from caft.weights.files import fill, misfit, read_card, read_checkpoint, read_weights


def load(path: str | Path) -> Model:
    """Loads a model on the CPU and in evaluation mode: one that `save_model` wrote, or a published file.

    Args:
        path: A `.safetensors` file with its card, the same name with `.json`, beside it; with any other ending, the
            authors' checkpoint (see `from_release`) or FLAIR's (see `from_flair`).

    Raises:
        CheckpointError: A file is missing or damaged, or the weights do not fit.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        card = read_card(path)
        network = _without_values(card.sizes, card.chunks)
        fill(network, read_weights(path), path)
        return Model(network.eval(), card)
    state = read_checkpoint(path)
    model = (from_flair if flair.is_flair(state) else from_release)(state, str(path))
    return replace(model, card=model.card.model_copy(update={"fingerprint": file_digest(path)[:16]}))


def from_release(
    state_dict: Mapping[str, Tensor],
    source: str = "the authors' state dict",
    config: ModelParams = authors.AUTHORS_MODEL,
) -> Model:
    """CAFT with the weights that the paper's authors released.

    Position encodings and the class token's zero position are fixed: they must have their value, and are dropped. So
    are SFCN's three unused heads. The card says how the authors' code reads captions. One thing is not taken over: their
    code un-normalises SFCN's input with other statistics than it was normalised with; here SFCN sees the picture.

    Args:
        state_dict: Tensors by the authors' names; a prefix `module.` is dropped.
        source: What error messages call it.
        config: Sizes; by default the authors' model's.

    Returns:
        The model in evaluation mode; it shares no memory with `state_dict`.

    Raises:
        CheckpointError: Lists each name that is missing, unexpected, of another shape, or fixed but with another value.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}
    return _published(state, source, config, authors.convert, authors.AUTHORS_READING)


def from_flair(
    state_dict: Mapping[str, Tensor], source: str = "FLAIR's state dict", config: ModelParams = flair.FLAIR
) -> Model:
    """FLAIR, the baseline, with its published weights; a long caption is one text, cut at 77 tokens, as its own scripts.

    Arguments, result and errors are as those of `from_release`, with FLAIR's names and sizes.
    """
    return _published(state_dict, source, config, flair.convert, flair.FLAIR_READING)


Convert = Callable[[Mapping[str, Tensor], Mapping[str, Tensor], ModelParams], tuple[dict[str, Tensor], list[str]]]


def _published(
    state: Mapping[str, Tensor], source: str, config: ModelParams, convert: Convert, reading: Mapping[str, Any]
) -> Model:
    """A model of published weights, whose names and layouts `convert` knows."""
    card = ModelCard(model=config, source=source, **reading)
    network = _without_values(config, card.chunks)
    weights, problems = convert(state, network.state_dict(), config)
    if problems:
        raise misfit(source, problems)
    fill(network, weights, source)
    return Model(network.eval(), card)


def _without_values(config: ModelParams, chunks: int) -> CAFT:
    """A network whose weights have no values yet, which saves drawing a hundred million start values."""
    with torch.device("meta"):
        return CAFT(config, chunks)
