"""Which attributes does the model bind? Right expressions against the same with one attribute changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from caft.data.sets import ReferringSet
from caft.eval.analysis.examples import ScoredExpression
from caft.eval.analysis.wording import ATTRIBUTES, changed, value_in
from caft.eval.scores.features import encode_pictures
from caft.model.encoding import encode_sub_captions
from caft.network.caft import CAFT


@dataclass(frozen=True)
class Binding:
    """How well right expressions are told from those with one attribute changed; shares in percent."""

    attribute: str  # a key of `ATTRIBUTES`
    expressions: int  # that name it
    against_one: float  # pairs of a right and a changed expression in which the right one scores higher; chance is 50
    against_all: float  # right expressions that score above all their changed ones
    chance: float  # of `against_all`
    # For each value that occurs, how many expressions name it in whichever wording, and the mIoU of their masks.
    by_value: dict[str, tuple[int, float]]


def most_telling(sets: Mapping[str, ReferringSet]) -> str | None:
    """Returns the name of the set whose expressions name the most attributes; None if none names any."""
    counts = {
        name: sum(
            value_in(expression.text, attribute) is not None
            for image in benchmark.images
            for expression in image.expressions
            for attribute in ATTRIBUTES
        )
        for name, benchmark in sets.items()
    }
    best = max(counts, key=lambda name: counts[name], default=None)
    return best if best is not None and counts[best] else None


def score_attributes(model: CAFT, expressions: Sequence[ScoredExpression], batch: int) -> list[Binding]:
    """Scores the part-level logit of each image for right and changed expressions.

    A changed expression that is another right one of the same image is left out. The expressions are of one set; those
    of one image follow each other.
    """
    right: dict[str, list[list[bool]]] = {attribute: [] for attribute in ATTRIBUTES}
    values: dict[str, dict[str, list[float]]] = {attribute: {} for attribute in ATTRIBUTES}
    images = list({case.image.path: case.image for case in expressions}.values())
    sizes = [(image.height, image.width) for image in images]
    pictures = encode_pictures(model, [image.path for image in images], sizes, batch)
    for image, picture in zip(images, pictures, strict=True):
        own = {expression.text for expression in image.expressions}
        asked = {text: {a: [t for t in changed(text, a) if t not in own] for a in ATTRIBUTES} for text in own}
        texts = sorted(own | {t for of_attribute in asked.values() for found in of_attribute.values() for t in found})
        assert picture.part is not None, "the model has no part level"
        logits = model.part_logits(picture.part, encode_sub_captions(model, texts, batch))[0].tolist()
        score = dict(zip(texts, logits, strict=True))
        for text, of_attribute in asked.items():
            for attribute, others in of_attribute.items():
                if others:
                    right[attribute].append([score[text] > score[other] for other in others])
    for case in expressions:
        for attribute in ATTRIBUTES:
            if found := value_in(case.expression.text, attribute):
                plain = ATTRIBUTES[attribute][0][found[1].index(found[0])]
                values[attribute].setdefault(plain, []).append(case.iou)
    return [
        Binding(
            attribute,
            len(rows),
            against_one=100 * float(np.mean([hit for row in rows for hit in row])),
            against_all=100 * float(np.mean([all(row) for row in rows])),
            chance=100 * float(np.mean([1 / (1 + len(row)) for row in rows])),
            by_value={
                value: (len(values[attribute][value]), 100 * float(np.mean(values[attribute][value])))
                for value in ATTRIBUTES[attribute][0]
                if value in values[attribute]
            },
        )
        for attribute, rows in right.items()
        if rows
    ]
