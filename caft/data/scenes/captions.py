"""Writes about scenes: a poor web caption, and a short and a long one by each of three annotators.

The annotators differ as captioning models do: in style, in synonyms, and in what they leave out.
Whatever they say is true of the scene, and they always name colour and shape, which together
name one object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from caft.data.scenes.grammar import Scene, SceneObject, choice

# Two wordings of each place, row by row.
PLACES = (
    ("at the top left", "in the upper left corner"),
    ("at the top center", "in the upper middle"),
    ("at the top right", "in the upper right corner"),
    ("at the middle left", "on the left side"),
    ("at the center", "in the middle"),
    ("at the middle right", "on the right side"),
    ("at the bottom left", "in the lower left corner"),
    ("at the bottom center", "in the lower middle"),
    ("at the bottom right", "in the lower right corner"),
)
SYNONYMS = {
    "large": ("large", "big", "huge"),
    "small": ("small", "little", "tiny"),
    "plain": ("plain", "solid"),
    "striped": ("striped", "banded"),
    "dotted": ("dotted", "spotted"),
    "smooth": ("smooth", "soft"),
    "tiled": ("tiled", "checked"),
    "grainy": ("grainy", "rough"),
}
NUMBER_WORDS = {2: "two", 3: "three", 4: "four"}
OMISSION = 0.25  # chance that the third annotator leaves out pattern or place of an object
MISSING = 0.01  # chance that a short caption is missing, as some are in the published tables
NEW_LINE = 0.125  # chance that the second annotator ends a paragraph after a sentence


@dataclass(frozen=True)
class Sentence:
    """A sentence, and the index of the one object that it describes, if it does."""

    text: str
    object: int | None = None


@dataclass(frozen=True)
class Annotator:
    """How one annotator writes.

    Attributes:
        wording: Which of the two wordings of a place.
        synonyms: Whether words are varied, or always the plain ones.
        omits: Whether pattern or place is sometimes left out.
        objects: Sentences on an object, with `{thing}` and `{place}`.
        background: Sentence on the background, with `{texture}` and `{colour}`.
        relation: Sentence on two objects, with `{first}`, `{relation}` and `{second}`.
        short: The short caption, with `{count}`, `{things}`, `{texture}` and `{colour}`.
    """

    wording: int
    synonyms: bool
    names_size: bool
    omits: bool
    objects: tuple[str, ...]
    background: str
    relation: str
    short: str


ANNOTATORS = {
    "ib": Annotator(
        wording=0,
        synonyms=False,
        names_size=False,
        omits=False,
        objects=("There is {thing} {place}.", "{thing} is {place}."),
        background="The background is {texture} and {colour}.",
        relation="The {first} is {relation} the {second}.",
        short="{things} on a {colour} background.",
    ),
    "sv": Annotator(
        wording=1,
        synonyms=True,
        names_size=True,
        omits=False,
        objects=("{place}, there is {thing}.", "{thing} appears {place}."),
        background="Everything is set against a {texture} {colour} surface.",
        relation="The {first} sits {relation} the {second}.",
        short="{count} shapes on a {texture} {colour} surface: {things}.",
    ),
    "lla": Annotator(
        wording=0,
        synonyms=True,
        names_size=True,
        omits=True,
        objects=("The image shows {thing} {place}.", "I can see {thing} {place}."),
        background="Behind the shapes, the ground is {colour} and {texture}.",
        relation="One finds the {first} {relation} the {second}.",
        short="The image shows {things}.",
    ),
}

RAW = (
    "{thing} picture",
    '"{thing}" clip art',
    "{thing} on {background} background, free download",
    "{thing} and {other}",
)


def describers(kind: str) -> tuple[str, ...]:
    """Annotators who always say what look-alike scenes of a kind differ in."""
    thorough = (name for name, style in ANNOTATORS.items() if not style.omits)
    return tuple(name for name in thorough if kind != "size" or ANNOTATORS[name].names_size)


def phrase(item: SceneObject, place: str | None = None) -> str:
    """Returns an object in plain words: "a large striped red star", with `place` appended."""
    words = f"{item.size} {item.pattern} {item.colour} {item.shape}"
    return with_article(words if place is None else f"{words} {place}")


def with_article(words: str) -> str:
    """Returns the words with "a" or "an" in front."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def long_caption(scene: Scene, annotator: str, rng: np.random.Generator) -> list[Sentence]:
    """Returns one sentence an object, one on the background and one on a relation, shuffled.

    `annotator` is a key of `ANNOTATORS`; `rng` draws words, templates, omissions and the order.
    """
    style = ANNOTATORS[annotator]
    sentences = [Sentence(_describe(item, style, rng), index) for index, item in enumerate(scene.objects)]
    word = _vocabulary(style, rng)
    sentences.append(Sentence(style.background.format(texture=word(scene.texture), colour=scene.background)))
    sentences.append(Sentence(_relate(scene, style, rng)))
    return [sentences[position] for position in rng.permutation(len(sentences))]


