"""Measures the exact part scores of all pairs, tiled against direct; and the largest set that a command should take.

    python -m benchmarks.scoring          both forms on 128 images and captions, their ratio and their memory
    python -m benchmarks.scoring --large  tiled, 2,000 images and captions of 8 sub-captions, two threads

Direct builds the pooled feature of every pair and compares it with the text: `CAFT.part_logits` on tiles of 64 images and
256 texts. All features are random, with the shapes of the base model.
"""

import argparse
import resource
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measuring import machine, peak_memory, print_forms, ratios, times
from caft.network.part_cosines import PartCosines
from caft.network.text_pool import TextConditionedPool

SUB_CAPTIONS, SEGMENTS, DIM, HEADS = 8, 64, 512, 8
PAIRS, LARGE = 128, 2000
REPETITIONS = 3
# Of the whole process at the large size.
MOST_MEMORY_GB = 2.0


def inputs(size: int) -> tuple[TextConditionedPool, Tensor, Tensor]:
    """Pooling, segments (B, N, D) and chunks (Q, C, D)."""
    torch.manual_seed(0)
    pool = TextConditionedPool(DIM, HEADS).requires_grad_(False)
    return pool, torch.randn(size, SEGMENTS, DIM), torch.randn(size, SUB_CAPTIONS, DIM)


def direct(pool: TextConditionedPool, part: Tensor, texts: Tensor) -> Tensor:
    """Mean cosines (B, Q) by the pooled feature of every pair."""
    rows = []
    for images in part.split(64):
        columns = []
        for some in texts.flatten(0, 1).split(256):
            pooled, _ = pool(some.expand(len(images), -1, -1), images)
            columns.append(F.cosine_similarity(pooled, some, dim=-1))
        rows.append(torch.cat(columns, dim=1).unflatten(1, texts.shape[:2]).mean(2))
    return torch.cat(rows)


def tiled(pool: TextConditionedPool, part: Tensor, texts: Tensor) -> Tensor:
    """The same without one."""
    scores = torch.empty(len(part), len(texts))
    for rows, cosines in PartCosines(pool, texts).of_all(part):
        scores[rows] = cosines
    return scores


FORMS = {"direct": direct, "tiled": tiled}


def set_up(form: str, size: int = PAIRS) -> Callable[[], Tensor]:
    """One form on its inputs; a small one has gone before."""
    arguments = inputs(size)
    FORMS[form](*inputs(2))
    return lambda: FORMS[form](*arguments)


def compare() -> None:
    """Prints both forms and their ratio."""
    torch.set_num_threads(1)
    print(machine())
    taken = times({form: set_up(form) for form in FORMS}, REPETITIONS)
    memory = {form: peak_memory(set_up, form) for form in FORMS}
    print(f"{PAIRS} images, {PAIRS} captions, C = {SUB_CAPTIONS}, H = {HEADS}, N = {SEGMENTS}, D = {DIM}")
    print_forms(taken, memory, REPETITIONS)
    print(f"  time: {ratios(taken['tiled'], taken['direct'])}")
    difference = (set_up("tiled", 16)() - set_up("direct", 16)()).abs().max()
    print(f"  largest difference of a cosine: {float(difference):.1e}")


def large() -> None:
    """Prints what the large size takes."""
    torch.set_num_threads(2)
    print(machine())
    run = set_up("tiled", LARGE)
    start, busy = time.perf_counter(), time.process_time()
    run()
    elapsed, busy = time.perf_counter() - start, time.process_time() - busy
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{LARGE} x {LARGE}, C = {SUB_CAPTIONS}, H = {HEADS}, N = {SEGMENTS}, D = {DIM}: {elapsed:.0f} s, "
        f"{busy:.0f} s of processor time; {gigabytes:.2f} GiB in all (at most {MOST_MEMORY_GB:g} wanted)"
    )


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="measure the large size")
    with torch.no_grad():
        large() if parser.parse_args().large else compare()


if __name__ == "__main__":
    main()
