"""The entries of the table `recipes`: how a model is trained, and what may replace single values."""

import logging
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from caft.errors import ParamsError
from caft.params.section import Count, InnerShare, Number, Positive, PositiveNumber, Section, Share, overrides

logger = logging.getLogger(__name__)


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


class RecipeParams(Section):
    """How a model is trained; `validate_every`, `checkpoint_every` and `warmup_steps` are steps of the optimizer."""

    batch: Positive
    epochs: Positive | None
    epoch_images: Positive | None
    samples: Positive | None
    learning_rate: PositiveNumber
    betas: Annotated[tuple[Share, Share], Field(strict=False)]
    eps: PositiveNumber
    weight_decay: Number
    warmup_steps: Count
    schedule: Literal["cosine", "constant"] = "cosine"
    cooldown: Share = 0.0
    freeze: Annotated[tuple[str, ...], Field(strict=False)] = ()
    layer_decay: InnerShare | None = None
    clip_norm: PositiveNumber | None
    weights_ema: InnerShare | None = None
    precision: Literal["float32", "bf16", "fp16"]
    loss: LossParams
    negatives: Literal["sampled", "all"]
    scale_start: PositiveNumber
    bias_start: float
    part_scale_max: PositiveNumber
    whole_scale_max: PositiveNumber
    splitter: Literal["dreamlip", "spacy"]
    captions: Literal["caft", "flair"] = "caft"
    sub_captions: Positive
    chunks: Positive
    max_sentences: Positive
    random_rule: Literal["paper", "release"]
    balanced_rule: Literal["paper", "release"]
    crop_scale: Annotated[tuple[Share, Share], Field(strict=False)] | None
    validation_images: Annotated[int, Field(ge=2)]
    validate_every: Positive
    checkpoint_every: Positive
    # By corpora, joined by "+", in any order. Not dumped: what a run uses is resolved by `for_corpora`.
    per_corpora: Annotated[
        dict[str, "CorporaOverrides"], BeforeValidator(lambda given: {} if given is None else given)
    ] = Field(default={}, exclude=True)

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


_PER_CORPORA = ("epoch_images", "learning_rate", "eps", "weight_decay", "clip_norm")
_IN_TRAIN = (
    *("batch", "samples", "learning_rate", "weight_decay", "warmup_steps", "clip_norm", "weights_ema"),
    *("schedule", "cooldown", "freeze", "layer_decay"),
    *("negatives", "splitter", "sub_captions", "validate_every", "checkpoint_every"),
)


class CorporaOverrides(overrides(RecipeParams, *_PER_CORPORA)):  # type: ignore[misc]  # made from the fields above
    """Values of a recipe that one selection of corpora replaces; null keeps the recipe's."""


class TrainOverrides(overrides(RecipeParams, *_IN_TRAIN)):  # type: ignore[misc]  # made from the fields above
    """Values that replace the selected recipe's; null keeps it."""


RecipeParams.model_rebuild()
