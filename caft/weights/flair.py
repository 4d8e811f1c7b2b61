"""The names in FLAIR's published weights, and ours: the baseline that the paper starts from, as our flat model.

FLAIR's class is part of the authors' code of CAFT, which subclasses it; the names are read from there.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from caft.params.models import ModelParams
from caft.weights.authors import AUTHORS_MODEL, Entry, flair_parts, leaves, take, text_blocks
from caft.weights.misfits import Problem

# ViT-B/16 and CLIP's text tower; pipelines/ablation/flair.yaml over models.base gives the same.
FLAIR = ModelParams.model_validate(
    {
        **AUTHORS_MODEL.model_dump(mode="json"),
        "patch": 16,
        "superpixels": None,
        "stem": None,
        "pool_dropout": None,
        "tokens": [196],
        "blocks": [12],
        "part_stage": 1,
        "levels": "shared",
        "text": {**AUTHORS_MODEL.text.model_dump(mode="json"), "sub_layers": 12, "whole_layers": None, "adapter": None},
    }
)
# A long caption is one text.
FLAIR_READING: dict[str, Any] = {"chunks": 1, "splitter": "dreamlip", "balanced_rule": "paper"}


def entries(model: ModelParams) -> Iterator[Entry]:
    """Every tensor of a file of FLAIR of these sizes."""
    yield Entry("visual.conv1.weight", ("vision.patches.weight",))
    yield Entry("visual.class_embedding", ("vision.cls",))
    yield Entry("visual.positional_embedding", ("vision.positions",))
    yield from leaves("visual.ln_pre", "vision.norm")
    yield from text_blocks("visual.transformer", "vision", model.blocks[0])
    yield from leaves("visual.ln_post", "part_norm")
    yield from flair_parts(model)
    yield Entry("image_post.proj", ("part_projection.weight",), "transposed")
    yield Entry("text_post.proj", ("sub_caption_projection.weight",), "transposed")
    yield Entry("logit_scale", ("part_log_scale",))
    yield Entry("logit_bias", ("part_bias",))


def convert(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], model: ModelParams
) -> tuple[dict[str, Tensor], list[Problem]]:
    """FLAIR's weights under our names, in our layouts; arguments and results as `caft.weights.authors.convert`."""
    left = dict(state)
    result, problems = take(left, own, entries(model))
    return result, problems + [Problem("unexpected", name) for name in left]