def short_caption(scene: Scene, annotator: str, rng: np.random.Generator) -> str:
    """Returns one sentence that gives the gist."""
    style = ANNOTATORS[annotator]
    named = [with_article(_name(item)) for item in scene.objects]
    rng.shuffle(named)
    sentence = style.short.format(
        count=NUMBER_WORDS[len(named)],
        things=f"{', '.join(named[:-1])} and {named[-1]}",
        texture=_vocabulary(style, rng)(scene.texture),
        colour=scene.background,
    )
    return _capitalised(sentence)


def raw_caption(scene: Scene, rng: np.random.Generator) -> str:
    """Returns what a web page might say of the picture: little, in poor grammar."""
    first, second = rng.permutation(len(scene.objects))[:2]
    return choice(RAW, rng).format(
        thing=_name(scene.objects[first]),
        other=_name(scene.objects[second]),
        background=scene.background,
    )


Revise = Callable[[str, str, list[Sentence]], list[Sentence]]


def captions(scene: Scene, rng: np.random.Generator, revise: Revise | None = None) -> list[str]:
    """Returns the seven captions in the order of the published tables.

    Raw, then short and long of each annotator. Short ones are now and then empty; some long ones
    have line breaks. `revise` gets the annotator, "short" or "long", and the sentences, and returns as many.
    """
    row = [raw_caption(scene, rng)]
    for annotator in ANNOTATORS:
        short = [Sentence(short_caption(scene, annotator, rng))]
        missing = rng.random() < MISSING
        long = long_caption(scene, annotator, rng)
        if revise is not None:
            short = short if missing else revise(annotator, "short", short)
            long = revise(annotator, "long", long)
        row.append("" if missing else short[0].text)
        row.append(join(long, annotator, rng))
    return row


def join(sentences: list[Sentence], annotator: str, rng: np.random.Generator) -> str:
    """Returns the sentences as one text; the second annotator writes in paragraphs."""
    text = sentences[0].text
    for sentence in sentences[1:]:
        ends_paragraph = annotator == "sv" and rng.random() < NEW_LINE
        text += ("\n" if ends_paragraph else " ") + sentence.text
    return text


def _describe(item: SceneObject, style: Annotator, rng: np.random.Generator) -> str:
    word = _vocabulary(style, rng)
    omitted = None
    if style.omits and rng.random() < OMISSION:
        omitted = choice(("pattern", "place"), rng)
    words = [word(item.size)] if style.names_size else []
    words += [word(item.pattern)] if omitted != "pattern" else []
    words += [item.colour, item.shape]
    place = "" if omitted == "place" else PLACES[item.cell][style.wording]
    sentence = choice(style.objects, rng).format(thing=with_article(" ".join(words)), place=place)
    return _capitalised(sentence.replace(" .", "."))


def _relate(scene: Scene, style: Annotator, rng: np.random.Generator) -> str:
    """Returns a sentence on how two objects lie to each other, by the rows and columns of cells."""
    first, second = (scene.objects[i] for i in rng.permutation(len(scene.objects))[:2])
    relations = []
    if first.column != second.column:
        relations.append("left of" if first.column < second.column else "right of")
    if first.row != second.row:
        relations.append("above" if first.row < second.row else "below")
    return style.relation.format(first=_name(first), relation=choice(tuple(relations), rng), second=_name(second))


def _name(item: SceneObject) -> str:
    """Returns the two words that tell an object from all others of its scene."""
    return f"{item.colour} {item.shape}"


def _vocabulary(style: Annotator, rng: np.random.Generator) -> Callable[[str], str]:
    """Returns the annotator's choice among synonyms, as a function of the plain word."""
    if not style.synonyms:
        return lambda word: word
    return lambda word: choice(SYNONYMS.get(word, (word,)), rng)


def _capitalised(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
