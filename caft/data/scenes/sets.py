"""Writes the rendered corpus' own evaluation sets, in the layouts in which the known ones are published.

Referring expressions have three styles, each a data set of its own: `phrase` names no place (as RefCOCO+),
`phrase_place` does (as RefCOCO), and `sentence` is taken from a caption (as RefCOCOg). A region of FG-OVD has one true
and ten false descriptions: these replace one, two or all three of shape, colour and pattern, or describe other scenes.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from caft.data.run_lengths import run_lengths
from caft.data.scenes.captions import PLACES, phrase
from caft.data.scenes.examples import Example, look_alike_examples, random_examples
from caft.data.scenes.grammar import COLOURS, PATTERNS, RANDOM, SHAPES, Scene, SceneObject
from caft.data.scenes.look_alikes import GROUP, kind_of
from caft.data.scenes.suites import write_suites
from caft.errors import ParamsError
from caft.params.corpora import ScenesCorpus

STYLES = ("phrase", "phrase_place", "sentence")
SCENES = 128  # of the random set are referred to; some 390 objects suffice, and every one costs an attention map
REGION_SCENES = 256  # have boxes: the same boxes, however many scenes the set has beyond
CATEGORIES = {shape: number for number, shape in enumerate(SHAPES, start=1)}
NEGATIVES = 10
# File -> attributes that are replaced: hard, medium, easy; the last takes other scenes' phrases.
FILES = {"1_attributes": 1, "2_attributes": 2, "3_attributes": 3, "shuffle_negatives": None}


def write_benchmarks(folder: Path, corpus: ScenesCorpus) -> None:
    """Writes the sets `random`, `look_alike`, `refer`, `fg_ovd` and those of `write_suites` into `folder`.

    All but `look_alike` are on the images of `random`, most on its first ones.

    Raises:
        ParamsError: More regions are asked for than there are objects.
    """
    random = random_examples(corpus)
    write_urban1k(folder / "random", random)
    write_docci(folder / "look_alike", look_alike_examples(corpus))
    write_groups(folder / "look_alike", corpus.evaluation_images)
    write_referring(folder / "refer", random)
    write_regions(folder / "fg_ovd", random[:REGION_SCENES], corpus.regions, corpus.evaluation_seed)
    write_suites(folder, random, corpus.evaluation_seed)


def write_urban1k(folder: Path, examples: list[Example]) -> None:
    """Writes a retrieval set as Urban-1k is published: ``image/1.jpg`` and ``caption/1.txt``."""
    (folder / "image").mkdir(parents=True)
    (folder / "caption").mkdir()
    for number, example in enumerate(examples, start=1):
        (folder / "image" / f"{number}.jpg").write_bytes(example.jpeg)
        (folder / "caption" / f"{number}.txt").write_text(example.caption + "\n", encoding="utf-8")


def write_docci(folder: Path, examples: list[Example]) -> None:
    """Writes a retrieval set as DOCCI is published: ``docci_descriptions.jsonlines`` and ``images``."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for number, example in enumerate(examples):
        name = _docci_name(number)
        (folder / "images" / f"{name}.jpg").write_bytes(example.jpeg)
        row = {"example_id": name, "split": "test", "image_file": f"{name}.jpg", "description": example.caption}
        rows.append(json.dumps(row) + "\n")
    (folder / "docci_descriptions.jsonlines").write_text("".join(rows), encoding="utf-8")


def write_groups(folder: Path, pairs: int) -> None:
    """Writes `groups.csv`: which pairs of a set in DOCCI's layout are look-alikes, and what these differ in.

    A file of its own, read by `caft.data.sets.groups`: the published ones have no place for it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "group", "kind"))
    for number in range(pairs):
        writer.writerow([_docci_name(number), number // GROUP, kind_of(number // GROUP)])
    (folder / "groups.csv").write_text(text.getvalue(), encoding="utf-8")


def _docci_name(number: int) -> str:
    return f"test_{number:05d}"


# ---- referring expressions


def write_referring(folder: Path, examples: list[Example]) -> None:
    """Writes ``<style>/instances.json``, ``<style>/refs(scenes).p`` and ``images/train2014``.

    Every visible object of the first `SCENES` examples has one expression in each style; masks are the label map's,
    to the pixel.
    """
    images_folder = folder / "images" / "train2014"
    images_folder.mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    refs: dict[str, list[dict[str, Any]]] = {style: [] for style in STYLES}
    for image_id, example in enumerate(examples[:SCENES], start=1):
        name = f"COCO_train2014_{image_id:012d}"
        (images_folder / f"{name}.jpg").write_bytes(example.jpeg)
        height, width = example.rendering.labels.shape
        images.append({"id": image_id, "file_name": f"{name}.jpg", "height": height, "width": width})
        for index in example.visible:
            annotation_id = len(annotations) + 1
            annotation = annotate(example, index, annotation_id, image_id)
            annotations.append(annotation)
            for style in STYLES:
                expression = express(example, index, style)
                spoken = expression.lower().rstrip(".").replace(",", "")
                sentence = {"sent_id": annotation_id, "sent": spoken, "raw": expression, "tokens": spoken.split()}
                refs[style].append(
                    {
                        "ref_id": annotation_id,
                        "ann_id": annotation_id,
                        "category_id": annotation["category_id"],
                        "image_id": image_id,
                        # The published names carry the annotation's number too.
                        "file_name": f"{name}_{annotation_id}.jpg",
                        "split": "val",
                        "sent_ids": [annotation_id],
                        "sentences": [sentence],
                    }
                )
    instances = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": shape} for shape, number in CATEGORIES.items()],
    }
    for style in STYLES:
        (folder / style).mkdir()
        (folder / style / "instances.json").write_text(json.dumps(instances), encoding="utf-8")
        (folder / style / "refs(scenes).p").write_bytes(pickle.dumps(refs[style], protocol=2))


def express(example: Example, index: int, style: str) -> str:
    """Returns an expression that holds for object `index` of the scene and for no other."""
    item = example.scene.objects[index]
    if style == "phrase":
        return phrase(item)
    if style == "phrase_place":
        return phrase(item, PLACES[item.cell][index % 2])
    return next(sentence.text for sentence in example.sentences if sentence.object == index)


def annotate(example: Example, index: int, annotation_id: int, image_id: int) -> dict[str, Any]:
    """Returns the COCO annotation of object `index`, with its mask as uncompressed run lengths."""
    mask = example.mask(index)
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": CATEGORIES[example.scene.objects[index].shape],
        "bbox": box(mask),
        "area": int(mask.sum()),
        "segmentation": {"size": list(mask.shape), "counts": run_lengths(mask)},
        "iscrowd": 0,
    }


def box(mask: np.ndarray) -> list[int]:
    """Returns the smallest box round a mask (S, S) that is not empty: x, y, width, height in pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


