"""The names in the authors' published weights of CAFT, and ours.

Only names, shapes and layouts; `caft.weights.load` builds the model.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from caft.errors import CheckpointError
from caft.network.layers import sin_cos_positions
from caft.params.models import ModelParams
from caft.weights.fit import fitted
from caft.weights.misfits import Problem
from caft.weights.sfcn import UNUSED_HEADS

# Sizes of the authors' model. Heads, groups and how blocks are spread over stages cannot be read off the weights; the same
# numbers stand in params.yaml as models.base, where they may be edited without changing what this file format is.
AUTHORS_MODEL = ModelParams.model_validate(
    {
        "image_size": 224,
        "superpixels": {"cell": 16, "widths": [16, 32, 64, 128, 256]},
        "stem": {"channels": [96, 192, 384, 768], "strides": [2, 2, 2, 1]},
        "width": 768,
        "heads": 12,
        "mlp_ratio": 4,
        "tokens": [196, 64, 32, 16],
        "blocks": [3, 3, 3, 2],
        "part_stage": 2,
        "pool_dropout": 0.1,
        "embed_dim": 512,
        "text": {
            "width": 512,
            "heads": 8,
            "sub_layers": 8,
            "whole_layers": 4,
            "context": 77,
            "vocabulary": 49408,
            "adapter": 341,
        },
        "grounding": {"heads": 8, "start": "default"},
    }
)
# How the authors' code reads captions, which their weights were trained with.
AUTHORS_READING: dict[str, Any] = {"chunks": 4, "splitter": "dreamlip", "balanced_rule": "release"}

_GENERATOR = "visual.superpixel_generator."
_LEAVES = ("weight", "bias")
# How far a fixed value, at most 1, may be from ours after rounding.
_ROUNDED = {torch.float16: 1e-3, torch.bfloat16: 8e-3}


@dataclass(frozen=True)
class Entry:
    """One tensor of a published file and where it goes.

    Attributes:
        theirs: Its name in the file.
        ours: Names here; three for a packed projection of queries, keys and values.
        layout: "same"; "transposed" for a matrix that is applied from the right; "packed" for rows of three;
            "batched" for a leading axis of one.
    """

    theirs: str
    ours: tuple[str, ...]
    layout: Literal["same", "transposed", "packed", "batched"] = "same"

    def shape(self, own: Mapping[str, Tensor]) -> tuple[int, ...]:
        """Shape that the published tensor must have, given the module's state."""
        first, *rest = own[self.ours[0]].shape if own[self.ours[0]].dim() else (None,)
        if first is None or self.layout == "same":
            return tuple(own[self.ours[0]].shape)
        shapes = {"transposed": (*rest, first), "packed": (3 * first, *rest), "batched": (1, first, *rest)}
        return shapes[self.layout]

    def split(self, tensor: Tensor) -> dict[str, Tensor]:
        """The tensor in our layout, by our names."""
        parts = {
            "same": lambda: [tensor],
            "transposed": lambda: [tensor.T],
            "packed": lambda: list(tensor.chunk(3)),
            "batched": lambda: [tensor[0]],
        }[self.layout]()
        return dict(zip(self.ours, parts, strict=True))


