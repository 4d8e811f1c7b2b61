"""Does the match score tell true sentences from false ones? AUROC by what is false, and how many are greyed.

False sentences are a set's own expressions with one attribute changed (`caft.eval.analysis.wording`), expressions of
another image, and words without meaning. Where a set's words name no attribute of the lists, that kind is absent.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from caft.data.sets import ReferringImage, ReferringSet
from caft.eval.analysis.wording import ATTRIBUTES, changed
from caft.eval.scores.features import encode_pictures
from caft.model.encoding import encode_sub_captions
from caft.model.match import SentenceMatch, percentiles, probability
from caft.network.caft import CAFT

IMAGES = 128  # of a set take part: hundreds of true and thousands of false sentences
NONSENSE = (
    "asdfgh qwerty",
    "xkcd zzyzx blorp",
    "qwe rty uio",
    "hjkl hjkl hjkl",
    "vombat frumious gimble",
    "12345 67890",
)


def auroc(true: ArrayLike, false: ArrayLike) -> float:
    """Share of pairs of a true and a false score in which the true one is higher; equal ones count half.

    Raises:
        ValueError: There are no true or no false scores.
    """
    ordered, found = np.sort(np.asarray(false, np.float64)), np.asarray(true, np.float64)
    if not ordered.size or not found.size:
        raise ValueError(f"{found.size} true and {ordered.size} false scores: expected at least one of each")
    return float(percentiles(found, ordered).mean()) / 100


def false_sentences(image: ReferringImage, other: ReferringImage) -> dict[str, list[str]]:
    """Sentences that are not true of an image, by what is false: an attribute, "other_picture", or "nonsense"."""
    own = list(dict.fromkeys(expression.text for expression in image.expressions))
    found = {attribute: [t for text in own for t in changed(text, attribute)] for attribute in ATTRIBUTES}
    found["other_picture"] = [expression.text for expression in other.expressions] if other is not image else []
    kinds = {kind: [text for text in dict.fromkeys(texts) if text not in own] for kind, texts in found.items()}
    return {**kinds, "nonsense": list(NONSENSE)}


def score_match(model: CAFT, benchmark: ReferringSet, references: Sequence[str], batch: int) -> dict[str, Any]:
    """Scores the match of true and false sentences of a set's first `IMAGES` images, in percent.

    Returns:
        - `auroc`: of the probability, which orders sentences as the logit does, by kind and over "all".
        - `auroc_percentile`: of the percentile among the references.
        - `greyed`: share of the sentences that count as not borne out, also of the true ones.
        - `sentences`: how many of each kind.
    """
    images = [image for image in benchmark.images[:IMAGES] if image.expressions]
    matches: dict[str, list[SentenceMatch]] = {"true": []}
    pictures = encode_pictures(model, [i.path for i in images], [(i.height, i.width) for i in images], batch)
    among = encode_sub_captions(model, list(references), batch)
    for number, (image, picture) in enumerate(zip(images, pictures, strict=True)):
        kinds = {"true": [expression.text for expression in image.expressions]}
        kinds |= false_sentences(image, images[(number + 1) % len(images)])
        texts = [text for found in kinds.values() for text in found]
        assert picture.part is not None, "the model has no part level"
        logits = model.part_logits(picture.part, encode_sub_captions(model, texts, batch))[0].float().cpu().numpy()
        places = percentiles(logits, model.part_logits(picture.part, among)[0].float().cpu().numpy())
        rows = map(SentenceMatch, texts, logits.tolist(), probability(logits).tolist(), places.tolist())
        for kind, found in kinds.items():
            matches.setdefault(kind, []).extend(next(rows) for _ in found)
    true = matches.pop("true")
    false = {kind: found for kind, found in matches.items() if found}
    false["all"] = [match for found in false.values() for match in found]
    return {
        "auroc": {k: 100 * auroc([m.logit for m in true], [m.logit for m in found]) for k, found in false.items()},
        "auroc_percentile": {
            k: 100 * auroc([m.percentile for m in true], [m.percentile for m in found]) for k, found in false.items()
        },
        "greyed": {k: _greyed(found) for k, found in {"true": true, **false}.items()},
        "sentences": {k: len(found) for k, found in {"true": true, **false}.items()},
    }


def _greyed(matches: Sequence[SentenceMatch]) -> float:
    return 100 * float(np.mean([not match.borne_out for match in matches]))
