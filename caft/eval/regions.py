"""FG-OVD as CLIP-like models take it: which of eleven descriptions fits the box?"""

from collections.abc import Sequence

import torch
from torch import Tensor

from caft.data.benchmarks import RegionSet
from caft.eval.features import encode_pictures
from caft.inference import encode_texts
from caft.model import CAFT, ImageFeatures
from caft.params import Membership
from caft.progress import track


def score_regions(
    model: CAFT, benchmark: RegionSet, batch: int, membership: Membership = "hard"
) -> dict[str, float | int]:
    """Scores a model on the files of a set.

    A box asks its image with attention limited to the box: the logarithm of each part-level segment's weight, that of
    `box_weights`, is added to the attention logits, and the pooled feature is compared with each description.

    Args:
        model: The model.
        benchmark: The set.
        batch: Images or texts encoded at once.
        membership: Of superpixels in segments, as in `CAFT.segment_weights`.

    Returns:
        For each level (hard, medium, easy, trivial, attributes) the percent of boxes whose right description scores above all
        wrong ones; `<level>_optimistic`, where a tie counts as a hit, as in FG-CLIP's script; `<level>_chance`, that
        of drawing a description; and `rows`, all boxes.
    """
    texts = sorted({t for rows in benchmark.regions.values() for r in rows for t in (r.positive, *r.negatives)})
    numbers = {text: number for number, text in enumerate(texts)}
    features = encode_texts(model, texts, batch)
    of_image: list[list[tuple[str, int]]] = [[] for _ in benchmark.images]
    for level, rows in benchmark.regions.items():
        for row, region in enumerate(rows):
            of_image[region.image].append((level, row))
    margins = {level: torch.zeros(len(rows)) for level, rows in benchmark.regions.items()}
    pictures = encode_pictures(model, benchmark.images, benchmark.sizes, batch)
    for places, size, picture in zip(track(of_image, "images"), benchmark.sizes, pictures, strict=True):
        for level, row in places:
            region = benchmark.regions[level][row]
            asked = [numbers[text] for text in (region.positive, *region.negatives)]
            weights = box_weights(model, picture, region.box, size, membership)
            logits = model.box_logits(picture, weights, features[asked][None])[0]
            margins[level][row] = logits[0] - logits[1:].max()
    scores: dict[str, float | int] = {"rows": sum(map(len, benchmark.regions.values()))}
    for level, rows in benchmark.regions.items():
        scores[level] = 100.0 * float((margins[level] > 0).float().mean())
        scores[f"{level}_optimistic"] = 100.0 * float((margins[level] >= 0).float().mean())
        scores[f"{level}_chance"] = 100.0 * sum(1 / (1 + len(region.negatives)) for region in rows) / len(rows)
    return scores


def box_weights(
    model: CAFT, image: ImageFeatures, box: Sequence[float], size: tuple[int, int], membership: Membership = "hard"
) -> Tensor:
    """Returns how much of each part-level segment lies in a box.

    Pixels on the box's edge count with the share that is inside, so a box smaller than a pixel still has segments.
    Weights are relative to the largest: the empty slot then competes as it does for the whole image.

    Args:
        model: The model.
        image: Features of one image, B = 1.
        box: x, y, width and height in pixels of the original image.
        size: Height and width of the original image.
        membership: Of superpixels in segments, as in `CAFT.segment_weights`.

    Returns:
        Share of the segment's pixels inside, over the largest such share, (1, N).
    """
    side = image.labels.shape[1]
    x, y, width, height = box
    inside = torch.outer(
        _coverage(y / size[0] * side, (y + height) / size[0] * side, side),
        _coverage(x / size[1] * side, (x + width) / size[1] * side, side),
    )  # (S, S)
    labels = image.labels[0].flatten().cpu()
    superpixels = model.config.tokens[0]
    area = torch.bincount(labels, minlength=superpixels).double()
    covered = torch.bincount(labels, inside.flatten(), minlength=superpixels).double()
    segments = model.segment_weights(image, membership)[0].cpu().double()  # (N_1, N)
    share = (covered @ segments) / (area @ segments).clamp_min(1e-12)
    return (share / share.max()).float()[None].to(image.whole.device)


def _coverage(start: float, end: float, side: int) -> Tensor:
    """Length of each of `side` unit intervals that lies between start and end; at the border if these lie outside."""
    start, end = max(0.0, min(start, side - 1e-6)), min(float(side), max(end, 1e-6))
    left = torch.arange(side, dtype=torch.float64)
    return ((left + 1).clamp(max=end) - left.clamp(min=start)).clamp(0, 1)
