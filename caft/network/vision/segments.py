"""Superpixel tokens from a label map."""

import torch
from torch import Tensor

from caft.network import gpu


def segment_mean(features: Tensor, labels: Tensor, num_segments: int) -> Tensor:
    """Averages features over the positions of each segment; a segment without a position gives zeros.

    Args:
        features: Features at each position, (B, h, w, W).
        labels: Segment of each position, (B, h, w), integers in [0, num_segments).
        num_segments: Number of segments, fixed: it never depends on the labels present.

    Returns:
        Means (B, num_segments, W), of the features' type.
    """
    sums, counts = _segment_sum(features, labels, num_segments)
    return (sums / counts.clamp(min=1)[..., None]).to(features.dtype)


def superpixel_tokens(features: Tensor, labels: Tensor, num_segments: int) -> tuple[Tensor, Tensor]:
    """Means over superpixels, with those that hold no position filled from the nearest that does.

    CAST leaves such tokens zero, yet they are attended to; as the authors' release, they repeat their nearest
    neighbour on the grid of cells, which is square, and stay out of the sampling. Arguments are as in `segment_mean`.

    Returns:
        Tokens (B, N, W), and True where a superpixel is empty, (B, N).
    """
    sums, counts = _segment_sum(features, labels, num_segments)
    tokens = (sums / counts.clamp(min=1)[..., None]).to(features.dtype)
    empty = counts == 0
    if gpu.runs_ahead(empty.device) or bool(empty.any()):  # asking a GPU costs more than filling for nothing
        distance = _cell_distances(num_segments, features.device)[None]  # (1, N, N)
        source = distance.masked_fill(empty[:, None, :], float("inf")).argmin(2)  # itself where it is live
        tokens = tokens.gather(1, source[..., None].expand_as(tokens))
    return tokens, empty


def _segment_sum(features: Tensor, labels: Tensor, num_segments: int) -> tuple[Tensor, Tensor]:
    """Sums (B, N, W) and counts (B, N) in float32 or wider."""
    batch, width = features.shape[0], features.shape[-1]
    offsets = torch.arange(batch, device=labels.device)[:, None] * num_segments
    index = (labels.reshape(batch, -1) + offsets).reshape(-1)
    dtype = torch.promote_types(features.dtype, torch.float32)
    sums = torch.zeros(batch * num_segments, width, dtype=dtype, device=features.device)
    sums = sums.index_add(0, index, features.reshape(-1, width).to(dtype))
    if gpu.runs_ahead(index.device):  # bincount would wait for the largest label
        counts = torch.zeros(len(sums), dtype=dtype, device=index.device)
        counts = counts.index_add(0, index, torch.ones_like(index, dtype=dtype))
    else:
        counts = torch.bincount(index, minlength=batch * num_segments).to(dtype)
    return sums.view(batch, num_segments, width), counts.view(batch, num_segments)


def _cell_distances(num_segments: int, device: torch.device) -> Tensor:
    """Squared distances between the centres of the square grid's cells, (N, N)."""
    side = round(num_segments**0.5)
    cells = torch.arange(num_segments, device=device)
    rows, columns = cells // side, cells % side
    return ((rows[:, None] - rows[None]) ** 2 + (columns[:, None] - columns[None]) ** 2).float()
