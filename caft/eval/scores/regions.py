"""FG-OVD as CLIP-like models take it: which of eleven descriptions fits the box?"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from caft.data.sets import Missing, Region, RegionSet, load_regions, open_annotated
from caft.eval.leaked import Leaked
from caft.eval.scores.features import encode_pictures
from caft.eval.scores.metrics import counted
from caft.eval.sets import score_sets
from caft.model.encoding import encode_squashed, encode_sub_captions
from caft.model.maps import NO_PART_LEVEL, part_network
from caft.model.protocols import RetrievalModel
from caft.network.caft import CAFT, ImageFeatures
from caft.params import Params
from caft.params.evaluation import BoxMode, Membership
from caft.progress import track

BOX_MODES: tuple[BoxMode, ...] = ("masked_pool", "crop", "avg_pool")


def score_benchmarks(params: Params, model: RetrievalModel, leaked: Leaked | None = None) -> dict[str, dict[str, Any]]:
    """Scores a model on every set of regions of the settings, by set.

    With `leaked`, images by set that were trained on, sets are scored without these too; see `caft.eval.without.twice`.
    """
    network = part_network(model)

    def score(name: str, loaded: RegionSet) -> dict[str, Any]:
        assert network is not None  # else nothing was loaded
        found = score_regions(
            network, loaded, params.evaluation.batch, params.evaluation.membership, params.evaluation.box_mode
        )
        found |= {"skipped": loaded.skipped} if loaded.skipped else {}
        for level, rows in loaded.regions.items():
            counts = counted(f"{level}_rows", len(rows), loaded.expected.get(level))
            found |= counts if len(counts) > 1 or loaded.skipped else {}
        return found

    load = load_regions if network else lambda _: Missing(NO_PART_LEVEL)
    return score_sets(params, {"regions": load}, score, leaked)


def score_regions(
    model: CAFT, benchmark: RegionSet, batch: int, membership: Membership = "hard", mode: BoxMode = "masked_pool"
) -> dict[str, Any]:
    """Scores a model on the files of a set, each box read in three ways.

    - `masked_pool`: the description asks the image with attention limited to the box: the logarithm of each part-level
      segment's weight, that of `box_weights`, is added to the attention logits.
    - `crop`: it asks the box alone, cut out (whole pixels, at least one) and squashed to the model's size.
    - `avg_pool`: it asks nothing: a box is the mean over its pixels of what their segments give to the pooling, its
      values, mapped by its output projection. Nearest to the RoIAlign of CLIP-like models.

    The feature found is compared with the description by the cosine. `mode` is the way whose scores have no prefix.

    Returns:
        For each level (hard, medium, easy, trivial, attributes) the percent of boxes whose right description scores above all
        wrong ones; `<level>_optimistic`, where a tie counts as a hit, as in FG-CLIP's script; `<level>_chance`, that
        of drawing a description; `rows`, all boxes; `box_mode`, the mode; and `by_box_mode`, the first two of each mode.
    """
    texts = sorted({t for rows in benchmark.regions.values() for r in rows for t in (r.positive, *r.negatives)})
    numbers = {text: number for number, text in enumerate(texts)}
    features = encode_sub_captions(model, texts, batch)
    of_image: list[list[tuple[str, int]]] = [[] for _ in benchmark.images]
    for level, rows in benchmark.regions.items():
        for row, region in enumerate(rows):
            of_image[region.image].append((level, row))

    def asked(region: Region) -> Tensor:
        return features[[numbers[text] for text in (region.positive, *region.negatives)]]

    margins = {m: {level: torch.zeros(len(rows)) for level, rows in benchmark.regions.items()} for m in BOX_MODES}
    pictures = encode_pictures(model, benchmark.images, benchmark.sizes, batch)
    for places, size, picture in zip(track(of_image, "images"), benchmark.sizes, pictures, strict=True):
        for level, row in places:
            region = benchmark.regions[level][row]
            weights = box_weights(model, picture, region.box, size, membership)
            scores: dict[BoxMode, Tensor] = {
                "masked_pool": model.box_logits(picture, weights, asked(region)[None])[0],
                "avg_pool": average_cosines(model, picture, region.box, size, asked(region), membership),
            }
            for name, found in scores.items():
                margins[name][level][row] = found[0] - found[1:].max()
    crops = encode_squashed(model, _crops(benchmark, of_image), batch)
    for level, row in (place for places in of_image for place in places):
        part = next(crops).part
        assert part is not None, "the model has no part level"
        found = model.part_logits(part, asked(benchmark.regions[level][row]))[0]
        margins["crop"][level][row] = found[0] - found[1:].max()
    by_mode = {name: _accuracies(of_level) for name, of_level in margins.items()}
    chances = {
        f"{level}_chance": 100.0 * sum(1 / (1 + len(region.negatives)) for region in rows) / len(rows)
        for level, rows in benchmark.regions.items()
    }
    rows_in_all = sum(map(len, benchmark.regions.values()))
    return {"rows": rows_in_all, "box_mode": mode, **by_mode[mode], **chances, "by_box_mode": by_mode}


def _accuracies(margins: Mapping[str, Tensor]) -> dict[str, float]:
    """Percent of margins above zero, and of those that are at least zero."""
    strict = {level: 100.0 * float((found > 0).float().mean()) for level, found in margins.items()}
    return strict | {f"{level}_optimistic": 100.0 * float((m >= 0).float().mean()) for level, m in margins.items()}


def _crops(benchmark: RegionSet, of_image: Sequence[Sequence[tuple[str, int]]]) -> Iterator[Image.Image]:
    """Boxes cut out, image after image."""
    for path, size, places in zip(benchmark.images, benchmark.sizes, of_image, strict=True):
        if places:
            image = open_annotated(path, size)
            for level, row in places:
                yield image.crop(crop_of(benchmark.regions[level][row].box, size))


def crop_of(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the whole pixels that a box touches, inside the image and at least one.

    Args:
        box: x, y, width and height in pixels.
        size: Height and width of the image.
    """
    x, y, width, height = box
    left, top = max(0, min(math.floor(x), size[1] - 1)), max(0, min(math.floor(y), size[0] - 1))
    right, bottom = min(size[1], max(math.ceil(x + width), left + 1)), min(size[0], max(math.ceil(y + height), top + 1))
    return left, top, right, bottom


