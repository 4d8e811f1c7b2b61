"""Measures the part loss, fused against naive: all pairs of 128 images with 8 texts each."""

from collections.abc import Callable
from typing import Literal

import torch

from benchmarks.measuring import machine, peak_memory, print_forms, ratios, times
from caft.loss.part import part_loss
from caft.network.text_pool import TextConditionedPool

IMAGES, SUB_CAPTIONS, DIM = 128, 8, 512
# Heads and segments: the base model's; and two whose norms go by the Gram form.
SIZES = [(8, 64), (8, 32), (1, 64)]
REPETITIONS = 3
# Of the naive form, at the first of the sizes.
MOST_TIME, MOST_MEMORY = 0.8, 0.25


def set_up(
    implementation: Literal["naive", "fused"], heads: int, segments: int, images: int = IMAGES
) -> Callable[[], object]:
    """Inputs, and the forward and backward pass on them; a small one has gone before."""
    torch.manual_seed(0)
    pool = TextConditionedPool(DIM, heads)
    tokens = torch.randn(images, segments, DIM, requires_grad=True)
    texts = torch.randn(images * SUB_CAPTIONS, DIM, requires_grad=True)
    owner = torch.arange(len(texts)) // SUB_CAPTIONS
    scale, bias = torch.tensor(1 / 0.07, requires_grad=True), torch.tensor(-10.0, requires_grad=True)

    def run() -> object:
        loss = part_loss(
            tokens,
            texts,
            owner,
            pool,
            scale,
            bias,
            normaliser=images,
            negatives="all",
            implementation=implementation,
        )
        return torch.autograd.grad(loss, [tokens, texts, scale, bias, *pool.parameters()])

    if images == IMAGES:
        set_up(implementation, heads, segments, images=2)()
    return run


def main() -> None:
    """Prints both forms and their ratios."""
    torch.set_num_threads(1)
    print(machine())
    for number, (heads, segments) in enumerate(SIZES):
        most_time, most_memory = (f"; at most {most} wanted" * (number == 0) for most in (MOST_TIME, MOST_MEMORY))
        forms: tuple[Literal["naive", "fused"], ...] = ("naive", "fused")
        memory: dict[str, float] = {form: peak_memory(set_up, form, heads, segments) for form in forms}
        taken = times({form: set_up(form, heads, segments) for form in forms}, REPETITIONS)
        print(f"B = {IMAGES}, K = {SUB_CAPTIONS}, H = {heads}, N = {segments}, D = {DIM}; forward and backward")
        print_forms(taken, memory, REPETITIONS)
        print(f"  time: {ratios(taken['fused'], taken['naive'])}{most_time}")
        print(f"  memory: {memory['fused'] / memory['naive']:.2f}{most_memory}", flush=True)


if __name__ == "__main__":
    main()
