"""Batched farthest point sampling: in plain torch, and on a GPU by one kernel, with the same picks."""

from importlib.util import find_spec

import torch
from torch import Tensor

from caft.network import gpu

# Squared distances below this share of the largest squared norm are rounding noise of the Gram form.
_ZERO = 1e-12
# Marks that stand in for the distance of points not to be picked while others remain.
_EMPTY, _PICKED = -1.0, -2.0
_HAS_TRITON = find_spec("triton") is not None


@torch.no_grad()
def farthest_points(points: Tensor, count: int, mask: Tensor | None = None, start: int | None = None) -> Tensor:
    """Picks points one by one, each the farthest from all picks so far (squared Euclidean distance).

    One Gram matrix gives all distances, so a step is a row gather, a minimum and an argmax; centring first
    removes a large shared direction without changing a distance. When every distance is zero, the lowest live
    index not yet picked follows; empty points come last.

    Ties. In float64 the lowest index wins. In float32, rounding of the Gram form, up to 1e-6 of the largest squared
    norm, may decide which of the points that tie (as on a regular grid) is picked: a pick is farthest within that.
    Calling more of them equal would give other picks to features that no two points of tie: a tolerance of 5e-7,
    the least that gives grids of up to 28 a side their lowest index, changes them in one of 330 sets of the default
    model's tokens.

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
        # Largest squared norm one: marks and tolerance below need no scale of their own.
        centred = centred / centred.square().sum(2).amax(1).sqrt().clamp(min=1e-30)[:, None, None]
        norms = centred.square().sum(2)  # (B, N)
        distances = norms[:, :, None] + norms[:, None, :] - 2 * centred @ centred.transpose(1, 2)  # (B, N, N)
        distances = torch.where(distances <= _ZERO, 0.0, distances)
        distances.diagonal(dim1=1, dim2=2).zero_()

        rows = torch.arange(batch, device=points.device)
        picks = torch.empty(batch, count, dtype=torch.long, device=points.device)
        nearest = torch.where(norms <= _ZERO, 0.0, norms) if start is None else distances[:, start].clone()
        nearest = nearest.masked_fill(empty, _EMPTY)
        if start is not None:
            picks[:, 0] = start
            nearest[:, start] = _PICKED
        first = 0 if start is None else 1
        if gpu.runs_ahead(points.device) and _HAS_TRITON and points.dtype == torch.float32:
            from caft.network.vision.sampling_kernel import pick_all

            return pick_all(distances, nearest, picks, first, _ZERO, _PICKED)
        for step in range(first, count):
            # argmax gives the first of the equal maxima; equal is up to the Gram form's rounding.
            pick = (nearest >= nearest.amax(1, keepdim=True) - _ZERO).int().argmax(1)
            picks[:, step] = pick
            nearest = torch.minimum(nearest, distances[rows, pick])  # keeps the marks, which are negative
            nearest.scatter_(1, pick[:, None], _PICKED)  # by an index, a number would come from the host each time
        return picks
