"""The evaluation sets on disk, read with plain loops and compared with the scenes they were written from."""

import csv
import json
import pickle
import pickletools
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from caft.data.scenes import examples as rendered
from caft.data.scenes.corpus import WORKING, links
from caft.data.scenes.examples import Example, look_alike_examples, random_examples
from caft.data.scenes.grammar import RANDOM, SPEC, generator, random_scene, training_scene
from caft.data.scenes.look_alikes import content
from caft.data.scenes.sets import write_benchmarks, write_referring, write_regions
from caft.errors import ParamsError
from caft.params import load_params
from caft.params.corpora import Faults, ScenesCorpus
from tests.data.test_scenes_captions import BACKGROUND, NAME, place_of, told

PROJECT = Path(__file__).parents[2]
PAIRS, REGIONS = 32, 40
FILES = {"1_attributes": 1, "2_attributes": 2, "3_attributes": 3, "shuffle_negatives": None}
NOUN = re.compile(
    r"an? (?P<size>small|large) (?P<pattern>plain|striped|dotted) "
    r"(?P<colour>red|green|blue|yellow|orange|purple|white|black) (?P<shape>circle|square|triangle|star|cross|heart)"
)


def corpus(**changes: object) -> ScenesCorpus:
    values: dict[str, object] = {
        "kind": "scenes",
        "images": 60,
        "image_size": 64,
        "evaluation_images": PAIRS,
        "regions": REGIONS,
        "seed": 3,
        "evaluation_seed": 4,
        "port": 8765,
        "faults": Faults(missing=0, server_error=0, stalled=0, corrupt=0, opt_out=0, duplicate=0),
        "licence": "none",
    }
    return ScenesCorpus.model_validate({**values, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    write_benchmarks(folder, corpus())
    return folder


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return random_examples(corpus())


def decoded(segmentation: dict[str, Any]) -> np.ndarray:
    """Mask of COCO's uncompressed run lengths, pixel by pixel down the columns."""
    height, width = segmentation["size"]
    mask = np.zeros((height, width), dtype=bool)
    place, inside = 0, False
    for run in segmentation["counts"]:
        for _ in range(run):
            mask[place % height, place // height] = inside
            place += 1
        inside = not inside
    assert place == height * width
    return mask


def tight_box(mask: np.ndarray) -> list[int]:
    points = [(x, y) for y in range(mask.shape[0]) for x in range(mask.shape[1]) if mask[y, x]]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return [min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1]


def test_the_random_set_has_numbered_images_and_captions(folder: Path, examples: list[Example]) -> None:
    numbers = {str(number) for number in range(1, PAIRS + 1)}
    assert {path.stem for path in (folder / "random/image").glob("*.jpg")} == numbers
    assert {path.stem for path in (folder / "random/caption").glob("*.txt")} == numbers
    for number, example in enumerate(examples, start=1):
        text = (folder / f"random/caption/{number}.txt").read_text(encoding="utf-8")
        assert text == example.caption + "\n"
        image = np.asarray(Image.open(folder / f"random/image/{number}.jpg"), dtype=float)
        assert np.abs(image - example.rendering.image).mean() < 3, "the picture is that of its caption"


def test_the_look_alike_set_is_a_test_split_of_four_each_with_captions_of_their_own(folder: Path) -> None:
    lines = (folder / "look_alike/docci_descriptions.jsonlines").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == PAIRS
    for number, row in enumerate(rows):
        assert set(row) == {"example_id", "split", "image_file", "description"}
        assert row["example_id"] == f"test_{number:05d}" and row["split"] == "test"
        assert (folder / "look_alike/images" / row["image_file"]).is_file()
    for first in range(0, PAIRS, 4):
        group = [set(re.split(r"(?<=\.)\s", row["description"])) for row in rows[first : first + 4]]
        assert all(group[a] != group[b] for a in range(4) for b in range(a))


def test_the_groups_of_the_look_alike_set_are_in_a_file_of_their_own(folder: Path) -> None:
    with (folder / "look_alike/groups.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = ["colour", "pattern", "shape", "size", "place", "relation", "count", "colour"]
    assert [row["id"] for row in rows] == [f"test_{number:05d}" for number in range(PAIRS)]
    assert [row["group"] for row in rows] == [str(number // 4) for number in range(PAIRS)]
    assert [row["kind"] for row in rows] == [kinds[number // 4] for number in range(PAIRS)]


Said = frozenset[tuple[str, str, str | None, str | None, tuple[int, int] | None]]


def said(caption: str) -> Said:
    """What a caption says of each object: colour, shape, and pattern, size and place where it names them."""
    found = set()
    for sentence in re.split(r"(?<=\.)\s", caption):
        names = NAME.findall(sentence)
        if len(names) == 1 and not BACKGROUND.search(sentence):
            pattern, size = told(sentence, {"plain", "striped", "dotted"}), told(sentence, {"small", "large"})
            found.add((*names[0], pattern, size, place_of(sentence)))
    return frozenset(found)


def test_captions_of_a_group_say_what_differs_and_nothing_else_differs() -> None:
    """Read back by the parser of the captions' own tests, synonyms taken as one, over five groups of each kind."""
    examples = look_alike_examples(corpus(evaluation_images=140, image_size=16))
    for first in range(0, 140, 4):
        kind = ("colour", "pattern", "shape", "size", "place", "relation", "count")[first // 4 % 7]
        group = [said(example.caption) for example in examples[first : first + 4]]
        assert len(set(group)) == 4, [example.caption for example in examples[first : first + 4]]
        for number, objects in enumerate(group):
            assert len(objects) == len(examples[first + number].scene.objects)
            gone, come = group[0] - objects, objects - group[0]
            if kind == "count":
                assert {len(gone), len(come)} == ({0} if objects == group[0] else {0, 1})
                continue
            assert len(gone) == len(come) == (0 if number == 0 else 2 if kind == "relation" else 1)
            differing = {
                place
                for one in gone
                for other in come
                for place in range(5)
                if one[:2] == other[:2] and one[place] != other[place]
            }
            named = {"pattern": {2}, "size": {3}, "place": {4}, "relation": {4}}
            if number:
                assert differing == named.get(kind, set()), kind  # another colour or shape is another object by name
            if kind in ("colour", "shape") and number:
                ((one,), (other,)) = gone, come
                kept = 1 if kind == "colour" else 0
                assert one[kept] == other[kept] and one[2:] == other[2:]
            # All else is said in the same words: those of a place and a relation change, or of a name and its repetition.
            words = [Counter(re.findall(r"[a-z]+", examples[first + n].caption.lower())) for n in (0, number)]
            assert (words[0] - words[1]).total() <= (
                2 if kind == "relation" else 1 if kind in ("pattern", "size") else 5
            )


def test_no_evaluation_scene_is_a_training_scene() -> None:
    settings = load_params(PROJECT / "params.yaml").corpus["scenes"]
    assert isinstance(settings, ScenesCorpus)
    small = settings.model_copy(update={"image_size": 8})
    trained = {content(training_scene(small.seed, number)) for kind, number in links(small) if kind == WORKING}
    assert len(trained) > 3900
    evaluated = [*random_examples(small), *look_alike_examples(small)]
    assert len(evaluated) == 2048 and not trained & {content(example.scene) for example in evaluated}


def test_a_scene_that_is_trained_on_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    small = corpus(seed=991, images=8, image_size=8)  # a seed that no other test has: what is trained on is kept
    drawn = random_scene(generator(small.evaluation_seed, RANDOM, 1, SPEC))
    monkeypatch.setattr(rendered, "training_scene", lambda seed, number: drawn)
    scenes = [content(example.scene) for example in random_examples(small)]
    assert content(drawn) not in scenes
    usual = [content(random_scene(generator(small.evaluation_seed, RANDOM, n, SPEC))) for n in range(PAIRS)]
    assert [n for n in range(PAIRS) if scenes[n] != usual[n]] == [1]


def test_regions_are_the_same_however_large_the_random_set_is(tmp_path: Path) -> None:
    examples = random_examples(corpus(evaluation_images=264, image_size=16))
    write_regions(tmp_path / "few", examples[:256], REGIONS, 4)
    write_benchmarks(tmp_path / "all", corpus(evaluation_images=264, image_size=16))
    for file in FILES:
        assert (tmp_path / f"few/{file}.json").read_bytes() == (tmp_path / f"all/fg_ovd/{file}.json").read_bytes()


def test_look_alikes_have_fresh_pixels_even_where_nothing_changed() -> None:
    examples = look_alike_examples(corpus())
    corners = [example.rendering.image[:2, :2].tobytes() for example in examples[:4]]
    assert len(set(corners)) == 4


@pytest.mark.parametrize("style", ["phrase", "phrase_place", "sentence"])
def test_masks_and_boxes_are_those_of_the_label_map(folder: Path, examples: list[Example], style: str) -> None:
    instances = json.loads((folder / f"refer/{style}/instances.json").read_text())
    names = {category["id"]: category["name"] for category in instances["categories"]}
    by_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in instances["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    for image, example in zip(instances["images"], examples, strict=True):
        path = folder / "refer/images/train2014" / image["file_name"]
        assert image["file_name"] == f"COCO_train2014_{image['id']:012d}.jpg"
        assert Image.open(path).size == (image["width"], image["height"])
        annotations = by_image[image["id"]]
        assert len(annotations) == len(example.scene.objects)
        for index, annotation in enumerate(annotations):
            truth = example.rendering.labels == index + 1
            assert np.array_equal(decoded(annotation["segmentation"]), truth)
            assert annotation["bbox"] == tight_box(truth)
            assert annotation["area"] == np.count_nonzero(truth)
            assert names[annotation["category_id"]] == example.scene.objects[index].shape


def refs(folder: Path, style: str) -> list[dict[str, Any]]:
    return pickle.loads((folder / f"refer/{style}/refs(scenes).p").read_bytes())


def test_the_first_128_scenes_are_referred_to(tmp_path: Path) -> None:
    examples = random_examples(corpus(evaluation_images=132, image_size=32))
    write_referring(tmp_path / "refer", examples)
    expected = [number for number, example in enumerate(examples[:128], start=1) for _ in example.scene.objects]
    assert expected[-1] == 128
    for style in ("phrase", "phrase_place", "sentence"):
        assert [ref["image_id"] for ref in refs(tmp_path, style)] == expected
    names = {path.name for path in (tmp_path / "refer/images/train2014").iterdir()}
    assert names == {f"COCO_train2014_{number:012d}.jpg" for number in range(1, 129)}


@pytest.mark.parametrize("style", ["phrase", "phrase_place", "sentence"])
def test_every_expression_has_one_referent_in_its_scene(folder: Path, examples: list[Example], style: str) -> None:
    instances = json.loads((folder / f"refer/{style}/instances.json").read_text())
    image_of = {annotation["id"]: annotation["image_id"] for annotation in instances["annotations"]}
    found = refs(folder, style)
    assert [ref["ann_id"] for ref in found] == list(image_of)
    position: dict[int, int] = {}
    for ref in found:
        assert ref["split"] == "val" and ref["image_id"] == image_of[ref["ann_id"]]
        index = position[ref["image_id"]] = position.get(ref["image_id"], -1) + 1
        objects = examples[ref["image_id"] - 1].scene.objects
        (sentence,) = ref["sentences"]
        assert ref["sent_ids"] == [sentence["sent_id"]]
        assert sentence["sent"] == sentence["sent"].lower() and sentence["tokens"] == sentence["sent"].split()
        referents = [i for i, item in enumerate(objects) if f"{item.colour} {item.shape}" in sentence["sent"]]
        assert referents == [index]


def test_styles_differ_in_what_they_say(folder: Path, examples: list[Example]) -> None:
    for phrase, placed, sentence in zip(
        *(refs(folder, s) for s in ("phrase", "phrase_place", "sentence")), strict=True
    ):
        words = phrase["sentences"][0]["sent"]
        match = NOUN.fullmatch(words)
        assert match
        with_place = placed["sentences"][0]["sent"]
        assert with_place.startswith(words + " ") and re.search(r" (at|in|on) the ", with_place)
        raw = sentence["sentences"][0]["raw"]
        assert raw in examples[sentence["image_id"] - 1].caption


def test_reference_files_are_pickles_of_protocol_2_with_plain_containers_only(folder: Path) -> None:
    content = (folder / "refer/phrase/refs(scenes).p").read_bytes()
    operations = [(operation.name, argument) for operation, argument, _ in pickletools.genops(content)]
    assert operations[0] == ("PROTO", 2)
    assert not {"GLOBAL", "REDUCE", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ"} & {name for name, _ in operations}


def kind(text: str) -> tuple[str, str, str]:
    match = NOUN.fullmatch(text)
    assert match, text
    return match["shape"], match["colour"], match["pattern"]


@pytest.mark.parametrize(("file", "replaced"), list(FILES.items()))
def test_regions_have_ten_false_descriptions_of_the_promised_kind(
    folder: Path, examples: list[Example], file: str, replaced: int | None
) -> None:
    content = json.loads((folder / f"fg_ovd/{file}.json").read_text())
    text = {category["id"]: category["name"] for category in content["categories"]}
    assert len(set(text.values())) == len(text)
    assert len(content["annotations"]) == REGIONS
    everywhere = {(item.shape, item.colour, item.pattern) for example in examples for item in example.scene.objects}
    for annotation in content["annotations"]:
        example = examples[annotation["image_id"] - 1]
        positive = kind(text[annotation["category_id"]])
        here = {(item.shape, item.colour, item.pattern) for item in example.scene.objects}
        negatives = [text[number] for number in annotation["neg_category_ids"]]
        assert len(set(negatives)) == 10
        for negative in map(kind, negatives):
            assert negative not in here
            if replaced is None:
                assert negative in everywhere
            else:
                assert sum(a != b for a, b in zip(negative, positive, strict=True)) == replaced


def test_region_boxes_hold_the_object_that_the_positive_describes(folder: Path, examples: list[Example]) -> None:
    boxes = []
    for file in FILES:
        content = json.loads((folder / f"fg_ovd/{file}.json").read_text())
        text = {category["id"]: category["name"] for category in content["categories"]}
        for image in content["images"]:
            assert Image.open(folder / "fg_ovd/coco" / image["file_name"]).size == (image["width"], image["height"])
        boxes.append([(annotation["image_id"], *annotation["bbox"]) for annotation in content["annotations"]])
        for annotation in content["annotations"]:
            example = examples[annotation["image_id"] - 1]
            (index,) = [
                i
                for i, item in enumerate(example.scene.objects)
                if (item.shape, item.colour, item.pattern) == kind(text[annotation["category_id"]])
            ]
            assert annotation["bbox"] == tight_box(example.rendering.labels == index + 1)
    assert boxes[0] == boxes[1] == boxes[2] == boxes[3]
    assert len(set(boxes[0])) == REGIONS


def test_more_regions_than_objects_are_refused_with_the_largest_number(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"corpus\.scenes\.regions = 500: the 8 evaluation images show \d+ objects"):
        write_benchmarks(tmp_path / "sets", corpus(evaluation_images=8, regions=500))


def test_writing_twice_gives_equal_bytes(folder: Path, tmp_path: Path) -> None:
    write_benchmarks(tmp_path, corpus())
    first = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    second = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert first == second
