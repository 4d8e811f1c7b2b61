"""The loop of the farthest point sampling as one GPU kernel: one program an image, the distances in its registers."""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _pick_all(  # type: ignore[no-untyped-def]
    distances,
    nearest,
    picks,
    total,
    zero,
    picked,
    FIRST: tl.constexpr,
    COUNT: tl.constexpr,
    BLOCK: tl.constexpr,  # noqa: N803
):
    image = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, BLOCK)
    there = places < total
    near = tl.load(nearest + image * total + places, mask=there, other=2 * picked)
    for step in range(FIRST, COUNT):
        pick = tl.min(tl.where(near >= tl.max(near, 0) - zero, places, BLOCK), 0)
        pick = tl.where(pick < total, pick, 0)  # of numbers that are none, as in plain torch
        tl.store(picks + image * COUNT + step, pick.to(tl.int64))
        row = tl.load(distances + (image * total + pick) * total + places, mask=there, other=0.0)
        near = tl.where(places == pick, picked, tl.minimum(near, row))


def pick_all(distances: Tensor, nearest: Tensor, picks: Tensor, first: int, zero: float, picked: float) -> Tensor:
    """Runs the steps that are left.

    Args:
        distances: Squared distances, (B, N, N), float32.
        nearest: Distance of each point to the nearest pick, or a mark below zero, (B, N), float32.
        picks: To be filled, (B, count), int64.
        first: Picks that are there already.
        zero: Distances that differ by less are equal.
        picked: Mark of a pick, the lowest number in use.

    Returns:
        `picks`.
    """
    batch, total = nearest.shape
    with torch.cuda.device(nearest.device):
        _pick_all[(batch,)](
            distances.contiguous(), nearest.contiguous(), picks, total, zero, picked,
            FIRST=first, COUNT=picks.shape[1], BLOCK=triton.next_power_of_2(total), num_warps=1,
        )  # fmt: skip
    return picks
