"""Evaluation sets without some of their images, for a second score without those that were trained on."""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from caft.data.sets import CompositionSet, ReferringSet, RegionSet, RetrievalSet, SegmentationSet, ZeroShotSet
from caft.data.sets.groups import Group
from caft.eval.leaked import UNKNOWN, Leaked


def twice(
    score: Callable[[str, Any], dict[str, Any]], name: str, loaded: Any, folder: Path, leaked: Leaked
) -> dict[str, Any]:
    """Scores a set as it is and, if images of it have leaked, once more without them.

    Args:
        score: Gives the scores for the name and the content of a set.
        name: Of the set.
        loaded: Its content.
        folder: That of the set.
        leaked: Images by set; of a set that is not among them nothing is known.

    Returns:
        The scores; `leaked_images`, how many of the set's images have leaked, or "unknown"; and if some have,
        `without_leaked`, the scores without them, or None where no image is left.
    """
    scores = score(name, loaded)
    if name not in leaked:
        return scores | {"leaked_images": UNKNOWN}
    count, rest = without(loaded, folder, leaked[name])
    if not count:
        return scores | {"leaked_images": 0}
    return scores | {"leaked_images": count, "without_leaked": None if rest is None else score(name, rest)}


def without(loaded: Any, folder: Path, images: Collection[str]) -> tuple[int, Any]:
    """Returns how many images of a set are among some, and the set without these and all that belongs to them.

    That are captions, which are then neither queries nor candidates, expressions, boxes, labels and questions. The rest
    counts as whole: no publisher says how many there should be. None if nothing is left to score.
    """
    paths = [image.path for image in loaded.images] if isinstance(loaded, ReferringSet) else loaded.images
    kept = [place for place, path in enumerate(paths) if os.path.relpath(path, folder) not in images]
    count = len(paths) - len(kept)
    return count, _only(loaded, kept) if kept else None


def _only(loaded: Any, kept: list[int]) -> Any:
    """A set of any kind with some of its images, by their places."""
    if isinstance(loaded, CompositionSet):
        return _questions(loaded, {loaded.images[place] for place in kept})
    if isinstance(loaded, SegmentationSet):
        return replace(loaded, labelled=[loaded.labelled[place] for place in kept], expected=None)
    images, now = [loaded.images[place] for place in kept], {place: number for number, place in enumerate(kept)}
    if isinstance(loaded, ReferringSet):
        return replace(loaded, images=images, expected=None)
    if isinstance(loaded, ZeroShotSet):
        return replace(loaded, images=images, labels=[loaded.labels[place] for place in kept], expected=None)
    if isinstance(loaded, RegionSet):
        left = {
            level: [replace(row, image=now[row.image]) for row in rows if row.image in now]
            for level, rows in loaded.regions.items()
        }
        sizes = [loaded.sizes[place] for place in kept]
        regions = {level: rows for level, rows in left.items() if rows}
        return replace(loaded, images=images, sizes=sizes, regions=regions, expected={}, skipped={})
    assert isinstance(loaded, RetrievalSet)
    owners = range(len(loaded.captions)) if loaded.truth is None else loaded.truth
    captions = [caption for caption, owner in enumerate(owners) if owner in now]
    return replace(
        loaded,
        ids=[loaded.ids[caption] for caption in captions],
        images=images,
        captions=[loaded.captions[caption] for caption in captions],
        truth=None if loaded.truth is None else [now[loaded.truth[caption]] for caption in captions],
        expected=None,
        groups=_groups(loaded, now),
    )


def _questions(loaded: CompositionSet, kept: set[Path]) -> CompositionSet | None:
    """The questions of which no view has gone, and the categories that they are of."""
    questions = [question for question in loaded.questions if all(view.path in kept for view in question.views)]
    present = {question.category for question in questions}
    macro = tuple(category for category in loaded.macro if category in present)
    return replace(loaded, questions=questions, macro=macro, expected=None) if questions else None


def _groups(loaded: RetrievalSet, now: Mapping[int, int]) -> tuple[Group, ...]:
    """Groups by new places; one of which a single pair is left is none."""
    left = [replace(group, members=tuple(now[one] for one in group.members if one in now)) for group in loaded.groups]
    return tuple(group for group in left if len(group.members) > 1)
