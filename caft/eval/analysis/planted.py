"""How well support tells false sentences from true ones, by what is false: on scenes in which they are planted.

The scenes are held out: of the stream `RANDOM`, which no training renders. Each seed has other scenes and other false
sentences, so that the intervals are those of both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from caft.data.scenes.captions import Sentence, captions
from caft.data.scenes.false_sentences import KINDS, Planter, falsehoods
from caft.data.scenes.grammar import COLOURS, FALSE, PIXELS, RANDOM, SPEC, WORDS, Scene, generator, random_scene
from caft.data.scenes.render import render
from caft.eval.analysis.curves import Interval, over_seeds
from caft.eval.analysis.matching import auroc
from caft.model.support import OTHERS, Judge, least_support
from caft.network.caft import CAFT

ELSEWHERE = "colour of another object"  # those of the kind colour whose false colour is in the picture all the same
FIRST_SEED = 1000  # of the scenes; no set is rendered from it


@dataclass(frozen=True)
class Case:
    """A sentence of a scene.

    Attributes:
        picture: Number of the scene.
        text: As it is said, without a stop at the end.
        kind: What is false; "" for a true one.
        could: What could have been made false of it.
        elsewhere: Whether it is of the kind `ELSEWHERE`.
    """

    picture: int
    text: str
    kind: str
    could: tuple[str, ...]
    elsewhere: bool = False


def cases_of(scene: Scene, number: int, seed: int, rate: float) -> list[Case]:
    """Sentences of the seven captions of a scene but for the raw one, as `caft.data.scenes.captions` writes them."""
    plant = Planter(scene, rate, generator(seed, RANDOM, number, FALSE))
    found: list[Case] = []

    def note(annotator: str, length: str, sentences: list[Sentence]) -> list[Sentence]:
        before = len(plant.planted)
        said = plant(annotator, length, sentences)
        kinds = {planted.sentence: planted for planted in plant.planted[before:]}
        for place, (sentence, now) in enumerate(zip(sentences, said, strict=True)):
            could = tuple(falsehoods(sentence, scene, annotator, np.random.default_rng(0)))
            kind = kinds[place].kind if place in kinds else ""
            words = set(now.text.lower().split())
            false_colour = next((colour for colour in COLOURS if colour in words), "") if kind == "colour" else ""
            elsewhere = any(item.colour == false_colour for item in scene.objects)
            found.append(Case(number, now.text.rstrip("."), kind, could, elsewhere))
        return said

    captions(scene, generator(seed, RANDOM, number, WORDS), note)
    return found


def measure(network: CAFT, scenes: int, rate: float, seed: int, image_size: int) -> dict[str, dict[str, float]]:
    """Scores one seed's scenes.

    Returns:
        By kind, of `KINDS` and `ELSEWHERE`, and "all": `sentences` that are false; `auroc` of support among true sentences of
        which the same could have been made false, `auroc_logit` of the bare logit among the same, `auroc_all` of support
        among all true sentences, and `flagged`, the share below `least_support`, all in percent. "true" has `sentences` and
        `flagged` of the true ones, "flags" has `false`: the share of what is flagged that is false.
    """
    described = [random_scene(generator(seed, RANDOM, number, SPEC)) for number in range(scenes)]
    pictures = [
        Image.fromarray(np.asarray(render(scene, generator(seed, RANDOM, number, PIXELS), image_size).image))
        for number, scene in enumerate(described)
    ]
    cases = [cases_of(scene, number, seed, rate) for number, scene in enumerate(described)]
    judge = Judge.of(network, range(scenes)[:OTHERS], pictures[:OTHERS])
    scored = judge.score(range(scenes), pictures, [[case.text for case in some] for some in cases])
    flat = [case for some in cases for case in some]
    return _by_kind(flat, scored.support, scored.logits)


def _by_kind(cases: Sequence[Case], support: np.ndarray, logits: np.ndarray) -> dict[str, dict[str, float]]:
    true = np.array([not case.kind for case in cases])
    flagged = support < least_support(support)
    kinds = np.array([case.kind for case in cases])
    which = {kind: kinds == kind for kind in KINDS}
    which[ELSEWHERE] = which["colour"] & np.array([case.elsewhere for case in cases])
    which["all"] = ~true
    found: dict[str, dict[str, float]] = {}
    for kind, false in which.items():
        of = "colour" if kind == ELSEWHERE else kind
        among = true & np.array([kind == "all" or of in case.could for case in cases])
        if false.any() and among.any():
            found[kind] = {
                "sentences": int(false.sum()),
                "auroc": 100 * auroc(support[among], support[false]),
                "auroc_logit": 100 * auroc(logits[among], logits[false]),
                "auroc_all": 100 * auroc(support[true], support[false]),
                "flagged": 100 * float(flagged[false].mean()),
            }
    found["true"] = {"sentences": int(true.sum()), "flagged": 100 * float(flagged[true].mean())}
    found["flags"] = {"false": 100 * float((~true)[flagged].mean()) if flagged.any() else 100.0}
    return found


def over_plantings(network: CAFT, scenes: int, rate: float, seeds: int, image_size: int) -> dict[str, dict[str, Any]]:
    """`measure` over seeds: means with Student's 95 % interval; AUROC and shares are bounded at 0 and 100."""
    runs = [measure(network, scenes, rate, FIRST_SEED + seed, image_size) for seed in range(seeds)]
    kinds = [kind for kind in runs[0] if all(kind in found for found in runs)]
    return {
        kind: {key: _bounded(over_seeds([found[kind][key] for found in runs]), key) for key in runs[0][kind]}
        for kind in kinds
    }


def _bounded(found: Interval, key: str) -> Any:
    if key == "sentences":
        return round(found.value, 1)
    low, high = found.low, found.high
    return Interval(
        found.value, None if low is None else max(0.0, low), None if high is None else min(100.0, high), found.sd
    ).rounded()
