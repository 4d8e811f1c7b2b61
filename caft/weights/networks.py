"""Networks with the weights of files, and their cards: this project's, the authors' CAFT, and FLAIR."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from caft.digests import file_digest
from caft.errors import CheckpointError
from caft.model.card import ModelCard
from caft.network.caft import CAFT
from caft.params.models import ModelParams
from caft.weights import authors, flair
from caft.weights.checkpoints import plain_names, read_checkpoint, weights_in
from caft.weights.content import require_weights
from caft.weights.files import fill, read_card, read_weights
from caft.weights.fit import say_converted
from caft.weights.misfits import Problem, identify, instead, refusal, shown, without

ModelKind = Literal["caft", "caft_release", "flair_release"]
_WRITES = re.compile(r"(?!requires_grad_|_)\w+[^_]_")  # names of functions that change a tensor in place
_MODELS: tuple[ModelKind, ...] = ("caft", "caft_release", "flair_release")


def read(path: Path, source: str | None = None) -> tuple[CAFT, ModelCard]:
    """The network in a file, on the CPU and in evaluation mode, with its card; errors are `caft.load`'s.

    `source` is what published weights are called, if not by their path. Of a torch checkpoint the weights alone take memory,
    once; what lies beside them is never read.
    """
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
    network, card = (flair_network if kind == "flair_release" else release_network)(
        state, source or str(path), copy=False
    )
    return network, card.model_copy(update={"fingerprint": file_digest(path)[:16]})


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


def _own(state: Mapping[str, Tensor], card: ModelCard, path: Path) -> tuple[CAFT, ModelCard]:
    if card.model is None:
        raise CheckpointError(
            f"{path.with_suffix('.json')}: has no sizes (key model); restore the file that came with the weights"
        )
    network = without_values(card.model, card.chunks)
    fill(network, state, path)
    return network.eval(), card


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


def release_network(
    state_dict: Mapping[str, Tensor], source: str, config: ModelParams = authors.AUTHORS_MODEL, copy: bool = True
) -> tuple[CAFT, ModelCard]:
    """CAFT with the authors' weights, by their names; with `copy` the network shares no memory with them."""
    state = weights_in(state_dict, source)
    return _published(state, source, config, "caft_release", authors.convert, authors.AUTHORS_READING, copy)


def flair_network(
    state_dict: Mapping[str, Tensor], source: str, config: ModelParams = flair.FLAIR, copy: bool = True
) -> tuple[CAFT, ModelCard]:
    """FLAIR with its published weights; arguments as of `release_network`."""
    state = weights_in(state_dict, source)
    return _published(state, source, config, "flair_release", flair.convert, flair.FLAIR_READING, copy)


Convert = Callable[[Mapping[str, Tensor], Mapping[str, Tensor], ModelParams], tuple[dict[str, Tensor], list[Problem]]]


def _published(
    state: Mapping[str, Tensor],
    source: str,
    config: ModelParams,
    kind: str,
    convert: Convert,
    reading: Mapping[str, Any],
    copy: bool,
) -> tuple[CAFT, ModelCard]:
    """A network of published weights, whose names and layouts `convert` knows."""
    card = ModelCard(model=config, source=source, **reading)
    network = without_values(config, card.chunks)
    weights, problems = convert(state, network.state_dict(), config)
    if problems:
        raise refusal(source, problems, state, kind)
    say_converted(source, state.values())
    if copy:
        weights = {name: tensor.clone() for name, tensor in weights.items()}
    fill(network, weights, source)
    return network.eval(), card


def without_values(config: ModelParams, chunks: int) -> CAFT:
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
