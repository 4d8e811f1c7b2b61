"""Captions: read back by a parser of their own, they must be true of the scene."""

import re

import pytest

from caft.data.scenes.captions import ANNOTATORS, captions, describers, join, long_caption, phrase
from caft.data.scenes.grammar import TRAIN, WORDS, Scene, SceneObject, generator, training_scene

NUMBERS = range(300)

COLOUR = "red|green|blue|yellow|orange|purple|white|black"
SHAPE = "circle|square|triangle|star|cross|heart"
NAME = re.compile(rf"\b({COLOUR}) ({SHAPE})\b")
MEANING = {
    **dict.fromkeys(["large", "big", "huge"], "large"),
    **dict.fromkeys(["small", "little", "tiny"], "small"),
    **dict.fromkeys(["plain", "solid"], "plain"),
    **dict.fromkeys(["striped", "banded"], "striped"),
    **dict.fromkeys(["dotted", "spotted"], "dotted"),
    **dict.fromkeys(["smooth", "soft"], "smooth"),
    **dict.fromkeys(["tiled", "checked"], "tiled"),
    **dict.fromkeys(["grainy", "rough"], "grainy"),
}
BACKGROUND = re.compile(r"\b(gray|pink|teal|brown|beige|olive)\b")
# Row and column by the words that can only mean them.
ROWS = {"top": 0, "upper": 0, "bottom": 2, "lower": 2}
COLUMNS = {"left": 0, "right": 2}


def place_of(sentence: str) -> tuple[int, int] | None:
    """Row and column that a sentence on one object tells, None if it tells none."""
    words = re.findall(r"[a-z]+", sentence.lower())
    if not {"at", "in", "on"} & set(words):
        return None
    row = next((ROWS[word] for word in words if word in ROWS), 1)
    column = next((COLUMNS[word] for word in words if word in COLUMNS), 1)
    return row, column


def told(sentence: str, options: set[str]) -> str | None:
    found = [MEANING[word] for word in re.findall(r"[a-z]+", sentence.lower()) if MEANING.get(word) in options]
    assert len(found) <= 1, sentence
    return found[0] if found else None


def named(scene: Scene, colour: str, shape: str) -> SceneObject:
    (item,) = [item for item in scene.objects if (item.colour, item.shape) == (colour, shape)]
    return item


@pytest.mark.parametrize("annotator", list(ANNOTATORS))
def test_long_captions_are_true_and_complete(annotator: str) -> None:
    for number in NUMBERS:
        scene = training_scene(0, number)
        sentences = long_caption(scene, annotator, generator(0, TRAIN, number, WORDS))
        assert len(sentences) == len(scene.objects) + 2
        described = []
        for sentence in sentences:
            names = NAME.findall(sentence.text)
            if sentence.object is not None:
                ((colour, shape),) = names
                item = named(scene, colour, shape)
                described.append(item)
                assert item == scene.objects[sentence.object]
                assert told(sentence.text, {"small", "large"}) in {None, item.size}
                assert told(sentence.text, {"plain", "striped", "dotted"}) in {None, item.pattern}
                assert place_of(sentence.text) in {None, (item.cell // 3, item.cell % 3)}
            elif not names:
                assert BACKGROUND.findall(sentence.text) == [scene.background]
                assert told(sentence.text, {"smooth", "tiled", "grainy"}) == scene.texture
            else:
                first, second = (named(scene, *name) for name in names)
                (relation,) = re.findall(r"\b(left of|right of|above|below)\b", sentence.text)
                assert {
                    "left of": first.cell % 3 < second.cell % 3,
                    "right of": first.cell % 3 > second.cell % 3,
                    "above": first.cell // 3 < second.cell // 3,
                    "below": first.cell // 3 > second.cell // 3,
                }[relation], sentence.text
            assert re.fullmatch(r"[A-Z][a-z, ]+\.", sentence.text)
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", sentence.text.lower())
        assert sorted(described, key=lambda item: item.cell) == sorted(scene.objects, key=lambda item: item.cell)


def omissions(annotator: str) -> dict[str, float]:
    """Share of object sentences that leave out size, pattern and place."""
    left_out = {"size": 0, "pattern": 0, "place": 0}
    total = 0
    for number in NUMBERS:
        for sentence in long_caption(training_scene(0, number), annotator, generator(0, TRAIN, number, WORDS)):
            if sentence.object is not None:
                total += 1
                left_out["size"] += told(sentence.text, {"small", "large"}) is None
                left_out["pattern"] += told(sentence.text, {"plain", "striped", "dotted"}) is None
                left_out["place"] += place_of(sentence.text) is None
    return {name: count / total for name, count in left_out.items()}


def test_annotators_leave_out_what_they_are_said_to() -> None:
    assert omissions("ib") == {"size": 1.0, "pattern": 0.0, "place": 0.0}
    assert omissions("sv") == {"size": 0.0, "pattern": 0.0, "place": 0.0}
    third = omissions("lla")
    assert third["size"] == 0
    assert 0.08 < third["pattern"] < 0.18 and 0.08 < third["place"] < 0.18


def test_those_who_describe_look_alikes_name_all_that_changes() -> None:
    for kind in ("colour", "shape", "pattern", "place", "relation", "count"):
        assert describers(kind) == ("ib", "sv")
    for annotator in describers("place"):
        shares = omissions(annotator)
        assert shares["pattern"] == shares["place"] == 0
    assert describers("size") == ("sv",) and omissions("sv")["size"] == 0


def test_sentences_come_in_no_fixed_order() -> None:
    places = {
        [sentence.object for sentence in long_caption(scene, "ib", generator(0, TRAIN, number, WORDS))].index(0)
        for number in range(40)
        for scene in [training_scene(0, number)]
    }
    assert places >= {0, 1, 2, 3}


def test_raw_and_short_captions_name_only_what_is_there() -> None:
    for number in NUMBERS:
        scene = training_scene(0, number)
        row = captions(scene, generator(0, TRAIN, number, WORDS))
        assert len(row) == 7
        for text in (row[0], row[1], row[3], row[5]):
            for colour, shape in NAME.findall(text):
                named(scene, colour, shape)
            assert set(BACKGROUND.findall(text)) <= {scene.background}
        for counted in re.findall(r"\b(Two|Three|Four) shapes", row[3]):
            assert {"Two": 2, "Three": 3, "Four": 4}[counted] == len(scene.objects)


def test_tables_have_line_breaks_quotes_and_missing_captions_as_published_ones() -> None:
    rows = [captions(training_scene(0, number), generator(0, TRAIN, number, WORDS)) for number in NUMBERS]
    assert any("\n" in row[4] for row in rows)
    assert any('"' in row[0] for row in rows)
    missing = sum(row[column] == "" for row in rows for column in (1, 3, 5))
    assert 1 <= missing <= 30
    assert all(row[column] for row in rows for column in (0, 2, 4, 6))


def test_a_phrase_has_the_words_in_the_usual_order() -> None:
    item = SceneObject(shape="star", colour="red", pattern="striped", size="large", cell=0)
    assert phrase(item) == "a large striped red star"
    assert phrase(item, "at the top left") == "a large striped red star at the top left"


def test_joining_keeps_every_sentence() -> None:
    scene = training_scene(0, 1)
    sentences = long_caption(scene, "sv", generator(0, TRAIN, 1, WORDS))
    text = join(sentences, "sv", generator(0, TRAIN, 2, WORDS))
    assert [part + "." for part in re.split(r"\.\s*", text)[:-1]] == [sentence.text for sentence in sentences]