@torch.no_grad()
def average_cosines(
    model: CAFT,
    image: ImageFeatures,
    box: Sequence[float],
    size: tuple[int, int],
    texts: Tensor,
    membership: Membership = "hard",
) -> Tensor:
    """Cosines of texts (Q, D) with the mean over a box's pixels of their segments' values, (Q,); as `score_regions`."""
    assert model.pool is not None and image.part is not None, "the model has no part level"
    covered, _ = _pixels(model, image, box, size, membership)
    values = model.pool.project_tokens(image.part)[1].flatten(2)[0]  # (N, D)
    mean = model.pool.out((covered / covered.sum()).to(values) @ values)
    return F.cosine_similarity(mean.float(), texts, dim=-1)


def box_weights(
    model: CAFT, image: ImageFeatures, box: Sequence[float], size: tuple[int, int], membership: Membership = "hard"
) -> Tensor:
    """Returns how much of each part-level segment lies in a box.

    Pixels on the box's edge count with the share that is inside, so a box smaller than a pixel still has segments.
    Weights are relative to the largest: the empty slot then competes as it does for the whole image. The box is x, y,
    width and height in pixels of the original image, whose height and width `size` is.

    Returns:
        Share of the segment's pixels inside, over the largest such share, (1, N).
    """
    covered, area = _pixels(model, image, box, size, membership)
    share = covered / area.clamp_min(1e-12)
    return (share / share.max()).float()[None].to(image.whole.device)


def _pixels(
    model: CAFT, image: ImageFeatures, box: Sequence[float], size: tuple[int, int], membership: Membership
) -> tuple[Tensor, Tensor]:
    """Pixels of each part-level segment in a box, and in all, both (N,), float64."""
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
    return covered @ segments, area @ segments


def _coverage(start: float, end: float, side: int) -> Tensor:
    """Length of each of `side` unit intervals that lies between start and end; at the border if these lie outside."""
    start, end = max(0.0, min(start, side - 1e-6)), min(float(side), max(end, 1e-6))
    left = torch.arange(side, dtype=torch.float64)
    return ((left + 1).clamp(max=end) - left.clamp(min=start)).clamp(0, 1)
