"""Each gain of the training step, and the plain form that stands in for it when it is off.

The library has the fast form alone. A plain form takes its place by name while a measurement lasts; it gives the same
values, but for rounding, and is what a first version of the step would do.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F

from caft.loss.labels import Pairs
from caft.loss.part import naive_pair_sum
from caft.loss.sigmoid import pairwise_sigmoid
from caft.network.layers import Attention
from caft.network.part_pairs import EPS
from caft.network.text.encoder import SubCaptionTransformer
from caft.network.text_pool import TextConditionedPool, attend
from caft.network.vision.superpixels import SFCN


@dataclass(frozen=True)
class Gain:
    """A gain that can be turned off.

    Attributes:
        name: Its name in the tables.
        off: What is done without it, in words.
        target: What the plain form replaces, by its full name.
        plain: The plain form; None where the step itself knows it.
    """

    name: str
    off: str
    target: str
    plain: Callable[..., object] | None


@contextmanager
def without(names: Iterable[str], flair: bool = False) -> Iterator[None]:
    """Turns gains of `GAINS` off.

    With `flair`, norm and query projection of the part loss run on the selected texts of each image, (B, B + K - 1) rows
    of which most are the same, as in FLAIR, where a rank sends these rows.
    """
    with ExitStack() as stack:
        for name in names:
            gain = GAINS[name]
            if gain.plain is not None:
                stack.enter_context(mock.patch(gain.target, gain.plain))
        if flair:
            stack.enter_context(mock.patch("caft.loss.part.fused_pair_sum", _selected_pair_sum))
        yield


def _padded_texts(self: SubCaptionTransformer, tokens: Tensor, packed: object = None) -> Tensor:
    hidden = self.blocks(self.embedding(tokens) + self.positions)
    return self.norm(hidden[torch.arange(len(tokens), device=tokens.device), tokens.argmax(1)])


def _masked_attention(self: Attention, tokens: Tensor, starts: object = None, longest: int = 0) -> Tensor:
    """Causality by a tensor that is added, as CLIP's text tower."""
    batch, length, width = tokens.shape
    qkv = self.qkv(tokens).view(batch, length, 3, self.heads, width // self.heads)
    query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    mask = None
    if self.causal:
        mask = torch.full((length, length), -torch.inf, dtype=query.dtype, device=tokens.device).triu(1)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return self.proj(mixed.transpose(1, 2).reshape(batch, length, width))


def _selected_pair_sum(pairs: Pairs, pool: TextConditionedPool, scale: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    selected = pairs.texts[pairs.selected]  # (B, Q, D), as it would be sent
    mixed, _ = attend(pool.project_queries(selected), *pool.project_tokens(pairs.tokens))
    cosines = F.cosine_similarity(pool.out(mixed).float(), selected.float(), dim=-1, eps=EPS)
    return pairwise_sigmoid(scale * cosines + bias, pairs.labels), torch.zeros((), dtype=torch.int64)


@torch.no_grad()
def farthest_by_vectors(points: Tensor, count: int, mask: Tensor | None = None) -> Tensor:
    """Picks (B, count) from points (B, N, D): at each step the distances of all points to the last pick."""
    points = points.float()
    rows = torch.arange(len(points), device=points.device)
    live = torch.ones(points.shape[:2], device=points.device) if mask is None else (~mask).float()
    last = (points * live[..., None]).sum(1) / live.sum(1, keepdim=True)
    nearest = torch.full(points.shape[:2], torch.inf, device=points.device).masked_fill(live == 0, -1.0)
    picks = []
    for _ in range(count):
        nearest = torch.minimum(nearest, (points - last[:, None]).square().sum(2))
        picks.append(nearest.argmax(1))
        last = points[rows, picks[-1]]
        nearest[rows, picks[-1]] = -2.0
    return torch.stack(picks, dim=1)


def _scattered_sum(features: Tensor, labels: Tensor, num_segments: int) -> tuple[Tensor, Tensor]:
    batch, width = features.shape[0], features.shape[-1]
    values, places = features.reshape(batch, -1, width).float(), labels.reshape(batch, -1)
    index = places[..., None].expand(-1, -1, width)
    sums = torch.zeros(batch, num_segments, width, device=features.device).scatter_add(1, index, values)
    ones = torch.ones_like(places, dtype=torch.float32)
    return sums, torch.zeros(batch, num_segments, device=features.device).scatter_add(1, places, ones)


GAINS = {
    gain.name: gain
    for gain in (
        Gain(
            "text",
            "every text at 77 tokens, repeats too",
            "caft.network.text.encoder.SubCaptionTransformer.forward",
            _padded_texts,
        ),
        Gain("mask", "causality by a mask tensor", "caft.network.layers.Attention.forward", _masked_attention),
        Gain("part_loss", "every pair's pooled feature kept", "caft.loss.part.fused_pair_sum", naive_pair_sum),
        Gain(
            "sampling",
            "distances to each pick from vectors",
            "caft.network.vision.graph_pool.farthest_points",
            farthest_by_vectors,
        ),
        Gain(
            "segments", "scatter_add in place of index_add", "caft.network.vision.segments._segment_sum", _scattered_sum
        ),
        Gain("superpixels", "SFCN channels first", "caft.network.caft.SFCN", None),
        Gain("adamw", "one kernel a tensor and operation", "torch.optim.AdamW", None),
    )
}


def lay_out(network: SFCN | None, off: Iterable[str]) -> None:
    """Lays SFCN out channels first if its gain is off."""
    if network is not None and "superpixels" in off:
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        # Else the layout of the input would decide.
        network.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
