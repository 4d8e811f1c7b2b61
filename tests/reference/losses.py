"""The losses as nested loops over pairs, in plain formulas, for small inputs; differentiable."""

import torch
from torch import Tensor
from torch.nn import functional as F

from caft.network.text_pool import TextConditionedPool


def pooled(pool: TextConditionedPool, text: Tensor, segments: Tensor) -> Tensor:
    """One image's segments (N, D) as one text (D,) pools them, head by head and segment by segment."""
    query = pool.query(pool.norm_query(text)).chunk(pool.heads)
    keys = [pool.key(pool.norm_key(segment)).chunk(pool.heads) for segment in segments]
    values = [pool.value(pool.norm_value(segment)).chunk(pool.heads) for segment in segments]
    mixed = []
    for head in range(pool.heads):
        logits = [(query[head] * key[head]).sum() / len(query[head]) ** 0.5 for key in keys]
        weights = [logit.exp() for logit in logits]
        mass = sum(weights) + 1  # of the empty slot, whose logit and value are zero
        mixed.append(sum(weight / mass * value[head] for weight, value in zip(weights, values, strict=True)))
    return pool.out(torch.cat(mixed))


def pair_loss(image: Tensor, text: Tensor, positive: bool, scale: Tensor, bias: Tensor) -> Tensor:
    """log(1 + exp(-y (s cos + b))) of one image feature and one text feature."""
    logit = scale * F.cosine_similarity(image, text, dim=0, eps=1e-24) + bias
    return torch.logaddexp(torch.zeros_like(logit), -logit if positive else logit)


def part_loss(
    tokens: Tensor,
    texts: Tensor,
    table: list[list[int]],
    pool: TextConditionedPool,
    scale: Tensor,
    bias: Tensor,
    sub_captions: int,
    first_image: int = 0,
) -> Tensor:
    """Summed loss of images (B, N, D) with the texts (T, D) of their rows of the table."""
    total = texts.new_zeros(())
    for image, (segments, row) in enumerate(zip(tokens, table, strict=True)):
        for text in row:
            positive = text // sub_captions == first_image + image
            total = total + pair_loss(pooled(pool, texts[text], segments), texts[text], positive, scale, bias)
    return total


def whole_loss(images: Tensor, captions: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Summed loss of all images (B, D) with all captions (B, D), of which each has one."""
    total = images.new_zeros(())
    for i, image in enumerate(images):
        for j, caption in enumerate(captions):
            total = total + pair_loss(image, caption, i == j, scale, bias)
    return total
