"""The parts of params.yaml: one model for each part of the file and each kind of table entry.

Types and ranges are declared; rules between the values of one entry are its method `problems`.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from caft.errors import ParamsError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unit:
    """What a number counts; error messages name it."""

    name: str


Positive = Annotated[int, Field(gt=0)]
Pixels = Annotated[int, Field(gt=0), Unit("pixels")]
Seconds = Annotated[int, Field(gt=0), Unit("seconds")]
Count = Annotated[int, Field(ge=0)]
PositiveNumber = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
SplitterName = Literal["dreamlip", "spacy"]
Membership = Literal["hard", "soft"]
BoxMode = Literal["masked_pool", "crop", "avg_pool"]


class Section(BaseModel):
    """A part of the file: frozen, strict, no unknown keys."""

    # Tuples are lax one by one below, since YAML has only lists.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class StorageParams(Section):
    """Where files outside DVC lie, how much memory queries hold before they use that disk, and the tracking server."""

    root: str
    memory_gb: Annotated[int, Field(gt=0), Unit("gigabytes")]
    tracking_uri: str | None
    experiment: str


class DataParams(Section):
    """Which of the selected corpora's images are trained on, and how they are read."""

    fraction: Annotated[float, Field(gt=0, le=1)]
    shards_at_once: Positive | None
    damaged: Literal["stop", "replace"]
    exclude_eval_duplicates: bool


class TrainOverrides(Section):
    """Values that replace the selected recipe's; null keeps it."""

    batch: Positive | None = None
    samples: Annotated[int, Field(gt=0), Unit("image-text samples")] | None = None
    learning_rate: PositiveNumber | None = None
    weight_decay: Number | None = None
    warmup_steps: Annotated[int, Field(ge=0), Unit("steps")] | None = None
    clip_norm: PositiveNumber | None = None
    negatives: Literal["sampled", "all"] | None = None
    splitter: SplitterName | None = None
    sub_captions: Positive | None = None
    validate_every: Annotated[int, Field(gt=0), Unit("steps")] | None = None
    checkpoint_every: Annotated[int, Field(gt=0), Unit("steps")] | None = None


class FetchParams(Section):
    """How img2dataset is called."""

    processes: Positive
    threads: Positive
    timeout: Seconds
    retries: Count
    images_per_shard: Positive
    image_size: Pixels
    quality: Annotated[int, Field(ge=1, le=100)]
    minimum_yield: Share
    second_pass: bool


class FetchOverrides(Section):
    """Values of `fetch` that one corpus replaces."""

    processes: Positive | None = None
    threads: Positive | None = None
    timeout: Seconds | None = None
    retries: Count | None = None
    images_per_shard: Positive | None = None
    image_size: Pixels | None = None
    quality: Annotated[int, Field(ge=1, le=100)] | None = None
    minimum_yield: Share | None = None
    second_pass: bool | None = None


class SuperpixelTraining(Section):
    """Label-free training of SFCN, or the file to import instead."""

    checkpoint: str | None
    steps: Positive
    batch: Positive
    learning_rate: PositiveNumber
    position_weight: Number


class EvaluationParams(Section):
    """How scores are formed."""

    blend: Annotated[tuple[Share, ...], Field(strict=False, min_length=1)]
    blend_space: Literal["logit", "cosine"]
    membership: Membership
    box_mode: BoxMode
    rerank: Positive | None
    batch: Positive


class SuperpixelSizes(Section):
    """Cell side in pixels, and SFCN's channels at each level."""

    cell: Pixels
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

    image_size: Pixels
    patch: Pixels | None = None
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
            stride = 1
            for value in self.stem.strides:
                stride *= value
            if len(self.stem.channels) != len(self.stem.strides):
                yield "stem.strides", self.stem.strides, f"needs one for each of {len(self.stem.channels)} channels"
            side, key = self.superpixels.cell, "superpixels of an image"
            formula = "(image_size / superpixels.cell) squared"
            halvings = 2 ** (len(self.superpixels.widths) - 1)
            steps = [("superpixels.cell", side), ("the stem's stride", stride), ("SFCN's total stride", halvings)]
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


