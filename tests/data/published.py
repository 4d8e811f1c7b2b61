"""Tiny copies of the known evaluation sets, in the layouts in which they are published and with what is odd in them.

Every function writes one set into a folder and gives back what a correct loader finds there. Pictures are wider than
high, and no two of a set are alike.
"""

import colorsys
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CAPTIONS = {  # in an order that is neither that of the numbers nor that of the names
    2: "A cat sleeps on a chair. The chair is red.\n",
    10: "  A bus waits at a stop. Its door is open.\nTwo people get on. \n\n",
    1: "A café on a corner. A lamp hangs over its door.",
}


def picture(path: Path, width: int = 60, height: int = 40) -> Path:
    """A picture whose colour follows from its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hue = sum(path.stem.encode()) * 0.37 % 1
    colour = tuple(int(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.8, 0.9))
    image = Image.new("RGB", (width, height), colour)
    image.paste((20, 20, 20), (0, 0, width // 3, height // 2))
    image.save(path)
    return path


def write_urban1k(folder: Path, captions: Mapping[int, str] = CAPTIONS, images: str = "image") -> list[str]:
    """Urban-1k: `image/<number>.jpg`, which a known copy calls `images/`, and `caption/<number>.txt`.

    Returns:
        The captions as a loader gives them, in the order of the numbers.
    """
    (folder / "caption").mkdir(parents=True)
    for number, text in captions.items():
        picture(folder / images / f"{number}.jpg")
        (folder / "caption" / f"{number}.txt").write_text(text, encoding="utf-8")
    return [captions[number].strip() for number in sorted(captions)]


def write_docci(folder: Path, inner: str = "annotations") -> list[str]:
    """DOCCI: descriptions of all four splits, of which `test` is scored and `qual_test` is not; U+2028 in a text."""
    rows, captions = [], []
    for split, count in (("train", 2), ("test", 3), ("qual_dev", 1), ("qual_test", 2)):
        for index in range(count):
            name = f"{split}_{index:05d}"
            text = f"A {split}\u2028picture. Number {index}. "
            picture(folder / "images" / f"{name}.jpg")
            rows.append({"example_id": name, "split": split, "image_file": f"{name}.jpg", "description": text})
            captions += [text.strip()] if split == "test" else []
    _write_lines(folder / inner / "docci_descriptions.jsonlines", rows)
    return captions


def write_dci(folder: Path) -> list[str]:
    """DCI: three splits in the order of the file, which is not that of the names; one text has no extra caption."""
    root = folder / "densely_captioned_images"
    splits: dict[str, list[str]] = {"train": ["90-data.json", "11-data.json"], "valid": ["50-data.json"], "test": []}
    splits["test"] = ["70-data.json", "10-data.json"]
    captions = []
    for names in splits.values():
        for name in names:
            number = name.split("-")[0]
            extra = "" if number == "50" else f" It stands alone.\nThe sky has {number} clouds. "
            record = {
                "image": f"sa_{number}.jpg",
                "short_caption": f"A house with {number} windows.",
                "extra_caption": extra,
                "mask_data": {"0": {"area": 4}},
                "mask_keys": ["0"],
                "summaries": {},
                "negatives": {},
            }
            _write(root / "annotations" / name, record)
            picture(root / "photos" / f"sa_{number}.jpg")
            captions.append(f"{record['short_caption']}\n{extra}".strip())
    _write(root / "annotations" / "99-data.json", {"image": "sa_99.jpg"})  # of no split
    (root / "complete").mkdir()
    _write(root / "splits.json", splits)
    return captions


def write_sharegpt4v(
    folder: Path, rows: int = 7, file: str = "share-captioner_coco_lcs_sam_1246k_1107.json"
) -> list[str]:
    """ShareGPT4V: one long list; the first four pictures lie in the accepted places, those of other rows nowhere."""
    content, captions = [], []
    for number in range(rows):
        archive = "sa_000000" if file == "share4v_sam_10k.json" else "sam"
        given = f"{archive}/images/sa_{number}.jpg"
        place = (given, f"{archive}/sa_{number}.jpg", f"images/sa_{number}.jpg", given)
        if number < len(place):
            picture(folder / place[number])
        text = f"A street, number {number}, \u201cclosed\u201d. It has a [sign], {{two}} doors and a \\ mark.\n"
        turns = [{"from": "human", "value": "<image>\nDescribe it."}, {"from": "gpt", "value": text}]
        content.append({"id": f"sa_{number}", "image": given, "conversations": turns})
        captions.append(text.strip())
    _write(folder / file, content)
    return captions


def write_iiw(folder: Path) -> list[str]:
    """ImageInWords: three files, two names of the key, with and without `.jpg`, a picture that lies under `train`."""
    captions = []
    parts: dict[str, list[tuple[str, str, str]]] = {
        "DOCCI_Test": [
            ("image", "test_00731", "docci/test_00731.jpg"),
            ("image", "test_00002", "docci/train_00002.jpg"),
        ],
        "IIW-400": [("image/key", "aar_test_04600", "docci_aar/aar_test_04600.jpg")],
        "DCI_Test": [("image", "sa_1545038.jpg", "dci/sa_1545038.jpg")],
    }
    for part, rows in parts.items():
        records = []
        for key, value, file in rows:
            picture(folder / file)
            captions.append(f"{part} of {value}. It is blue.")
            records.append({key: value, "IIW": captions[-1] + "\n", "IIW-P5B": "A machine wrote this.", "DOCCI": "No."})
        _write_lines(folder / part / "data.jsonl", records)
    return captions


def write_karpathy(folder: Path, name: str) -> list[list[str]]:
    """Karpathy's file of `coco` or `flickr30k`: splits train, restval, val and test; one COCO image has six captions.

    Returns:
        The first five captions of each test image.
    """
    images, captions = [], []
    for number, split in enumerate(("train", "test", "restval", "val", "test")):
        texts = [f" Picture {number}, caption {place}. " for place in range(6 if (name, number) == ("coco", 4) else 5)]
        record: dict[str, Any] = {
            "filename": f"{number:012d}.jpg",
            "split": split,
            "sentids": list(range(len(texts))),
            "sentences": [
                {"raw": text, "tokens": text.split(), "sentid": place, "imgid": number}
                for place, text in enumerate(texts)
            ],
            "imgid": number,
        }
        if name == "coco":
            record |= {"filepath": "val2014", "cocoid": number}
        picture(folder / record.get("filepath", "flickr30k-images") / record["filename"])
        images.append(record)
        captions += [[text.strip() for text in texts[:5]]] if split == "test" else []
    _write(folder / f"dataset_{name}.json", {"dataset": name, "images": images})
    return captions


def reference(number: int, annotation: int, image: int, split: str, *sentences: str) -> dict[str, Any]:
    """A reference of `refer`; its `file_name` carries the number of the annotation, and is not the picture's."""
    return {
        "ref_id": number,
        "ann_id": annotation,
        "category_id": 1,
        "image_id": image,
        "file_name": f"COCO_train2014_{image:012d}_{annotation}.jpg",
        "split": split,
        "sent_ids": list(range(len(sentences))),
        "sentences": [
            {"sent_id": n, "sent": text, "raw": text.title(), "tokens": text.split()}
            for n, text in enumerate(sentences)
        ],
    }


