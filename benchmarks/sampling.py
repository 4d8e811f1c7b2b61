"""Measures farthest point sampling by a Gram matrix against the same batched, with vectors at each step."""

from functools import partial

import torch

from benchmarks.gains import farthest_by_vectors
from benchmarks.measuring import machine, ratios, times
from caft.network.vision.sampling import farthest_points

BATCH, DIM = 16, 768
SIZES = [(196, 64), (64, 32), (32, 16)]
REPETITIONS = 15
# Of the vector loop, at the first of the sizes.
MOST_TIME = 0.3


def main() -> None:
    """Prints both ways at the sizes of the base model's three poolings."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(machine())
    for number, (total, count) in enumerate(SIZES):
        points = torch.randn(BATCH, total, DIM)
        same = bool((farthest_points(points, count) == farthest_by_vectors(points, count)).all())
        forms = {"vectors": farthest_by_vectors, "gram": farthest_points}
        taken = times({name: partial(form, points, count) for name, form in forms.items()}, REPETITIONS)
        vectors, gram = taken["vectors"], taken["gram"]
        print(
            f"B = {BATCH}, {total} -> {count}, D = {DIM}: Gram {1e3 * gram.least:.1f} ms least, "
            f"{1e3 * gram.median:.1f} ms median of {REPETITIONS}; vectors {1e3 * vectors.least:.1f} and "
            f"{1e3 * vectors.median:.1f}; {'the same' if same else 'OTHER'} picks"
        )
        print(f"time: {ratios(gram, vectors)}" + (f"; at most {MOST_TIME} wanted" if number == 0 else ""))


if __name__ == "__main__":
    main()
