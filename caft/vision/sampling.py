"""Batched farthest point sampling in plain torch."""

import torch
from torch import Tensor

# Squared distances below this share of the largest squared norm are rounding noise of the Gram form.
_RELATIVE_ZERO = 1e-12


@torch.no_grad()
def farthest_points(
    points: Tensor, count: int, mask: Tensor | None = None, start: int | None = None
) -> Tensor:
    """Picks points one by one, each the farthest from all picks so far (squared Euclidean distance).

    One Gram matrix gives all distances, so a step is a row gather, a minimum and an argmax; centring first
    removes a large shared direction without changing a distance. The lowest index wins a tie. When every
    distance is zero, the lowest live index not yet picked follows; empty points come last.

    Args:
        points: Coordinates, (B, N, D); computed in float32 or wider.
        count: Number of picks, at most N.
        mask: True where a point is empty, (B, N); such points are not picked while live ones remain.
        start: None seeds with the mean of the live points, which is not returned (CAST's rule); an index
            starts there and returns it first.

    Returns:
        Indices of the picks, (B, count), int64.

    Raises:
        ValueError: `count` is more than N, or less than 1.
    """
    batch, total, _ = points.shape
    if not 1 <= count <= total:
        raise ValueError(f"farthest_points: count is {count}, must be between 1 and the {total} points")
    with torch.autocast(points.device.type, enabled=False):
        points = points if points.dtype == torch.float64 else points.float()
        empty = torch.zeros(batch, total, dtype=torch.bool, device=points.device) if mask is None else mask
        live = (~empty).to(points.dtype)[..., None]  # (B, N, 1)
        centred = (points - (points * live).sum(1, keepdim=True) / live.sum(1, keepdim=True).clamp(min=1)) * live
        norms = centred.square().sum(2)  # (B, N)
        zero = _RELATIVE_ZERO * norms.amax(1, keepdim=True)
        distances = norms[:, :, None] + norms[:, None, :] - 2 * centred @ centred.transpose(1, 2)  # (B, N, N)
        distances = torch.where(distances <= zero[:, :, None], 0.0, distances)
        distances.diagonal(dim1=1, dim2=2).zero_()

        rows = torch.arange(batch, device=points.device)
        picks = torch.empty(batch, count, dtype=torch.long, device=points.device)
        if start is None:
            nearest = torch.where(norms <= zero, 0.0, norms).masked_fill(empty, -1.0)
            first = 0
        else:
            picks[:, 0] = start
            nearest = distances[:, start].masked_fill(empty, -1.0)
            nearest[:, start] = -2.0
            first = 1
        for step in range(first, count):
            pick = nearest.argmax(1)  # the first maximum, so the lowest index
            picks[:, step] = pick
            nearest = torch.minimum(nearest, distances[rows, pick])  # keeps the marks -1 and -2
            nearest[rows, pick] = -2.0
        return picks
