"""The names in open_clip's CLIP with a ViT, and ours: a start for the flat towers, which have FLAIR's layout.

Only what both have: towers, last norm and projections. CLIP pools by its class token, so the text-conditioned pooling is not
there; its temperature is a softmax's and has no bias, so it is not taken.
"""

from collections.abc import Iterator, Mapping

from torch import Tensor

from caft.params.models import ModelParams
from caft.weights.authors import Entry, leaves, take, text_blocks
from caft.weights.misfits import Problem

# Of CLIP alone: the scale, and what OpenAI's own files hold beside the weights.
_LEFT_OUT = ("logit_scale", "logit_bias", "input_resolution", "context_length", "vocab_size", "attn_mask")


def entries(model: ModelParams) -> Iterator[Entry]:
    """Every tensor that is taken, for a flat model of these sizes."""
    yield Entry("visual.conv1.weight", ("vision.patches.weight",))
    yield Entry("visual.class_embedding", ("vision.cls",))
    yield Entry("visual.positional_embedding", ("vision.positions",))
    yield from leaves("visual.ln_pre", "vision.norm")
    yield from text_blocks("visual.transformer", "vision", model.blocks[0])
    yield from leaves("visual.ln_post", "part_norm")
    yield Entry("visual.proj", ("part_projection.weight",), "transposed")
    yield Entry("token_embedding.weight", ("sub_caption.embedding.weight",))
    yield Entry("positional_embedding", ("sub_caption.positions",))
    yield from text_blocks("transformer", "sub_caption", model.text.sub_layers)
    yield from leaves("ln_final", "sub_caption.norm")
    yield Entry("text_projection", ("sub_caption_projection.weight",), "transposed")


def convert(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], model: ModelParams
) -> tuple[dict[str, Tensor], list[Problem]]:
    """The towers of a CLIP under our names, in our layouts; arguments and results as `caft.weights.authors.convert`."""
    left = dict(state)
    result, problems = take(left, own, entries(model))
    return result, problems + [Problem("unexpected", name) for name in left if name not in _LEFT_OUT]
