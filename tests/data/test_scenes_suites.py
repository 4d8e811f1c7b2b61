"""The rendered composition suite and classes of pixels, against the scenes they were written from."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caft.data.scenes.examples import Example, random_examples
from caft.data.scenes.grammar import COLOURS, SHAPES, Scene, SceneObject
from caft.data.scenes.suites import CLASSES, KINDS, write_suites
from caft.data.sets import load_composition, load_segmentation
from caft.params import load_params
from caft.params.corpora import ScenesCorpus

IMAGES = 24
PARAMS = load_params("params.yaml")


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    corpus = PARAMS.corpus["scenes"]
    assert isinstance(corpus, ScenesCorpus)
    return random_examples(corpus.model_copy(update={"evaluation_images": IMAGES}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, examples: list[Example]) -> Path:
    folder: Path = tmp_path_factory.mktemp("suites")
    write_suites(folder, examples, 5)
    return folder


def is_true(sentence: str, scene: Scene) -> bool:
    """Whether a sentence holds of any two objects of a scene."""
    words = re.fullmatch(r"The (\w+) (\w+) is (left of|right of|above|below) the (\w+) (\w+)\.", sentence)
    assert words, sentence
    first, relation, second = words.group(1, 2), words.group(3), words.group(4, 5)

    def holds(one: SceneObject, other: SceneObject) -> bool:
        row, column = one.cell // 3 - other.cell // 3, one.cell % 3 - other.cell % 3
        return {"left of": column < 0, "right of": column > 0, "above": row < 0, "below": row > 0}[relation]

    return any(
        (one.colour, one.shape) == first and (other.colour, other.shape) == second and holds(one, other)
        for one in scene.objects
        for other in scene.objects
    )


def changed(true: str, false: str) -> list[int]:
    return [place for place, (a, b) in enumerate(zip(true.split(), false.split(), strict=True)) if a != b]


def test_true_sentences_hold_and_false_ones_do_not(folder: Path, examples: list[Example]) -> None:
    asked = 0
    for kind in KINDS:
        records = json.loads((folder / f"composition/data/{kind}.json").read_text())
        assert list(records) == [str(number) for number in range(len(records))]
        for record in records.values():
            number = int(record["filename"].removesuffix(".jpg"))
            assert (folder / "composition/val2017" / record["filename"]).read_bytes() == examples[number - 1].jpeg
            true, false, scene = record["caption"], record["negative_caption"], examples[number - 1].scene
            assert is_true(true, scene) and not is_true(false, scene), (true, false, scene)
            places = changed(true, false)
            if kind in ("replace_att", "replace_obj"):
                assert places == [1 if kind == "replace_att" else 2]
            elif kind == "replace_rel":
                assert places == [4]
            else:
                first, second = places
                assert true.split()[first].strip(".") == false.split()[second].strip(".")
                assert (first == 1) == (kind == "swap_att")
            asked += 1
    assert asked > 3 * IMAGES
    assert all(len(json.loads((folder / f"composition/data/{kind}.json").read_text())) == IMAGES for kind in KINDS[:3])


@pytest.mark.parametrize("name", list(CLASSES))
def test_pixels_have_the_class_of_the_object_that_is_seen_there(
    folder: Path, examples: list[Example], name: str
) -> None:
    words = COLOURS if name == "colours" else SHAPES
    found = load_segmentation(PARAMS.benchmarks[name].model_copy(update={"path": str(folder / name)}))
    assert [spoken.split()[0] for spoken in found.classes] == list(words) and len(found.labelled) == IMAGES
    for image, example in zip(found.labelled, examples, strict=True):
        assert image.path.read_bytes() == example.jpeg
        with Image.open(image.annotation) as annotation:
            values = np.asarray(annotation)
        for number in range(len(example.scene.objects) + 1):
            held = set(values[example.rendering.labels == number].tolist())
            if number == 0:
                assert held == {0}
            elif held:
                item = example.scene.objects[number - 1]
                assert held == {words.index(item.colour if name == "colours" else item.shape) + 1}


def test_the_entries_of_the_settings_read_what_is_written(folder: Path) -> None:
    entry = PARAMS.benchmarks["composition"].model_copy(update={"path": str(folder / "composition")})
    found = load_composition(entry)
    assert set(found.macro) == set(KINDS) and len(found.images) == IMAGES and not found.left_out.items
