"""Writes referring expressions of the rendered scenes as RefCOCO, RefCOCO+ and RefCOCOg are published.

Three styles, each a data set of its own: `phrase` names no place (as RefCOCO+), `phrase_place` does
(as RefCOCO), and `sentence` is taken from a caption (as RefCOCOg).
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from caft.data.scenes.captions import PLACES, phrase
from caft.data.scenes.examples import Example
from caft.data.scenes.grammar import SHAPES

STYLES = ("phrase", "phrase_place", "sentence")
SCENES = 128  # of the random set are referred to; some 390 objects suffice, and every one costs an attention map
CATEGORIES = {shape: number for number, shape in enumerate(SHAPES, start=1)}


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
                        "sentences": [
                            {
                                "sent_id": annotation_id,
                                "sent": spoken,
                                "raw": expression,
                                "tokens": spoken.split(),
                            }
                        ],
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


def run_lengths(mask: np.ndarray) -> list[int]:
    """Returns COCO's run lengths of a mask: column by column, starting with those outside it."""
    flat = mask.ravel(order="F")
    starts = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *starts.tolist(), flat.size]).tolist()
    return [0, *runs] if flat[0] else runs
