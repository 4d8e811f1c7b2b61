"""Composition suites: is the true caption of a picture above the false ones that say the same words of other things?

Captions are read as in retrieval: by the whole score, by the part score and by their blends (CAFT++). A tie is a miss.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from caft.captions.tokenizer import CONTEXT, encode
from caft.data.sets import CompositionSet, Question
from caft.eval.scores.metrics import counted
from caft.model.encoding import encode_captions, encode_cropped
from caft.model.protocols import RetrievalModel
from caft.model.scores import blend, some_part_scores, whole_scores
from caft.params.evaluation import EvaluationParams
from caft.progress import track

# Questions whose views and captions are held at once.
_AT_ONCE = 256


def score_composition(model: RetrievalModel, benchmark: CompositionSet, settings: EvaluationParams) -> dict[str, Any]:
    """Scores a model on a set.

    Returns:
        `accuracy`, what `accuracies` gives for each score (whole, part, blends; null for a model without a part
        level); `chance`, what drawing gives, by accuracy; `questions`, how many; and `same_captions`, if there are any,
        how many questions have two captions that a model reads alike, so that it ties.
    """
    levels = _levels(model, benchmark.questions, settings.batch)
    scores = {"whole": levels["whole"], "part": levels.get("part")}
    for weight in settings.blend:
        mixed = None
        if "part" in levels:
            mixed = blend(model.network, levels["whole"], levels["part"], weight, settings.blend_space)
        scores[f"blend_{weight:g}"] = mixed
    categories = [question.category for question in benchmark.questions]
    found = {
        name: None if values is None else accuracies(values.numpy(), categories, benchmark.macro)
        for name, values in scores.items()
    }
    same = sum(len({_as_read(caption) for caption in q.captions}) < len(q.captions) for q in benchmark.questions)
    counts = counted("questions", len(benchmark.questions), benchmark.expected)
    shape = levels["whole"].shape
    return {"accuracy": found, "chance": chances(*shape[1:]), **counts, **({"same_captions": same} if same else {})}


def accuracies(scores: ArrayLike, categories: Sequence[str], macro: Sequence[str] = ()) -> dict[str, Any]:
    """Returns which questions a score answers, in percent.

    Args:
        scores: Of each view with each caption of its question, (questions, views, captions); caption i is true of view i.
        categories: Category of each question, (questions,).
        macro: Categories whose accuracies are averaged.

    Returns:
        - `text`: the true caption of every view of the question is above all others. With two views it is Winoground's
          text score, with one the accuracy of SugarCrepe and ARO.
        - `image` and `group`, with several views: every view is above all others for its caption; and both.
        - `text_macro`: the mean over `macro` of their `text`; only where there are any.
        - `tied`: questions, not percent, where a wrong caption or view has exactly the score of the right one.
        - `by_category`: `text` (with several views `image` and `group`, too) of each category, by its name.

    Raises:
        ValueError: Shapes do not fit, or a score is NaN.
    """
    values = np.asarray(scores)
    if values.ndim != 3 or not values.size or values.shape[1] > values.shape[2] or len(values) != len(categories):
        raise ValueError(
            f"expected scores (questions, views, captions), found {values.shape}, {len(categories)} categories"
        )
    if bad := int(np.isnan(values).sum()):
        raise ValueError(f"scores: {bad} of {values.size} are NaN")
    hits, tied = {}, np.zeros(len(values), bool)
    for name, across in (("text", values), ("image", values[:, :, : values.shape[1]].transpose(0, 2, 1))):
        if across.shape[2] > 1:
            hits[name], ties = _first(across)
            tied |= ties
    if "image" in hits:
        hits["group"] = hits["text"] & hits["image"]
    labels = np.asarray(categories)
    by_category = {
        category: {name: 100.0 * float(found[labels == category].mean()) for name, found in hits.items()}
        for category in sorted(set(categories))
    }
    found: dict[str, Any] = {name: 100.0 * float(hit.mean()) for name, hit in hits.items()}
    if macro:
        found["text_macro"] = float(np.mean([by_category[category]["text"] for category in macro]))
    return found | {"tied": int(tied.sum()), "by_category": by_category}


def _first(scores: NDArray[np.floating]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which questions have candidate i first for each asker i, and which have a tie there; (questions, askers, candidates)."""
    askers = np.arange(scores.shape[1])
    right = scores[:, askers, askers][..., None]  # (questions, askers, 1)
    wrong = np.ones(scores.shape[1:], bool)
    wrong[askers, askers] = False
    lost, tied = (np.asarray((beside & wrong).any((1, 2))) for beside in (scores >= right, scores == right))
    return ~lost, tied


def chances(views: int, captions: int) -> dict[str, float]:
    """Percent that scores drawn at random would give, by accuracy; several views have as many captions, two each.

    Raises:
        ValueError: There is another number of several views.
    """
    if views == 1:
        return {"text": 100.0 / captions}
    if (views, captions) != (2, 2):
        raise ValueError(f"{views} views and {captions} captions; known are one view, and two with two captions")
    # Both right ones must be above both wrong ones for the group: 4 of the 24 orders of four scores.
    return {"text": 25.0, "image": 25.0, "group": 100.0 / 6}


def _as_read(caption: str) -> tuple[int, ...]:
    return tuple(encode(caption)[: CONTEXT - 2])


@torch.no_grad()
def _levels(model: RetrievalModel, questions: Sequence[Question], batch: int) -> dict[str, Tensor]:
    """Scores of each level, (questions, views, captions): `whole`, and `part` if the model has it."""
    blocks: dict[str, list[Tensor]] = {}
    for block in track(list(_blocks(questions)), "blocks of questions"):
        for level, values in _block(model, block, batch).items():
            blocks.setdefault(level, []).append(values)
    return {level: torch.cat(values) for level, values in blocks.items()}


def _blocks(questions: Sequence[Question]) -> Iterator[list[Question]]:
    left = iter(questions)
    while block := list(islice(left, _AT_ONCE)):
        yield block


def _block(model: RetrievalModel, questions: Sequence[Question], batch: int) -> Mapping[str, Tensor]:
    """As `_levels`; a view or caption that several questions have is encoded once."""
    views = {view: n for n, view in enumerate(dict.fromkeys(view for q in questions for view in q.views))}
    texts = {text: n for n, text in enumerate(dict.fromkeys(text for q in questions for text in q.captions))}
    images = encode_cropped(model.network, [view.picture for view in views], batch)
    captions = encode_captions(model, list(texts), batch)
    rows = torch.tensor([[views[view] for view in q.views] for q in questions])[:, :, None]  # (n, views, 1)
    columns = torch.tensor([[texts[text] for text in q.captions] for q in questions])[:, None]  # (n, 1, captions)
    found = {"whole": whole_scores(model.network, images.whole, captions.whole)[rows, columns]}
    if images.part is not None and captions.parts is not None:
        wanted = [torch.unique(columns.expand(-1, rows.shape[1], -1)[(rows == n)[..., 0]]) for n in range(len(views))]
        matrix = torch.full((len(views), len(texts)), torch.nan)
        for n, values in enumerate(some_part_scores(model.network, images.part, captions.parts, wanted)):
            matrix[n, wanted[n]] = values
        found["part"] = matrix[rows, columns]
    return found