REFERENCES = [
    reference(1, 12, 7, "val", "the right one", "right", "small square"),
    reference(2, 11, 7, "val", "both squares"),
    reference(3, 21, 3, "val", "left edge"),
    reference(4, 31, 5, "testA", "the corner"),
    reference(5, 31, 5, "testB", "a corner", "corner"),
]


def write_refer(folder: Path, name: str = "refcoco", split_by: str = "unc", images: str = "images") -> Path:
    """RefCOCO, RefCOCO+ or RefCOCOg: a mask of two polygons, one of run lengths, a crowd, a reference of three sentences.

    Returns:
        The folder `name`. Its split `val` has three references, five expressions and two images.
    """
    annotations: list[dict[str, Any]] = [
        {"id": 11, "image_id": 7, "segmentation": [[2, 2, 10, 2, 10, 10, 2, 10], [20, 20, 30, 20, 30, 30, 20, 30]]},
        {"id": 12, "image_id": 7, "segmentation": [[40, 5, 50, 5, 50, 15, 40, 15]]},
        {"id": 13, "image_id": 7, "segmentation": {"size": [40, 60], "counts": [0, 2400]}, "iscrowd": 1},
        {"id": 21, "image_id": 3, "segmentation": {"size": [40, 60], "counts": [40, 20, 2340]}},
        {"id": 31, "image_id": 5, "segmentation": [[1, 1, 9, 1, 9, 9]]},
    ]
    annotations = [{"iscrowd": 0, "category_id": 1, "bbox": [0, 0, 1, 1], "area": 1, **entry} for entry in annotations]
    pictures = [{"id": n, "file_name": f"COCO_train2014_{n:012d}.jpg", "height": 40, "width": 60} for n in (7, 3, 5)]
    categories = [{"id": 1, "name": "thing"}]
    _write(folder / name / "instances.json", {"images": pictures, "annotations": annotations, "categories": categories})
    (folder / name / f"refs({split_by}).p").write_bytes(pickle.dumps(REFERENCES, protocol=2))
    for entry in pictures:
        picture(folder / images / "train2014" / str(entry["file_name"]))
    return folder / name