class LossParams(Section):
    """Weight of each term, where zero leaves it out, and the form of all."""

    part: Number
    part_cls: Number
    whole: Number
    form: Literal["sigmoid", "softmax"] = "sigmoid"

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each term."""
        return {"part": self.part, "part_cls": self.part_cls, "whole": self.whole}


class CorporaOverrides(Section):
    """Values of a recipe that one selection of corpora replaces; null keeps the recipe's."""

    epoch_images: Positive | None = None
    learning_rate: PositiveNumber | None = None
    eps: PositiveNumber | None = None
    weight_decay: Number | None = None
    clip_norm: PositiveNumber | None = None


class RecipeParams(Section):
    """How a model is trained."""

    batch: Positive
    epochs: Positive | None
    epoch_images: Positive | None
    samples: Annotated[int, Field(gt=0), Unit("image-text samples")] | None
    learning_rate: PositiveNumber
    betas: Annotated[tuple[Share, Share], Field(strict=False)]
    eps: PositiveNumber
    weight_decay: Number
    warmup_steps: Annotated[int, Field(ge=0), Unit("steps")]
    clip_norm: PositiveNumber | None
    precision: Literal["float32", "bf16", "fp16"]
    loss: LossParams
    negatives: Literal["sampled", "all"]
    scale_start: PositiveNumber
    bias_start: float
    part_scale_max: PositiveNumber
    whole_scale_max: PositiveNumber
    splitter: SplitterName
    captions: Literal["caft", "flair"] = "caft"
    sub_captions: Positive
    chunks: Positive
    max_sentences: Positive
    random_rule: Literal["paper", "release"]
    balanced_rule: Literal["paper", "release"]
    crop_scale: Annotated[tuple[Share, Share], Field(strict=False)] | None
    validation_images: Annotated[int, Field(ge=2)]
    validate_every: Annotated[int, Field(gt=0), Unit("steps")]
    checkpoint_every: Annotated[int, Field(gt=0), Unit("steps")]
    # By corpora, joined by "+", in any order. Not dumped: what a run uses is resolved by `for_corpora`.
    per_corpora: dict[str, CorporaOverrides] = Field(default={}, exclude=True)

    def given_for(self, corpora: Sequence[str]) -> tuple[str, dict[str, Any]]:
        """The key of `per_corpora` that names exactly these corpora, empty if none does, and its values."""
        for key, values in self.per_corpora.items():
            if set(key.split("+")) == set(corpora):
                return key, values.model_dump(exclude_none=True)
        return "", {}

    def for_corpora(self, corpora: Sequence[str]) -> "RecipeParams":
        """The recipe as it is on these corpora."""
        return self.model_copy(update={**self.given_for(corpora)[1], "per_corpora": {}})

    def problems(self) -> Iterator[tuple[str, Any, str]]:
        """Rules between the values: key, value and what is wrong."""
        if (self.epochs is None) == (self.samples is None):
            yield "samples", self.samples, f"give exactly one of epochs (found {self.epochs}) and samples"
        if self.chunks > self.sub_captions:
            yield "chunks", self.chunks, f"must be at most sub_captions ({self.sub_captions})"
        if self.crop_scale is not None and self.crop_scale[0] > self.crop_scale[1]:
            yield "crop_scale", self.crop_scale, "must rise, as [0.9, 1.0]"
        if not any(self.loss.weights.values()):
            yield "loss", "all weights 0", "at least one term needs a weight"
        if self.loss.form == "softmax" and self.bias_start:
            yield "bias_start", self.bias_start, "must be 0 where loss.form is softmax, which no bias changes"
        if self.captions == "flair" and self.chunks > 1:
            yield "chunks", self.chunks, "must be 1 where captions is flair: its texts are not chunks of one caption"

    def steps(self, images: int) -> int:
        """Steps of the optimizer on a corpus of `images` images; the last partial batch is left out.

        Raises:
            ParamsError: The budget holds no batch.
        """
        samples = self.samples if self.samples is not None else (self.epochs or 0) * (self.epoch_images or images)
        steps = samples // self.batch
        if not steps:
            raise ParamsError(
                f"train.batch = {self.batch}: the budget of {samples} samples holds no batch; "
                f"largest batch is {samples}"
            )
        if self.samples is None:
            self.warn_of_long_warmup(steps)
        return steps

    def warn_of_long_warmup(self, steps: int) -> None:
        """Logs a warning if the warm-up takes more than a third of `steps`."""
        if self.warmup_steps > steps / 3:
            logger.warning(
                "train.warmup_steps = %d: more than a third of the %d steps that batches of %d leave; "
                "lower it, or raise train.samples",
                self.warmup_steps,
                steps,
                self.batch,
            )