def entries(model: ModelParams) -> Iterator[Entry]:
    """Every tensor of the authors' model at these sizes, except SFCN's and the two fixed ones.

    Raises:
        CheckpointError: The sizes are of a flat model.
    """
    if model.stem is None or model.text.whole_layers is None:
        raise CheckpointError(
            "the authors' weights fill a model with both hierarchies; select one, such as models.base"
        )
    yield Entry("visual.cls_token", ("vision.cls",))
    for number in range(len(model.stem.channels)):
        yield Entry(f"visual.patch_embed.proj.{3 * number}.weight", (f"vision.stem.layers.{3 * number}.weight",))
        for leaf in (*_LEAVES, "running_mean", "running_var", "num_batches_tracked"):
            name = f"{3 * number + 1}.{leaf}"
            yield Entry(f"visual.patch_embed.proj.{name}", (f"vision.stem.layers.{name}",))
    last = 3 * len(model.stem.channels)
    yield from leaves(f"visual.patch_embed.proj.{last}", f"vision.stem.layers.{last}")
    number = 0
    for stage, depth in enumerate(model.blocks):
        for place in range(depth):
            for part in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"):
                yield from leaves(f"visual.blocks.{number}.{part}", f"vision.stages.{stage}.{place}.{part}")
            number += 1
    for number in range(len(model.tokens) - 1):
        theirs, ours = f"visual.pools.{number}.pool_block", f"vision.pools.{number}"
        yield Entry(f"{theirs}.centroid_fc.bias", (f"{ours}.bias",))
        for part, own in {
            "centroid_fc.norm": "norm",
            "centroid_fc.attn.qkv": "attn.qkv",
            "centroid_fc.attn.proj": "attn.proj",
            "fc1.0": "expand_norm",
            "fc1.1": "expand",
            "fc2.0": "reduce_norm",
            "fc2.1": "reduce",
        }.items():
            yield from leaves(f"{theirs}.{part}", f"{ours}.{own}")
    yield from leaves("visual.norm", "whole_norm")
    yield from leaves("visual.norm_fine", "part_norm")
    yield from flair_parts(model)
    yield Entry("paragraph_encoder.cls_embed", ("whole_caption.cls",))
    yield Entry("paragraph_encoder.positional_embedding", ("whole_caption.positions",), "batched")
    yield Entry("paragraph_encoder.adapter.ls.gamma", ("whole_caption.gamma",))
    yield from leaves("paragraph_encoder.adapter.mlp.c_fc", "whole_caption.adapter.fc1")
    yield from leaves("paragraph_encoder.adapter.mlp.c_proj", "whole_caption.adapter.fc2")
    yield from text_blocks("paragraph_encoder.transformer", "whole_caption", model.text.whole_layers)
    yield from leaves("paragraph_encoder.ln_final", "whole_caption.norm")
    for theirs, ours in {
        "image_post": "part_projection",
        "text_post": "sub_caption_projection",
        "image_post_coarse": "whole_projection",
        "text_post_coarse": "whole_caption_projection",
    }.items():
        yield Entry(f"{theirs}.proj", (f"{ours}.weight",), "transposed")
    for ending, level in {"": "part", "_coarse": "whole"}.items():
        yield Entry(f"logit_scale{ending}", (f"{level}_log_scale",))
        yield Entry(f"logit_bias{ending}", (f"{level}_bias",))


def convert(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], model: ModelParams
) -> tuple[dict[str, Tensor], list[Problem]]:
    """The authors' weights under our names, in our layouts.

    Args:
        state: Tensors by the authors' names, without a prefix.
        own: Names and shapes of the model to fill.
        model: Sizes of that model.

    Returns:
        The weights that fit, in `state`'s memory where the layout is the same, and a problem for each that is missing,
        unexpected, of another shape or type, not finite, or fixed but with another value.
    """
    left = dict(state)
    result, problems = take(left, own, [*entries(model), *_superpixel_entries(left, own)])
    problems += _fixed_problems(left, model)
    problems += [Problem("unexpected", name) for name in left]
    return result, problems


def take(
    left: dict[str, Tensor], own: Mapping[str, Tensor], table: Iterable[Entry]
) -> tuple[dict[str, Tensor], list[Problem]]:
    """Removes a table's tensors from `left`; returns those that fit, by our names, and a problem for each other one."""
    result, problems = {}, []
    for entry in table:
        if entry.theirs not in left:
            problems.append(Problem("missing", entry.theirs))
            continue
        tensor, dtype = left.pop(entry.theirs).detach(), own[entry.ours[0]].dtype
        value = fitted(entry.theirs, tensor, entry.shape(own), dtype)
        if isinstance(value, Problem):
            problems.append(value)
            continue
        for name, part in entry.split(value).items():
            result[name] = part.contiguous()
    return result, problems


