"""Makes sentences about scenes false, one thing at a time: what an auditor of captions is measured by.

A false sentence says of an object another colour, pattern, shape, size or place than it has, of two objects the opposite
relation, of the background another colour, or a wrong number of shapes; "absent" names an object of which neither colour
nor shape is in the scene. Whatever is replaced, no object of the scene is as the sentence says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from caft.data.scenes.captions import ANNOTATORS, NUMBER_WORDS, PLACES, SYNONYMS, Annotator, Sentence
from caft.data.scenes.grammar import BACKGROUNDS, COLOURS, NUM_CELLS, PATTERNS, SHAPES, SIZES, Scene, choice
from caft.storage import write_csv

KINDS = ("colour", "pattern", "shape", "size", "place", "absent", "relation", "background", "count")
_OPPOSITES = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


@dataclass(frozen=True)
class Planted:
    """A sentence that was made false.

    Attributes:
        row: Of the corpus' table, from 0: the ``row_id``.
        caption: Its column, such as "long_ib".
        sentence: Its number in the caption, from 0.
        kind: What is false, one of `KINDS`.
        true: The sentence as it was.
        false: As it is now.
    """

    row: int
    caption: str
    sentence: int
    kind: str
    true: str
    false: str


@dataclass
class Planter:
    """Makes a share of the sentences of a scene's short and long captions false; see `caft.data.scenes.captions.captions`.

    Each sentence by chance and for itself; of the kinds that it allows, all are as likely.

    Attributes:
        rate: Chance of a sentence, in [0, 1].
        rng: Of its own, so that all other words stay as they are.
        row: For `planted`, what was made false so far.
    """

    scene: Scene
    rate: float
    rng: np.random.Generator
    row: int = 0
    planted: list[Planted] = field(default_factory=list)

    def __call__(self, annotator: str, length: str, sentences: list[Sentence]) -> list[Sentence]:
        """Returns the sentences, some of them false."""
        result = []
        for number, sentence in enumerate(sentences):
            if self.rng.random() < self.rate and (found := falsehoods(sentence, self.scene, annotator, self.rng)):
                kind = choice(tuple(found), self.rng)
                column = f"{length}_{annotator}"
                self.planted.append(Planted(self.row, column, number, kind, sentence.text, found[kind]))
                sentence = Sentence(found[kind], sentence.object)
            result.append(sentence)
        return result


def write_truth(path: Path, planted: Iterable[Planted]) -> None:
    """Writes which sentences were made false, as a CSV with a column for each attribute of `Planted`."""
    write_csv(path, tuple(Planted.__dataclass_fields__), map(asdict, planted))


def falsehoods(sentence: Sentence, scene: Scene, annotator: str, rng: np.random.Generator) -> dict[str, str]:
    """Returns a sentence made false in each way that it allows, by kind, in the annotator's own words."""
    style, text = ANNOTATORS[annotator], sentence.text
    if sentence.object is not None:
        found = _about_object(text, scene, sentence.object, style, rng)
    elif relation := next((words for words in _OPPOSITES if f" {words} " in text), None):
        found = {"relation": _replaced(text, relation, _OPPOSITES[relation])}
    elif style.short.startswith("{count}") and (number := NUMBER_WORDS[len(scene.objects)]) in text.lower().split():
        others = _others(tuple(NUMBER_WORDS.values()), number)
        found = {"count": _replaced(text, number, choice(others, rng))}
    elif re.search(rf"\b{scene.background}\b", text) and not any(shape in text for shape in SHAPES):
        found = {"background": _replaced(text, scene.background, choice(_others(BACKGROUNDS, scene.background), rng))}
    else:
        found = {}
    return found


def _about_object(text: str, scene: Scene, index: int, style: Annotator, rng: np.random.Generator) -> dict[str, str]:
    item = scene.objects[index]
    named = {(other.shape, other.colour) for other in scene.objects}
    colours = tuple(colour for colour in COLOURS if (item.shape, colour) not in named)
    shapes = tuple(shape for shape in SHAPES if (shape, item.colour) not in named)
    found = {
        "colour": _replaced(text, item.colour, choice(colours, rng)),
        "shape": _replaced(text, item.shape, choice(shapes, rng)),
    }
    for kind, own, values in (("pattern", item.pattern, PATTERNS), ("size", item.size, SIZES)):
        said = next((word for word in SYNONYMS[own] if re.search(rf"\b{word}\b", text, re.I)), None)
        if said is not None:
            other = choice(_others(values, own), rng)
            found[kind] = _replaced(text, said, choice(SYNONYMS[other], rng) if style.synonyms else other)
    place = PLACES[item.cell][style.wording]
    if re.search(rf"\b{place}\b", text, re.I):
        cells = [cell for cell in range(NUM_CELLS) if cell != item.cell]
        found["place"] = _replaced(text, place, PLACES[cells[int(rng.integers(len(cells)))]][style.wording])
    new_colour = choice(_others(COLOURS, *(other.colour for other in scene.objects)), rng)
    new_shape = choice(_others(SHAPES, *(other.shape for other in scene.objects)), rng)
    found["absent"] = _replaced(_replaced(text, item.colour, new_colour), item.shape, new_shape)
    return found


def _others(values: Sequence[str], *excluded: str) -> tuple[str, ...]:
    return tuple(value for value in values if value not in excluded)


def _replaced(text: str, old: str, new: str) -> str:
    """Returns the text with other words, the article before them and a capital at the beginning as these need."""
    text = re.sub(rf"\b{old}\b", new, text, count=1, flags=re.IGNORECASE)
    text = re.sub(r"\b([Aa])n? (?=(\w))", lambda found: found[1] + ("n " if found[2] in "aeiou" else " "), text)
    return text[0].upper() + text[1:]
