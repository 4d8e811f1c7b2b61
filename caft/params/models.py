"""The entries of the table `models`: sizes and structure of both towers; and how SFCN is trained."""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from caft.params.section import Number, Positive, PositiveNumber, Section, Share


class SuperpixelSizes(Section):
    """Cell side in pixels, and SFCN's channels at each level."""

    cell: Positive
    widths: Annotated[tuple[Positive, ...], Field(strict=False, min_length=2)]


class StemSizes(Section):
    """3 x 3 convolutions of the stem."""

    channels: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]
    strides: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]


class TextSizes(Section):
    """The two text transformers; a flat text encoder is the first alone."""

    width: Positive
    heads: Positive
    sub_layers: Positive
    whole_layers: Positive | None = None
    context: Annotated[int, Field(ge=3)]
    vocabulary: Positive
    adapter: Positive | None = None


class GroundingParams(Section):
    """The text-conditioned pooling."""

    heads: Positive
    start: Literal["default", "identity"]


class ModelParams(Section):
    """Sizes and structure of a model; what is null is not there.

    The image tower is a hierarchy over superpixels, or with `patch` a flat ViT, a single stage of patches. The text
    tower is a hierarchy, or without whole-caption layers flat. `grounding` is the part level.
    """

    image_size: Positive
    patch: Positive | None = None
    superpixels: SuperpixelSizes | None = None
    stem: StemSizes | None = None
    width: Positive
    heads: Positive
    mlp_ratio: Positive
    tokens: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]
    blocks: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]
    part_stage: Positive
    levels: Literal["separate", "shared"] = "separate"
    pool_dropout: Share | None = None
    embed_dim: Positive
    text: TextSizes
    grounding: GroundingParams | None

    @property
    def is_flat_text(self) -> bool:
        """Whether a long caption is one text rather than sub-captions."""
        return self.text.whole_layers is None

    def problems(self) -> Iterator[tuple[str, Any, str]]:
        """Rules between the sizes: key, value and what is wrong."""
        yield from self._image_problems()
        if any(a <= b for a, b in zip(self.tokens, self.tokens[1:], strict=False)):
            yield "tokens", self.tokens, "must fall from stage to stage"
        if len(self.blocks) != len(self.tokens):
            yield "blocks", self.blocks, f"needs one for each of the {len(self.tokens)} stages"
        if self.part_stage > len(self.tokens):
            yield "part_stage", self.part_stage, f"must be between 1 and the {len(self.tokens)} stages"
        heads = [("heads", self.width, self.heads), ("text.heads", self.text.width, self.text.heads)]
        if self.grounding is not None:
            heads.append(("grounding.heads", self.embed_dim, self.grounding.heads))
        for key, width, count in heads:
            if width % count:
                yield key, count, f"must divide the width {width}"
        if (self.text.whole_layers is None) != (self.text.adapter is None):
            yield (
                "text.whole_layers",
                self.text.whole_layers,
                f"give it with text.adapter (found {self.text.adapter}), or neither for a flat text encoder",
            )
        yield from self._level_problems()

    def _image_problems(self) -> Iterator[tuple[str, Any, str]]:
        """Rules of the image tower: a hierarchy, or with `patch` a flat one."""
        hierarchy = {"superpixels": self.superpixels, "stem": self.stem, "pool_dropout": self.pool_dropout}
        if self.patch is not None:
            for key, value in hierarchy.items():
                if value is not None:
                    yield key, "given", "must be null where patch is given, which makes the image tower flat"
            if len(self.tokens) > 1:
                yield "tokens", self.tokens, "must be one number where patch is given, that of the patches"
            steps, side, key = [("patch", self.patch)], self.patch, "patches of an image"
            formula = "(image_size / patch) squared"
        else:
            for key, value in hierarchy.items():
                if value is None:
                    yield key, value, "must be given; or give patch, which makes the image tower flat"
            if self.superpixels is None or self.stem is None:
                return
            if len(self.stem.channels) != len(self.stem.strides):
                yield "stem.strides", self.stem.strides, f"needs one for each of {len(self.stem.channels)} channels"
            side, key = self.superpixels.cell, "superpixels of an image"
            formula = "(image_size / superpixels.cell) squared"
            halvings = 2 ** (len(self.superpixels.widths) - 1)
            steps = [
                ("superpixels.cell", side),
                ("the stem's stride", math.prod(self.stem.strides)),
                ("SFCN's total stride", halvings),
            ]
            if self.width % 4:
                yield "width", self.width, "must be a multiple of 4, for the position encodings"
        for name, step in steps:
            if self.image_size % step:
                lower = self.image_size // step * step
                nearest = f"nearest are {lower} and {lower + step}" if lower else f"nearest is {step}"
                yield "image_size", self.image_size, f"must be a multiple of {name} ({step}); {nearest}"
        if (self.image_size // side) ** 2 != self.tokens[0]:
            yield "tokens", self.tokens, f"must start with the {key}, {(self.image_size // side) ** 2} = {formula}"

    def _level_problems(self) -> Iterator[tuple[str, Any, str]]:
        """Rules of the part level and the whole level."""
        if self.levels == "shared":
            if self.grounding is None:
                yield "levels", self.levels, "must be separate where grounding is null: there is one level only"
            if self.part_stage != len(self.tokens):
                yield (
                    "levels",
                    self.levels,
                    f"needs part_stage {len(self.tokens)}, the last (found {self.part_stage}): "
                    "segments and class token of one depth share norm, projection and temperature",
                )
        elif self.grounding is not None and self.is_flat_text:
            yield "levels", self.levels, "must be shared where text.whole_layers is null: a text has one feature"


class SuperpixelTraining(Section):
    """Label-free training of SFCN, or the file to import instead."""

    checkpoint: str | None
    steps: Positive
    batch: Positive
    learning_rate: PositiveNumber
    position_weight: Number
