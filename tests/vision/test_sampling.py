"""Farthest points of regular grids, where most picks are ties, against whole numbers, which have no rounding."""

import numpy as np
import pytest
import torch

from caft.network.vision.sampling import farthest_points

SIDES = range(4, 29)


def grid(side):
    """Points of a square grid, centred on zero, row by row: whole numbers, (side^2, 2)."""
    places = np.arange(side * side)
    return np.stack([2 * (places // side) - (side - 1), 2 * (places % side) - (side - 1)], axis=1)


@pytest.mark.parametrize("side", SIDES)
def test_in_float64_the_lowest_index_wins_every_tie(side):
    points, picks = grid(side), []
    nearest = (points**2).sum(1)
    for _ in range(side * side // 2):
        picks.append(int(nearest.argmax()))  # numpy's is the first of the equal
        nearest = np.minimum(nearest, ((points - points[picks[-1]]) ** 2).sum(1))
        nearest[picks[-1]] = -1
    # Neither where the grid lies nor its scale matters, as long as numbers hold it.
    for moved in (points, points / 2 + 100):
        found = farthest_points(torch.from_numpy(moved)[None].double(), len(picks))
        assert found[0].tolist() == picks


@pytest.mark.parametrize("side", SIDES)
def test_in_float32_every_pick_is_farthest_up_to_rounding(side):
    points = grid(side)
    picks = farthest_points(torch.from_numpy(points)[None].float(), side * side // 2)[0].tolist()
    assert len(set(picks)) == len(picks)
    nearest = (points**2).sum(1)
    allowed = 1e-6 * nearest.max()
    for pick in picks:
        assert nearest[pick] >= nearest.max() - allowed
        nearest = np.minimum(nearest, ((points - points[pick]) ** 2).sum(1))
        nearest[pick] = -1