# ---- regions


def write_regions(folder: Path, examples: list[Example], regions: int, seed: int) -> None:
    """Writes the four files, on the same boxes, and the images below ``coco/val2017``.

    Each file has the number of boxes `regions`; `seed` draws these and the false descriptions.

    Raises:
        ParamsError: The scenes show fewer objects than `regions`.
    """
    objects = [(number, index) for number, example in enumerate(examples) for index in example.visible]
    if regions > len(objects):
        raise ParamsError(
            f"corpus.scenes.regions = {regions}: the {len(examples)} evaluation images show {len(objects)} objects; "
            f"lower it to {len(objects)} or less, or raise corpus.scenes.evaluation_images, of which {REGION_SCENES} count"
        )
    rng = np.random.default_rng((seed, RANDOM))
    chosen = sorted(objects[position] for position in rng.permutation(len(objects))[:regions])
    images_folder = folder / "coco" / "val2017"
    images_folder.mkdir(parents=True)
    images = []
    for number in sorted({number for number, _ in chosen}):
        name = f"val2017/{number + 1:012d}.jpg"
        (folder / "coco" / name).write_bytes(examples[number].jpeg)
        height, width = examples[number].rendering.labels.shape
        images.append({"id": number + 1, "file_name": name, "height": height, "width": width})
    for file, replaced in FILES.items():
        annotations, categories = _annotate(examples, chosen, replaced, rng)
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{file}.json").write_text(json.dumps(content), encoding="utf-8")


def _annotate(
    examples: list[Example], chosen: list[tuple[int, int]], replaced: int | None, rng: np.random.Generator
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns annotations and categories of one file; a category is one description."""
    ids: dict[str, int] = {}
    annotations: list[dict[str, Any]] = []
    for number, index in chosen:
        scene = examples[number].scene
        if replaced is None:
            negatives = unrelated(scene, [other.scene for other in examples], rng)
        else:
            negatives = altered(scene, index, replaced, rng)
        positive = phrase(scene.objects[index])
        mask = examples[number].mask(index)
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": number + 1,
                "bbox": box(mask),
                "area": int(mask.sum()),
                "category_id": ids.setdefault(positive, len(ids) + 1),
                "neg_category_ids": [ids.setdefault(text, len(ids) + 1) for text in negatives],
            }
        )
    return annotations, [{"id": number, "name": text} for text, number in ids.items()]


def altered(scene: Scene, index: int, replaced: int, rng: np.random.Generator) -> list[str]:
    """Returns ten different phrases with `replaced` of shape, colour and pattern of an object wrong.

    None describes another object of the scene.
    """
    truth = scene.objects[index]
    taken = {_kind(item) for item in scene.objects}
    candidates = [
        kind
        for kind in itertools.product(SHAPES, COLOURS, PATTERNS)
        if sum(a != b for a, b in zip(kind, _kind(truth), strict=True)) == replaced and kind not in taken
    ]
    drawn = (candidates[position] for position in rng.permutation(len(candidates))[:NEGATIVES])
    return [phrase(replace(truth, shape=shape, colour=colour, pattern=pattern)) for shape, colour, pattern in drawn]


def unrelated(scene: Scene, scenes: list[Scene], rng: np.random.Generator) -> list[str]:
    """Returns ten different phrases from other scenes that describe nothing in `scene`.

    Fewer if the other scenes have no ten.
    """
    taken = {_kind(item) for item in scene.objects}
    phrases = sorted({phrase(item) for other in scenes for item in other.objects if _kind(item) not in taken})
    return [phrases[position] for position in rng.permutation(len(phrases))[:NEGATIVES]]


def _kind(item: SceneObject) -> tuple[str, str, str]:
    return item.shape, item.colour, item.pattern
