"""What `caft.load` runs, models from files: this project's, the authors' weights of CAFT, and FLAIR's."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from caft.digests import file_digest
from caft.errors import CheckpointError
from caft.model.card import ModelCard
from caft.model.model import Model
from caft.network.caft import CAFT
from caft.params.models import ModelParams
from caft.weights import authors, flair
from caft.weights.checkpoints import plain_names, read_checkpoint, weights_in
from caft.weights.content import require_weights
from caft.weights.files import fill, read_card, read_weights
from caft.weights.fit import say_converted
from caft.weights.hub import local
from caft.weights.misfits import Problem, identify, instead, refusal, shown, without

ModelKind = Literal["caft", "caft_release", "flair_release"]
_WRITES = re.compile(r"(?!requires_grad_|_)\w+[^_]_")  # names of functions that change a tensor in place
_MODELS: tuple[ModelKind, ...] = ("caft", "caft_release", "flair_release")


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
    given, path = str(path), local(path)
    if path.suffix == ".safetensors":
        require_weights(path, safetensors=True)
        if path.exists() and not path.with_suffix(".json").exists():
            _refuse_others(read_weights(path), path)
        card = read_card(path)
        return _own(plain_names(read_weights(path), path), card, path)
    state = read_checkpoint(path)
    kind = require_kind(state, path)
    if kind == "caft":
        return _own(state, read_card(path), path)
    model = (from_flair if kind == "flair_release" else from_release)(state, given, copy=False)
    return replace(model, card=model.card.model_copy(update={"fingerprint": file_digest(path)[:16]}))


def require_kind(state: Mapping[str, Tensor], path: Path) -> ModelKind:
    """What a checkpoint's weights are.

    Raises:
        CheckpointError: None that can be a model; says whose they seem to be.
    """
    kind = identify(state)
    for known in _MODELS:
        if kind == known:
            return known
    if kind is not None:
        raise CheckpointError(f"{path}: {instead(kind)}")
    for prefix in sorted({name[: at.end()] for name in state for at in re.finditer(r"\.", name)}, key=len):
        if identify([name.removeprefix(prefix) for name in state]) in _MODELS:
            raise CheckpointError(f"{path}: {without(prefix)}")
    first = ", ".join(map(shown, list(state)[:3]))
    raise CheckpointError(
        f"{path}: holds neither a release of CAFT nor FLAIR (it begins with {first}); a model of this project is its "
        ".safetensors file, one of open_clip is given as open_clip:<architecture>/<path or tag>"
    )


def _own(state: Mapping[str, Tensor], card: ModelCard, path: Path) -> Model:
    if card.model is None:
        raise CheckpointError(
            f"{path.with_suffix('.json')}: has no sizes (key model); restore the file that came with the weights"
        )
    network = _without_values(card.model, card.chunks)
    fill(network, state, path)
    return Model(network.eval(), card)


def _refuse_others(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuses safetensors without a card that are no model of this project; these lack only the card."""
    kind = identify(plain_names(state, path))
    if kind == "caft_release" or kind == "flair_release":
        raise CheckpointError(
            f"{path}: {instead(kind)}. To save it so:\n"
            f"  weights = safetensors.torch.load_file({str(path)!r})\n"
            f"  torch.save(weights, {path.with_suffix('.pt').name!r})"
        )
    if kind is not None and kind != "caft":
        raise CheckpointError(f"{path}: {instead(kind)}")


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
    state = weights_in(state_dict, source)
    return _published(state, source, config, copy, "caft_release", authors.convert, authors.AUTHORS_READING)


def from_flair(
    state_dict: Mapping[str, Tensor],
    source: str = "FLAIR's state dict",
    config: ModelParams = flair.FLAIR,
    copy: bool = True,
) -> Model:
    """FLAIR, the baseline, with its published weights; a long caption is one text, cut at 77 tokens, as its own scripts.

    Arguments, result and errors are as those of `from_release`, with FLAIR's names and sizes.
    """
    state = weights_in(state_dict, source)
    return _published(state, source, config, copy, "flair_release", flair.convert, flair.FLAIR_READING)


Convert = Callable[[Mapping[str, Tensor], Mapping[str, Tensor], ModelParams], tuple[dict[str, Tensor], list[Problem]]]


def _published(
    state: Mapping[str, Tensor],
    source: str,
    config: ModelParams,
    copy: bool,
    kind: str,
    convert: Convert,
    reading: Mapping[str, Any],
) -> Model:
    """A model of published weights, whose names and layouts `convert` knows."""
    card = ModelCard(model=config, source=source, **reading)
    network = _without_values(config, card.chunks)
    weights, problems = convert(state, network.state_dict(), config)
    if problems:
        raise refusal(source, problems, state, kind)
    say_converted(source, state.values())
    if copy:
        weights = {name: tensor.clone() for name, tensor in weights.items()}
    fill(network, weights, source)
    return Model(network.eval(), card)


def _without_values(config: ModelParams, chunks: int) -> CAFT:
    """A network whose weights have no values yet, which saves drawing a hundred million start values."""
    with _NoValues():
        return CAFT(config, chunks)


class _NoValues(TorchFunctionMode):
    """Tensors to be filled have no values, and what would be written into them is left out.

    As `torch.device("meta")`, which has torch compute the shape of each step by its compiler: a second and 80 MB to load.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if func in (torch.empty, torch.zeros, torch.ones):
            named["device"] = "meta"
        written = args[0] if args else named.get("tensor")
        if isinstance(written, Tensor) and written.is_meta and _WRITES.fullmatch(func.__name__):
            return written
        return func(*args, **named)
