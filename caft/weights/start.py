"""Given weights as the start of a training: which parts of the selected model they fill, and why they cannot if not.

A part (`caft.params.parts`) is taken whole or not at all. One that the file lacks starts anew, one that the model lacks is
left out; one that both have with other sizes is refused, since a part of it would be no start.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from caft.errors import CheckpointError
from caft.network.caft import CAFT
from caft.params import Params, flat
from caft.params.models import ModelParams
from caft.params.parts import part_of, parts
from caft.weights import networks, open_clip
from caft.weights.checkpoints import plain_names, read_checkpoint
from caft.weights.files import read_weights
from caft.weights.fit import say_converted
from caft.weights.flair import FLAIR
from caft.weights.hub import of_setting
from caft.weights.misfits import identify, refusal

logger = logging.getLogger(__name__)
_SHOWN = 4
# Sizes that no tensor's shape tells, and without which the numbers mean something else.
_HIDDEN = ("heads", "text.heads", "grounding.heads", "superpixels.cell")
_FLAIR_ROW = "models.base under pipelines/ablation/flair.yaml"


@dataclass(frozen=True)
class Start:
    """What a training starts from.

    Attributes:
        weights: By the selected model's names; what is not there starts anew.
        rows: Each part, how many tensors it has, and what becomes of it.
    """

    weights: dict[str, Tensor]
    rows: list[tuple[str, int, str]]

    @property
    def table(self) -> list[str]:
        """The parts, a line each."""
        width = max(len(name) for name, _, _ in self.rows)
        return [f"{name:<{width}}  {count:>3} tensors  {what}" for name, count, what in self.rows]

    @property
    def summary(self) -> str:
        """The parts on one line, by what becomes of them."""
        kinds = dict.fromkeys(what for _, _, what in self.rows)
        return "; ".join(f"{kind}: {', '.join(n for n, _, what in self.rows if what == kind)}" for kind in kinds)


def path_of(params: Params) -> Path | None:
    """The file that `init` names, from a hub if it is a name there; None where training starts from random weights.

    Raises:
        CheckpointError: It cannot be fetched.
    """
    return of_setting(params.init) if params.init is not None else None


def start(params: Params, path: Path) -> Start:
    """What the selected model takes of a file.

    Args:
        params: The settings.
        path: A file of this project with its card, of the authors, of FLAIR, or of open_clip with a ViT and CLIP's text
            tower.

    Raises:
        CheckpointError: The file cannot be read; or parts have other sizes, or nothing fits, which names a model that would.
    """
    given, sizes = _read(path)
    model = params.selected_model
    taken, rows, problems = _matched(given, sizes, model, params.selected_recipe.chunks)
    if problems:
        more = [f"  ... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        lines = [
            f"init = {params.init}: does not fit models.{params.model}:",
            *(f"  {problem}" for problem in problems[:_SHOWN]),
            *more,
            f"  {_nearest(params, given, sizes)}",
        ]
        raise CheckpointError("\n".join(lines))
    return Start(taken, rows)


def _read(path: Path) -> tuple[dict[str, Tensor], ModelParams]:
    """Weights by our names, which may be a part of a network's, and the sizes of the network that they are of."""
    is_safe = path.suffix == ".safetensors"
    if path.is_file() and not (is_safe and path.with_suffix(".json").exists()):
        state = plain_names(read_weights(path), path) if is_safe else read_checkpoint(path)
        if identify(state) == "open_clip":
            with torch.device("meta"):
                own = CAFT(FLAIR, 1).state_dict()
            weights, problems = open_clip.convert(state, own, FLAIR)
            if problems:
                raise refusal(f"{path}, read as open_clip's ViT-B-16", problems, state, "open_clip")
            say_converted(path, state.values())
            logger.info("%s: of open_clip; the towers' GELU is the exact one, so not that of OpenAI's weights", path)
            return weights, FLAIR
    network, card = networks.read(path)
    return dict(network.state_dict()), card.sizes


def _matched(
    given: Mapping[str, Tensor], sizes: ModelParams, model: ModelParams, chunks: int
) -> tuple[dict[str, Tensor], list[tuple[str, int, str]], list[str]]:
    """Weights that a model takes, what becomes of each part, and what stands in the way."""
    with torch.device("meta"):
        own = {name: tuple(tensor.shape) for name, tensor in CAFT(model, chunks).state_dict().items()}
    rows: list[tuple[str, int, str]] = []
    taken: dict[str, Tensor] = {}
    problems = list(_hidden(sizes, model))
    for part in parts(model):
        mine = {name: shape for name, shape in own.items() if part.holds(name)}
        theirs = {name: tensor for name, tensor in given.items() if part_of(name, sizes).name == part.name}
        if not theirs:
            rows.append((part.name, len(mine), "anew, as the file has none"))
        elif problem := _misfit(mine, {name: tuple(tensor.shape) for name, tensor in theirs.items()}):
            problems.append(f"{part.name}: {problem}")
        else:
            taken |= theirs
            rows.append((part.name, len(mine), "taken"))
    ours = {part.name for part in parts(model)}
    for part in parts(sizes):
        if part.name not in ours and (count := sum(map(part.holds, given))):
            rows.append((part.name, count, "left out, as the model has none"))
    towers = {name.split(".")[0] for name in taken} & {"vision", "sub_caption"}
    if not problems and len(towers) < 2:
        lacking = "neither tower" if not towers else "one tower alone"
        problems.append(f"{lacking} would start from it; the rest would be random")
    return taken, rows, problems


def _misfit(mine: Mapping[str, tuple[int, ...]], theirs: Mapping[str, tuple[int, ...]]) -> str | None:
    """Why a part that both have cannot be taken, if so."""
    for name in mine:
        if name in theirs and theirs[name] != mine[name]:
            if name == "whole_caption.positions":
                return (
                    f"made for {theirs[name][0] - 1} chunks of a caption, the recipe's chunks are {mine[name][0] - 1}"
                )
            return f"{name} is {theirs[name]} in the file, {mine[name]} in the model"
    lacking, beyond = [n for n in mine if n not in theirs], [n for n in theirs if n not in mine]
    if lacking or beyond:
        return f"{len(lacking)} tensors are not in the file, {len(beyond)} not in the model, as {(lacking + beyond)[0]}"
    return None


def _hidden(sizes: ModelParams, model: ModelParams) -> Iterator[str]:
    theirs, ours = dict(flat(sizes.model_dump())), dict(flat(model.model_dump()))
    for key in _HIDDEN:
        if theirs.get(key) is not None and ours.get(key) is not None and theirs[key] != ours[key]:
            yield f"{key}: {theirs[key]} in the file's model, {ours[key]} here"


def _nearest(params: Params, given: Mapping[str, Tensor], sizes: ModelParams) -> str:
    """Which model the file fits."""
    chunks = [params.selected_recipe.chunks]
    if "whole_caption.positions" in given:
        chunks.append(len(given["whole_caption.positions"]) - 1)
    elif sizes.is_flat_text:
        chunks.append(1)
    for count in chunks:
        for name, model in params.models.items():
            if model.is_flat_text == sizes.is_flat_text and not _matched(given, sizes, model, count)[2]:
                also = f" and recipes.{params.recipe}.chunks: {count}" if count != chunks[0] else ""
                return f"it fits model: {name}{also}"
    if not _matched(given, sizes, FLAIR, 1)[2]:
        return f"it fits {_FLAIR_ROW}: give that file as an overlay, with model: base"
    return "no entry of models fits; add one with the sizes in the file's card"