FG_OVD_FILES = (
    "1_attributes", "2_attributes", "3_attributes", "shuffle_negatives", "color", "material", "pattern", "transparency",
)  # fmt: skip


def write_fg_ovd(folder: Path, coco: Path | None = None) -> None:
    """FG-OVD's eight files of two boxes: one with ten negatives, one of three by two pixels with two; both COCO splits."""
    for level, name in enumerate(FG_OVD_FILES):
        # Category numbers are each file's own.
        categories = [{"id": 100 * level + n, "name": f"{name} {n}"} for n in range(12)]
        annotations = [
            {"id": 0, "image_id": 4, "bbox": [1.5, 2, 30, 20.25], "category_id": 100 * level + 3,
             "neg_category_ids": [100 * level + n for n in (0, 1, 2, 4, 5, 6, 7, 8, 9, 10)]},
            {"id": 1, "image_id": 9, "bbox": [5, 5, 3, 2], "category_id": 100 * level,
             "neg_category_ids": [100 * level + n for n in (11, 2)]},
        ]  # fmt: skip
        images = [
            {"id": 4, "file_name": "train2017/000000000004.jpg", "width": 60, "height": 40},
            {"id": 9, "file_name": "val2017/000000000009.jpg", "width": 30, "height": 50},
        ]
        _write(folder / f"{name}.json", {"images": images, "annotations": annotations, "categories": categories})
    coco = coco or folder.parent / "coco"
    picture(coco / "train2017" / "000000000004.jpg")
    picture(coco / "val2017" / "000000000009.jpg", 30, 50)


def write_imagenet(folder: Path) -> list[str]:
    """ImageNet: folders by wnid with `.JPEG` files, and class names of several words in the order of the classes."""
    names = {"n01440764": "tench", "n02112018": "Pomeranian", "n01443537": "St. Bernard dog"}
    (folder / "val").mkdir(parents=True)
    (folder / "classnames.txt").write_text("".join(f"{wnid} {name}\n" for wnid, name in names.items()))
    for place, wnid in enumerate(names):
        for number in range(place + 1):
            picture(folder / "val" / wnid / f"ILSVRC2012_val_{10 * place + number:08d}.JPEG")
    return list(names.values())


SUGAR_CREPE = {
    "add_obj": [("000000000139.jpg", "A cat on a chair.", "A cat and a dog on a chair.")],
    "add_att": [("000000000139.jpg", "A cat on a chair.", "A striped cat on a chair.")],
    "replace_obj": [("000000000285.jpg", "A bear in the grass.", "A dog in the grass.")],
    "replace_att": [("000000000285.jpg", "A brown bear.", "A white bear.")],
    "replace_rel": [("000000000632.jpg", "A lamp above a bed.", "A lamp under a bed.")],
    "swap_obj": [
        ("000000000632.jpg", "A book on a bed by a window.", "A window on a bed by a book."),
        ("000000000139.jpg", "A cat beside a dog.", "A dog beside a cat."),
    ],
    "swap_att": [("000000000632.jpg", "A red lamp and a blue bed.", "A blue lamp and a red bed.")],
}


def write_sugar_crepe(folder: Path, inner: str = "data", pictures: Path | None = None) -> None:
    """SugarCrepe: seven objects of records by number, of which swap_obj lacks one; pictures of COCO val2017."""
    pictures = pictures or folder.parent / "coco" / "val2017"
    for category, rows in SUGAR_CREPE.items():
        numbers = ["0", "2"] if category == "swap_obj" else ["0"]
        records = [{"filename": name, "caption": true, "negative_caption": false} for name, true, false in rows]
        _write(folder / inner / f"{category}.json", dict(zip(numbers, records, strict=True)))
        for name, *_ in rows:
            picture(pictures / name)