def _superpixel_entries(left: dict[str, Tensor], own: Mapping[str, Tensor]) -> Iterator[Entry]:
    """SFCN's tensors, under whatever wrapper they lie; those of unused heads are dropped from `left`."""
    names = [name.removeprefix("superpixels.") for name in own if name.startswith("superpixels.")]
    found: dict[str, str] = {}
    for theirs in [name for name in left if name.startswith(_GENERATOR)]:
        inner = "." + theirs.removeprefix(_GENERATOR)
        if any(f".{head}" in inner for head in UNUSED_HEADS):
            del left[theirs]
            continue
        for name in names:
            if inner.endswith(f".{name}"):
                found.setdefault(name, theirs)  # a second one stays, and is reported as unexpected
    for name in names:
        yield Entry(found.get(name, _GENERATOR + name), (f"superpixels.{name}",))


def _fixed_problems(left: dict[str, Tensor], model: ModelParams) -> Iterator[Problem]:
    """Removes the fixed tensors from `left`; here they are computed, so the file's must have the same values."""
    assert model.stem is not None
    stride = torch.tensor(model.stem.strides).prod().item()
    positions = sin_cos_positions(model.image_size // int(stride), model.width).view(1, -1, model.width)
    for name, expected in {"visual.pos_embed": positions, "visual.pe_token": torch.zeros(1, 1, model.width)}.items():
        if name not in left:
            yield Problem("missing", name)
            continue
        tensor = left.pop(name)
        value = fitted(name, tensor, tuple(expected.shape), torch.float32)
        if isinstance(value, Problem):
            yield value
            continue
        distance = float((value - expected).abs().max())
        if distance > _ROUNDED.get(tensor.dtype, 2e-5):
            detail = f"is fixed, but differs by up to {distance:.3g} from the value that it must have"
            yield Problem("fixed", name, detail)


def flair_parts(model: ModelParams) -> Iterator[Entry]:
    """What the authors' model shares with FLAIR: the pooling and the encoder of sub-captions."""
    yield from pooling("visual_proj", "pool")
    yield Entry("token_embedding.weight", ("sub_caption.embedding.weight",))
    yield Entry("positional_embedding", ("sub_caption.positions",))
    yield from text_blocks("transformer", "sub_caption", model.text.sub_layers)
    yield from leaves("ln_final", "sub_caption.norm")


def pooling(theirs: str, ours: str) -> Iterator[Entry]:
    """Text-conditioned pooling: torch's attention with a packed projection, and three norms."""
    for leaf in _LEAVES:
        packed = tuple(f"{ours}.{name}.{leaf}" for name in ("query", "key", "value"))
        yield Entry(f"{theirs}.attn.in_proj_{leaf}", packed, "packed")
    yield from leaves(f"{theirs}.attn.out_proj", f"{ours}.out")
    for letter, own in {"q": "query", "k": "key", "v": "value"}.items():
        yield from leaves(f"{theirs}.ln_{letter}", f"{ours}.norm_{own}")


def leaves(theirs: str, ours: str) -> Iterator[Entry]:
    """Weight and bias."""
    for leaf in _LEAVES:
        yield Entry(f"{theirs}.{leaf}", (f"{ours}.{leaf}",))


def text_blocks(theirs: str, ours: str, layers: int) -> Iterator[Entry]:
    """Blocks of open_clip's transformers; their packed projection has the rows of ours."""
    for number in range(layers):
        block, own = f"{theirs}.resblocks.{number}", f"{ours}.blocks.{number}"
        yield from leaves(f"{block}.ln_1", f"{own}.norm1")
        for leaf in _LEAVES:
            yield Entry(f"{block}.attn.in_proj_{leaf}", (f"{own}.attn.qkv.{leaf}",))
        yield from leaves(f"{block}.attn.out_proj", f"{own}.attn.proj")
        yield from leaves(f"{block}.ln_2", f"{own}.norm2")
        yield from leaves(f"{block}.mlp.c_fc", f"{own}.mlp.fc1")
        yield from leaves(f"{block}.mlp.c_proj", f"{own}.mlp.fc2")
