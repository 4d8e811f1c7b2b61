"""The parts of a network by name: what can be frozen, started from given weights, and how deep it lies in its tower."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from caft.params.models import ModelParams

_BLOCK = re.compile(r"(vision|sub_caption|whole_caption)\.(?:stages\.(\d+)|blocks)\.(\d+)\.")
_POOL = re.compile(r"vision\.pools\.(\d+)\.")


@dataclass(frozen=True)
class Part:
    """Some of a network's weights.

    Attributes:
        name: As settings and tables name it; `vision` and `text.sub_caption` stand for all whose names begin so.
        prefixes: How its tensors begin in the network's state.
    """

    name: str
    prefixes: tuple[str, ...]

    def holds(self, tensor: str) -> bool:
        """Whether a tensor of the state, by its name, is one of this part."""
        return tensor.startswith(self.prefixes)


def parts(sizes: ModelParams) -> list[Part]:
    """All parts of a network of these sizes, from pixels to features, then from tokens to features, then what is between.

    A flat tower is one stage. Each tensor of the state is of exactly one part.
    """
    found = [Part("superpixels", ("superpixels.",))] if sizes.superpixels is not None else []
    stem = ("stem.", "cls") if sizes.patch is None else ("patches.", "cls", "positions", "norm.")
    found.append(Part("vision.stem", tuple(f"vision.{name}" for name in stem)))
    for stage in range(len(sizes.blocks)):
        if stage:
            found.append(Part(f"vision.pools.{stage}", (f"vision.pools.{stage - 1}.",)))
        place = f"vision.stages.{stage}." if sizes.patch is None else "vision.blocks."
        found.append(Part(f"vision.stages.{stage + 1}", (place,)))
    has_part, has_whole = sizes.grounding is not None, sizes.levels == "separate"
    levels = [level for level, there in (("part", has_part), ("whole", has_whole)) if there]
    found += [Part(f"vision.projections.{level}", (f"{level}_norm.", f"{level}_projection.")) for level in levels]
    found.append(Part("text.sub_caption.embedding", ("sub_caption.embedding.", "sub_caption.positions")))
    found.append(Part("text.sub_caption.blocks", ("sub_caption.blocks.", "sub_caption.norm.")))
    if not sizes.is_flat_text:
        found.append(Part("text.whole_caption", ("whole_caption.",)))
    if has_part:
        found.append(Part("text.projections.part", ("sub_caption_projection.",)))
    if not (sizes.is_flat_text and has_part):
        found.append(Part("text.projections.whole", ("whole_caption_projection.",)))
    if has_part:
        found.append(Part("pool", ("pool.",)))
    return found + [Part(f"temperatures.{level}", (f"{level}_log_scale", f"{level}_bias")) for level in levels]


def named(given: str, sizes: ModelParams) -> Iterator[Part]:
    """The parts that a name stands for; none if there is none such."""
    return (part for part in parts(sizes) if part.name == given or part.name.startswith(f"{given}."))


def part_of(tensor: str, sizes: ModelParams) -> Part:
    """The part of a tensor of the state, by its name."""
    return next(part for part in parts(sizes) if part.holds(tensor))


def height(tensor: str, sizes: ModelParams) -> int:
    """Layers from the top of its tower down to a tensor's: of a learning rate that decays, the exponent of BEiT and MAE.

    The last block is 1, the first is the number of blocks L, what makes tokens L + 1; norms and projections behind the
    blocks, the pooling by texts and the temperatures are 0. Blocks are counted through all stages, and through both text
    transformers. What stands between two of them, as a pooling or the adapter, counts as the block that follows it, and
    the norm after the sub-captions' blocks as the last of these.
    """
    whole = sizes.text.whole_layers or 0
    above = {"vision": sum(sizes.blocks), "sub_caption": sizes.text.sub_layers + whole, "whole_caption": whole}
    if block := _BLOCK.match(tensor):
        tower, stage, number = block.groups()
        return above[tower] - sum(sizes.blocks[: int(stage or 0)]) - int(number)
    if pool := _POOL.match(tensor):
        return above["vision"] - sum(sizes.blocks[: int(pool[1]) + 1])
    tower = tensor.partition(".")[0]
    if tower == "sub_caption" and tensor.startswith("sub_caption.norm."):
        return whole + 1 if whole else 0
    if tower == "whole_caption":
        return 0 if tensor.startswith("whole_caption.norm.") else whole
    return above[tower] + 1 if tower in above else 0