class Faults(Section):
    """How many rows of the rendered corpus go wrong on purpose, by kind."""

    missing: Count
    server_error: Count
    stalled: Count
    corrupt: Count
    opt_out: Count
    duplicate: Count


class RecaptionCorpus(Section):
    """A corpus that is a CSV in DreamLIP's columns; its images come from their URLs, or out of `packed` tars."""

    kind: Literal["recaption"]
    csv: str
    packed: str | None = None
    paper_images: Positive
    licence: str
    fetch: FetchOverrides = FetchOverrides()


class CustomCorpus(Section):
    """A table of the user's own, CSV or Parquet: address or file of each image, and its captions."""

    kind: Literal["custom"]
    table: str
    packed: str | None = None
    images: Positive
    licence: str = "not stated"
    fetch: FetchOverrides = FetchOverrides()

    @property
    def paper_images(self) -> int:
        """How many images to expect, by the name that published corpora have for it."""
        return self.images


class ScenesCorpus(Section):
    """The corpus that is rendered here."""

    kind: Literal["scenes"]
    images: Annotated[int, Field(ge=8)]
    image_size: Pixels
    evaluation_images: Annotated[int, Field(ge=4, multiple_of=4)]
    regions: Positive
    seed: Count
    evaluation_seed: Count
    port: Annotated[int, Field(ge=1024, le=65535)]
    faults: Faults
    licence: str
    fetch: FetchOverrides = FetchOverrides()


CorpusParams = Annotated[RecaptionCorpus | CustomCorpus | ScenesCorpus, Field(discriminator="kind")]


class SlurmParams(Section):
    """What a job asks of Slurm beyond its shape; null leaves it to the cluster."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    memory_gb: Annotated[int, Field(gt=0), Unit("gigabytes")] | None = None
    sbatch: Annotated[tuple[str, ...], Field(strict=False)] = ()
    notice_seconds: Seconds
    time_limits: Count
    deadline_hours: Annotated[int, Field(gt=0), Unit("hours")]


class LauncherParams(Section):
    """Where training runs."""

    executor: Literal["local", "slurm"]
    nodes: Positive
    tasks_per_node: Positive
    gpus_per_node: Count
    cpus_per_task: Positive
    workers: Count
    text_tokens_at_once: Positive | None
    micro_batch: Positive | None = None
    time_minutes: Annotated[int, Field(gt=0), Unit("minutes")]
    gpu_memory_gb: Annotated[int, Field(gt=0), Unit("gigabytes")] | None = None
    images_per_s: PositiveNumber | None = None
    slurm: SlurmParams | None = None

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.nodes * self.tasks_per_node

    def problems(self) -> Iterator[tuple[str, Any, str]]:
        """Rules between the values: key, value and what is wrong."""
        if self.executor == "local" and self.nodes > 1:
            yield "nodes", self.nodes, "must be 1 where executor is local"
        if self.gpus_per_node not in (0, self.tasks_per_node):
            yield "gpus_per_node", self.gpus_per_node, f"must be 0 or one a task ({self.tasks_per_node})"
        if self.slurm is None:
            if self.executor == "slurm":
                yield "slurm", None, "must be given where executor is slurm"
            return
        if self.executor == "local":
            yield "slurm", "given", "only where executor is slurm"
        if self.slurm.notice_seconds >= self.time_minutes * 60:
            limit = f"time_minutes ({self.time_minutes * 60} seconds)"
            yield "slurm.notice_seconds", self.slurm.notice_seconds, f"must be below {limit}"
        for line in self.slurm.sbatch:
            if not re.fullmatch(r"--[a-z][a-z-]*(=.+)?", line):
                yield "slurm.sbatch", line, "must be an option of sbatch, as --exclusive or --reservation=NAME"
