"""Masks as COCO's run lengths, plain and compressed: what its API (pycocotools), and the tools that use it, read."""

import numpy as np
from numpy.typing import NDArray


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of a mask (height, width), column by column, outside and inside in turn, outside first."""
    flat = mask.ravel(order="F")
    starts = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *starts.tolist(), flat.size]).tolist()
    return [0, *runs] if flat[0] else runs


def compressed(runs: list[int]) -> str:
    """The text in which COCO keeps run lengths.

    From the fourth on, a length is written as its difference to the one two before it; a number in groups of five bits,
    lowest first, the sixth bit saying that more follow, the last group's fifth bit that it is negative, and each group as
    the character of its number plus 48.
    """
    found = []
    for place, length in enumerate(runs):
        left, more = length - (runs[place - 2] if place > 2 else 0), True
        while more:
            group, left = left & 31, left >> 5
            more = left != (-1 if group & 16 else 0)
            found.append(chr(48 + group + 32 * more))
    return "".join(found)