def write_winoground(folder: Path, inner: str = "data") -> None:
    """Winoground: three examples, names of images without their ending, and tags, of which `collapsed_tag` has three."""
    rows = []
    for number, (tag, first, second) in enumerate(
        [
            ("Object", "an old person kisses a young person", "a young person kisses an old person"),
            ("Relation", "the cup is on the table", "the table is on the cup"),
            ("Both", "a mug in some grass", "some grass in a mug"),
        ]
    ):
        names = [f"ex_{number}_img_{place}" for place in (0, 1)]
        for name in names:
            picture(folder / inner / "images" / f"{name}.png")
        rows.append(
            {"caption_0": first, "caption_1": second, "id": number, "image_0": names[0], "image_1": names[1],
             "tag": "Noun", "secondary_tag": "", "num_main_preds": 1, "collapsed_tag": tag}
        )  # fmt: skip
    _write_lines(folder / inner / "examples.jsonl", rows)


def write_aro(folder: Path) -> None:
    """ARO: VG-Relation with a relation in both directions and a box that leaves its picture; VG-Attribution."""
    box = {"bbox_x": 10, "bbox_y": 5, "bbox_w": 30, "bbox_h": 20}
    pair = {"true_caption": "the cup is on the table", "false_caption": "the table is on the cup"}
    near = {"true_caption": "the dog is near the cat", "false_caption": "the cat is near the dog"}
    _write(
        folder / "visual_genome_relation.json",
        [
            {"image_id": "1", "image_path": "1.jpg", "relation_name": "on", **box, **pair},
            {"image_id": "2", "image_path": "2.jpg", "relation_name": "near", **box, **near},
            {"image_id": "2", "image_path": "2.jpg", "relation_name": "on", **box, "bbox_x": -4, "bbox_w": 70, **pair},
        ],
    )
    old = {"true_caption": "the old man and the red hat", "false_caption": "the red man and the old hat"}
    _write(
        folder / "visual_genome_attribution.json",
        [{"image_id": "1", "image_path": "1.jpg", "attributes": ["old", "red"], **box, **old}],
    )
    for number in (1, 2):
        picture(folder / "images" / f"{number}.jpg")


def write_voc(folder: Path, root: str = "VOCdevkit/VOC2012") -> dict[str, dict[int, int]]:
    """VOC 2012: PNG files with a palette, 0 the background and 255 the border; a picture that is not of the split.

    Returns:
        Pixels of each class from 0, by name, in the order of the list.
    """
    base = folder / root
    names = {"2007_000042": {19: 200, 14: 100}, "2007_000033": {0: 300}}
    for name, classes in {**names, "2007_000032": {0: 5}}.items():
        picture(base / "JPEGImages" / f"{name}.jpg")
        values = np.zeros(40 * 60, np.uint8)
        start = 50
        for number, count in classes.items():
            values[start : start + count] = number + 1
            values[start + count : start + count + 10] = 255
            start += count + 10
        image = Image.fromarray(values.reshape(40, 60))
        image.putpalette([n * 7 % 256 for n in range(768)])
        (base / "SegmentationClass").mkdir(exist_ok=True)
        image.save(base / "SegmentationClass" / f"{name}.png")
    for split, listed in (("val", list(names)), ("train", ["2007_000032"])):
        path = base / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(listed) + "\n")
    return names


ADE20K = """Idx\tRatio\tTrain\tVal\tName
1\t0.1576\t11664\t1172\twall
2\t0.1072\t6046\t612\tbuilding, edifice
3 \t0.0231\t1906\t199\tbed \n"""


def write_ade20k(folder: Path, root: str = "ADEChallengeData2016") -> None:
    """ADE20K: a table of classes with several names and stray blanks; grey PNG files in which 0 is of no class."""
    base = folder / root
    for number, values in ((1, [0, 1, 2]), (2, [3, 3, 1])):
        name = f"ADE_val_{number:08d}"
        picture(base / "images" / "validation" / f"{name}.jpg")
        (base / "annotations" / "validation").mkdir(parents=True, exist_ok=True)
        columns = np.repeat(np.array(values, np.uint8), 20)
        Image.fromarray(np.tile(columns, (40, 1))).save(base / "annotations" / "validation" / f"{name}.png")
    (base / "objectInfo150.txt").write_text(ADE20K)


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
