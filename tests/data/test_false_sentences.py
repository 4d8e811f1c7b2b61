"""False sentences: read back by the parser of the caption tests, each is false of its scene, and the rest is as before."""

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from caft.captions.sentences import split
from caft.data.scenes.captions import captions
from caft.data.scenes.corpus import write_csv
from caft.data.scenes.false_sentences import KINDS, Planter, write_truth
from caft.data.scenes.grammar import TRAIN, WORDS, Scene, generator, training_scene
from caft.data.tables.fields import FIELDS
from tests.data.test_scenes_captions import BACKGROUND, NAME, place_of, told
from tests.data.test_scenes_grammar import corpus

NUMBERS = range(150)
OPPOSITES = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def claims(sentence: str) -> dict[str, object]:
    """What a sentence on one object says of it; what it leaves out is missing."""
    ((colour, shape),) = NAME.findall(sentence)
    said = {"colour": colour, "shape": shape, "place": place_of(sentence)}
    said["size"], said["pattern"] = told(sentence, {"small", "large"}), told(sentence, {"plain", "striped", "dotted"})
    return {key: value for key, value in said.items() if value is not None}


def is_true(sentence: str, scene: Scene) -> bool:
    """Whether a sentence holds, by the objects of the scene alone."""
    names = NAME.findall(sentence)
    counted = re.search(r"\b(two|three|four) shapes", sentence.lower())
    if counted:
        kinds = {(item.colour, item.shape) for item in scene.objects}
        number = {"two": 2, "three": 3, "four": 4}[counted[1]]
        return (
            number == len(scene.objects) and set(names) <= kinds and BACKGROUND.findall(sentence) == [scene.background]
        )
    if not names:
        return BACKGROUND.findall(sentence) == [scene.background]
    if len(names) == 2:
        (relation,) = re.findall(r"\b(left of|right of|above|below)\b", sentence)
        first, second = ([i for i in scene.objects if (i.colour, i.shape) == name] for name in names)
        if not first or not second:
            return False
        rows, columns = (first[0].cell // 3, second[0].cell // 3), (first[0].cell % 3, second[0].cell % 3)
        return {"left of": columns[0] < columns[1], "right of": columns[0] > columns[1], "above": rows[0] < rows[1],
                "below": rows[0] > rows[1]}[relation]  # fmt: skip
    said = claims(sentence)
    objects = [
        {"colour": i.colour, "shape": i.shape, "size": i.size, "pattern": i.pattern, "place": (i.cell // 3, i.cell % 3)}
        for i in scene.objects
    ]
    return any(all(item[key] == value for key, value in said.items()) for item in objects)


def test_what_is_planted_is_false_in_the_one_thing_that_its_kind_says() -> None:
    kinds = Counter()
    for number in NUMBERS:
        scene = training_scene(0, number)
        plant = Planter(scene, 1.0, np.random.default_rng(number), number)
        captions(scene, generator(0, TRAIN, number, WORDS), plant)
        for found in plant.planted:
            kinds[found.kind] += 1
            assert is_true(found.true, scene) and not is_true(found.false, scene), found
            assert re.fullmatch(r"[A-Z][a-z, :]+\.", found.false)
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", found.false.lower())
            if found.kind in ("colour", "shape", "size", "pattern", "place"):
                before, after = claims(found.true), claims(found.false)
                assert [key for key in before if before[key] != after[key]] == [found.kind]
            elif found.kind == "absent":
                said = claims(found.false)
                assert said["colour"] not in {item.colour for item in scene.objects}
                assert said["shape"] not in {item.shape for item in scene.objects}
            elif found.kind == "relation":
                old, new = (re.findall(r"left of|right of|above|below", text)[0] for text in (found.true, found.false))
                assert OPPOSITES[old] == new and NAME.findall(found.true) == NAME.findall(found.false)
    assert set(kinds) == set(KINDS) and min(kinds.values()) > 50


def test_without_false_sentences_no_word_is_another() -> None:
    for number in NUMBERS:
        scene = training_scene(0, number)
        plain = captions(scene, generator(0, TRAIN, number, WORDS))
        plant = Planter(scene, 0.0, np.random.default_rng(number))
        assert captions(scene, generator(0, TRAIN, number, WORDS), plant) == plain and not plant.planted


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


@pytest.mark.parametrize("splitter", ["spacy", "dreamlip"])
def test_the_truth_names_the_sentences_that_differ_from_a_clean_table(tmp_path: Path, splitter: str) -> None:
    assert write_csv(tmp_path / "clean.csv", corpus()) == []
    planted = write_csv(tmp_path / "dirty.csv", corpus(false_sentences=0.2))
    write_truth(tmp_path / "truth.csv", planted)
    with (tmp_path / "truth.csv").open(newline="", encoding="utf-8") as file:
        truth = {(int(row["row"]), row["caption"], int(row["sentence"])) for row in csv.DictReader(file)}
    clean, dirty = rows_of(tmp_path / "clean.csv"), rows_of(tmp_path / "dirty.csv")
    differ, sentences = set(), 0
    for row, (before, after) in enumerate(zip(clean, dirty, strict=True)):
        assert before[0] == after[0]
        for column, caption in enumerate(FIELDS, start=1):
            old, new = (split(text, splitter) for text in (before[column], after[column]))
            assert len(old) == len(new)
            differ |= {(row, caption, place) for place, (a, b) in enumerate(zip(old, new, strict=True)) if a != b}
            sentences += len(new) if caption.startswith("long") else 0
    assert truth == differ == {(found.row, found.caption, found.sentence) for found in planted}
    assert 0.15 < len(differ) / sentences < 0.25
