"""The operations of the network that depend on their data, in forms whose graph does not.

Each gives what the function that it stands for gives (`tests/export/test_forms.py`): sums over segments by a product with
a matrix of zeros and ones in place of scattered additions, empty segments filled without asking whether there are any,
sampling with its steps one after the other, and texts encoded with their padding, which causality hides. Where a module
asks `len(tensor)`, which tracing turns into a constant (findings/torch_export_len.sh), its lines stand here with `shape[0]`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from caft.network.text.encoder import SubCaptionTransformer, WholeCaptionTransformer
from caft.network.vision.encoder import HierarchicalVisionEncoder, Hierarchy
from caft.network.vision.flat import FlatVisionEncoder
from caft.network.vision.graph_pool import GraphPool
from caft.network.vision.sampling import _EMPTY, _PICKED, _ZERO
from caft.network.vision.segments import _cell_distances


def superpixel_tokens(features: Tensor, labels: Tensor, num_segments: int) -> tuple[Tensor, Tensor]:
    """As `caft.network.vision.segments.superpixel_tokens`: (B, h, w, W) and (B, h, w) to (B, N, W) and (B, N)."""
    member = (labels.flatten(1)[..., None] == torch.arange(num_segments)).to(features.dtype)  # (B, h w, N)
    counts = member.sum(1)
    tokens = member.transpose(1, 2) @ features.flatten(1, 2) / counts.clamp(min=1)[..., None]
    empty = counts == 0
    distance = _cell_distances(num_segments, features.device)[None]
    source = distance.masked_fill(empty[:, None, :], float("inf")).argmin(2)
    return tokens.gather(1, source[..., None].expand(-1, -1, tokens.shape[2])), empty


def farthest_points(points: Tensor, count: int, empty: Tensor | None = None) -> Tensor:
    """As `caft.network.vision.sampling.farthest_points` from the mean, in float32: (B, N, D) to (B, count)."""
    live = torch.ones_like(points[..., :1]) if empty is None else (~empty).to(points.dtype)[..., None]
    centred = (points - (points * live).sum(1, keepdim=True) / live.sum(1, keepdim=True).clamp(min=1)) * live
    centred = centred / centred.square().sum(2).amax(1).sqrt().clamp(min=1e-30)[:, None, None]
    norms = centred.square().sum(2)
    distances = norms[:, :, None] + norms[:, None, :] - 2 * centred @ centred.transpose(1, 2)  # (B, N, N)
    places = torch.arange(points.shape[1])
    same = places[:, None] == places
    distances = torch.where((distances <= _ZERO) | same, 0.0, distances)
    nearest = torch.where(norms <= _ZERO, 0.0, norms)
    if empty is not None:
        nearest = nearest.masked_fill(empty, _EMPTY)
    picks = []
    for _ in range(count):
        pick = (nearest >= nearest.amax(1, keepdim=True) - _ZERO).int().argmax(1, keepdim=True)  # (B, 1)
        picks.append(pick)
        row = distances.gather(1, pick[..., None].expand(-1, -1, points.shape[1]))[:, 0]
        nearest = torch.where(places == pick, _PICKED, torch.minimum(nearest, row))
    return torch.cat(picks, dim=1)


def sub_captions(encoder: SubCaptionTransformer, tokens: Tensor) -> Tensor:
    """As `SubCaptionTransformer.forward`: ids (T, L) to (T, W), L up to the encoder's context."""
    hidden = F.embedding(tokens, encoder.embedding.weight) + encoder.positions[: tokens.shape[1]]
    hidden = encoder.blocks(hidden)
    ends = tokens.argmax(1)[:, None, None].expand(-1, -1, hidden.shape[2])
    return encoder.norm(hidden.gather(1, ends)[:, 0])


def whole_caption(encoder: WholeCaptionTransformer, features: Tensor) -> Tensor:
    """As `WholeCaptionTransformer.forward`: (Q, C, W) to (Q, W)."""
    features = features + encoder.gamma * encoder.adapter(features)
    sequence = torch.cat([features, encoder.cls.expand(features.shape[0], -1, -1)], dim=1)
    return encoder.norm(encoder.blocks(sequence + encoder.positions)[:, -1])


def grouped(vision: HierarchicalVisionEncoder, features: Tensor, labels: Tensor) -> tuple[Hierarchy, list[Tensor]]:
    """As `HierarchicalVisionEncoder.group`, and the token that seeds each group of each pooling, (B, N_s)."""
    assert isinstance(vision.positions, Tensor)
    labels = labels[:, :: vision.stride, :: vision.stride]
    tokens, empty = superpixel_tokens(features + vision.positions, labels, vision.tokens[0])
    cls = vision.cls.expand(features.shape[0], -1, -1)
    stages, stage_cls, logits, picks = list[Tensor](), list[Tensor](), list[Tensor](), list[Tensor]()
    for number, blocks in enumerate(vision.stages):
        mixed = blocks(torch.cat([cls, tokens], dim=1))
        cls, tokens = mixed[:, :1], mixed[:, 1:]
        stages.append(tokens)
        stage_cls.append(cls[:, 0])
        if number < len(vision.pools):
            pool = vision.pools[number]
            assert isinstance(pool, GraphPool)
            picks.append(farthest_points(tokens, pool.groups, empty if number == 0 else None))
            pooled = pool.group(cls, tokens, picks[-1])
            cls, tokens = pooled.cls, pooled.groups
            logits.append(pooled.logits)
    return Hierarchy(cls[:, 0], stages, stage_cls, logits), picks


def flat(vision: FlatVisionEncoder, features: Tensor) -> tuple[Hierarchy, Tensor]:
    """As `FlatVisionEncoder.group` and `.labels`: tokens of the stem (B, N, W) to all tokens and the grid (B, h, w)."""
    cls = vision.cls.expand(features.shape[0], 1, -1)
    mixed = vision.blocks(vision.norm(torch.cat([cls, features], dim=1) + vision.positions))
    grid = torch.arange(vision.side**2).view(vision.side, vision.side).expand(features.shape[0], -1, -1)
    return Hierarchy(mixed[:, 0], [mixed[:, 1:]], [mixed[:, 0]], []), grid
