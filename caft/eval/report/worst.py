"""A page of its own: the sentences of a corpus that their pictures bear out least, each with picture and map."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from caft.eval.report.page import render
from caft.model.drawing.figures import fit, overlay

MOST = 24  # on a page
_SIDE = 224  # pixels of a picture's longer side in the file


class Worst(NamedTuple):
    """A sentence and its picture.

    Attributes:
        name: Of the picture, and of the caption.
        picture: RGB.
        sentence: As it stands in the caption.
        logit: Part-level, with its own picture.
        support: See `caft.model.support`.
        flagged: Whether it is below the threshold.
        values: Where it looks, (height, width).
    """

    name: str
    picture: Image.Image
    sentence: str
    logit: float
    support: float
    flagged: bool
    values: NDArray[np.float32]


def worst_page(name: str, counts: Mapping[str, Any], cases: Sequence[Worst]) -> str:
    """Returns the page; `name` is the corpus', `counts` as of `caft.eval.analysis.corpus_support.flag`."""
    shown = []
    for case in cases:
        picture = fit(case.picture, _SIDE)
        shown.append((case, [(picture, case.name), (overlay(picture, case.values), "where the sentence looks")]))
    return render("worst.html", name=name, counts=counts, cases=shown)
