"""Layouts of retrieval sets: each reader yields the images with their captions, in the set's order."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from caft.data.sets.files import NotThereError, first_present, present, read_json, read_lines, read_text
from caft.errors import DataError
from caft.params.sets import BenchmarkParams

_SHAREGPT4V = "share-captioner_coco_lcs_sam_1246k_1107.json"
_RESAVED = "share4v_sam_10k.json"  # its first 10,000 rows as LoTLIP and FLAIR keep them, with other paths of pictures
_START = 1024  # bytes in which a list begins


class Item(NamedTuple):
    """An image with its captions and what the files call each of these."""

    ids: Sequence[str]
    image: Path
    captions: Sequence[str]


def urban1k(folder: Path, benchmark: BenchmarkParams) -> Iterator[Item]:
    """`image/<number>.jpg` (or `images/`) and `caption/<number>.txt`, the whole file, in the order of the numbers."""
    pictures = first_present(folder / "image", folder / "images")
    texts = present(folder / "caption")
    stems = {
        kind: {path.stem for path in place.glob(f"*.{kind}")} for kind, place in (("jpg", pictures), ("txt", texts))
    }
    if (lonely := sorted(stems["jpg"] ^ stems["txt"])) and not benchmark.partial:
        raise DataError(
            f"{folder}: {len(lonely)} images or captions without their partner, the first is {lonely[0]}; "
            f"every {pictures.name}/<number>.jpg needs caption/<number>.txt"
        )
    if strange := sorted(stem for stem in stems["txt"] if not stem.isdecimal()):
        raise DataError(f"{texts}: file names must be numbers, found {strange[0]}.txt")
    for stem in sorted(stems["txt"], key=int):
        yield Item([stem], pictures / f"{stem}.jpg", [read_text(texts / f"{stem}.txt").strip()])


def docci(folder: Path, benchmark: BenchmarkParams) -> Iterator[Item]:
    """`docci_descriptions.jsonlines`, in the folder or in `annotations/`, and `images/`; one split, `test` by default."""
    name, split = "docci_descriptions.jsonlines", benchmark.split or "test"
    file = first_present(folder / name, folder / "annotations" / name)
    pictures = present(folder / "images")
    for number, row in read_lines(file):
        # Equal, not contained: `qual_test` is another split.
        if _field(f"{file}:{number}", row, "split") == split:
            identity, image = (_field(f"{file}:{number}", row, key) for key in ("example_id", "image_file"))
            yield Item([identity], pictures / image, [_text(f"{file}:{number}", row, benchmark, ["description"])])


def dci(folder: Path, benchmark: BenchmarkParams) -> Iterator[Item]:
    """`splits.json`, `annotations/<name>` and `photos/<image>`, in the folder or in `densely_captioned_images/`.

    The benchmark is all splits, one after the other, as FLAIR and LoTLIP take it; a caption is `short_caption`, a line
    break and `extra_caption`, which may be empty. FG-CLIP takes `extra_caption` alone: `text: [extra_caption]`.
    """
    inner = folder / "densely_captioned_images"
    folder = inner if inner.is_dir() else folder
    file = present(folder / "splits.json")
    annotations, pictures = present(folder / "annotations"), present(folder / "photos")
    splits = read_json(file)
    if not isinstance(splits, dict):
        raise DataError(f"{file}: expected a JSON object with a list of file names for each split")
    for split in benchmark.split.split("+") if benchmark.split else splits:
        if split not in splits:
            raise DataError(f"{file}: no split '{split}'; found {', '.join(splits)}")
        for name in splits[split]:
            if not (annotations / name).is_file():
                raise DataError(f"{annotations / name}: not found, and {file} names it; unpack the archive again")
            record = read_json(annotations / name)
            image = pictures / _field(str(annotations / name), record, "image")
            text = _text(str(annotations / name), record, benchmark, ["short_caption", "extra_caption"])
            yield Item([name], image, [text])


def iiw(folder: Path, benchmark: BenchmarkParams) -> Iterator[Item]:
    """ImageInWords: `<part>/data.jsonl` of its three parts in the order of LoTLIP, the text being `IIW`.

    The key of a picture is `image` or `image/key`, with or without `.jpg`. Pictures lie in `docci/`, `docci_aar/` and
    `dci/`, or where DOCCI and DCI lie themselves, beside the folder. A picture of DOCCI that is not there by its name
    is taken by the same name with `train` for `test`, as LoTLIP does.
    """
    docci_folder, dci_folder = folder.parent / "docci", folder.parent / "dci"
    places = {
        "DOCCI_Test": (folder / "docci", docci_folder / "images"),
        "IIW-400": (folder / "docci_aar", docci_folder / "images_aar"),
        "DCI_Test": (folder / "dci", dci_folder / "densely_captioned_images" / "photos", dci_folder / "photos"),
    }
    parts = benchmark.split.split("+") if benchmark.split else list(places)
    if unknown := [part for part in parts if part not in places]:
        raise DataError(f"{folder}: no part '{unknown[0]}'; known are {', '.join(places)}")
    files = [first_present(folder / part / "data.jsonl", folder / "datasets" / part / "data.jsonl") for part in parts]
    for part, file in zip(parts, files, strict=True):
        pictures = _folder(benchmark, *places[part])
        for number, row in read_lines(file):
            where = f"{file}:{number}"
            key = _field(where, row, "image/key" if isinstance(row, dict) and "image/key" in row else "image")
            image = pictures / (key if key.endswith(".jpg") else f"{key}.jpg")
            if not image.is_file() and (other := image.with_name(image.name.replace("test", "train"))).is_file():
                image = other
            yield Item([key], image, [_text(where, row, benchmark, ["IIW"])])


def karpathy(folder: Path, benchmark: BenchmarkParams) -> Iterator[Item]:
    """Karpathy's `dataset_<set>.json` of COCO or Flickr30k; one split, `test` by default, which `restval` is not.

    Of each image the first `captions` sentences are taken, as they were written (`raw`); COCO has six for some. Pictures
    lie in the folder that the file names (`val2014/`), here or in `images/`; Flickr30k's in `flickr30k-images/`.
    """
    files = sorted(folder.glob("dataset_*.json"))
    if len(files) != 1:
        if files:
            raise DataError(f"{folder}: expected one dataset_<set>.json, found {', '.join(f.name for f in files)}")
        raise NotThereError(folder / "dataset_<set>.json")
    file, split = files[0], benchmark.split or "test"
    for number, record in enumerate(read_json(file)["images"]):
        where = f"{file}: image {number}"
        if _field(where, record, "split") != split:
            continue
        sentences = _field(where, record, "sentences", list)
        count = benchmark.captions or len(sentences)
        if len(sentences) < count:
            raise DataError(f"{where}: expected {count} captions, found {len(sentences)}")
        inner = record.get("filepath")
        roots = (
            [folder / inner, folder / "images" / inner] if inner else [folder / "flickr30k-images", folder / "images"]
        )
        name = _field(where, record, "filename")
        yield Item(
            [f"{name}#{place}" for place in range(count)],
            _folder(benchmark, *roots) / name,
            [_field(where, sentence, "raw").strip() for sentence in sentences[:count]],
        )


def sharegpt4v(folder: Path, benchmark: BenchmarkParams) -> Iterator[Item]:
    """ShareGPT4V: the first rows of the published file (1.5 GB) or of LoTLIP's; a caption is a conversation's second turn.

    A picture is looked for by its path as given (`sam/images/sa_1.jpg`), by the path without the folder `images`, and
    by its name alone in `images/`.
    """
    file = first_present(folder / _SHAREGPT4V, folder / _RESAVED)
    for number, row in enumerate(head(file, benchmark.first or 0)):
        try:
            identity, given, (_, answer, *_) = str(row["id"]), Path(row["image"]), row["conversations"]
            speaker, caption = answer["from"], answer["value"].strip()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{file}: row {number}: expected id, image and two conversations; {error!r}") from None
        if speaker != "gpt":
            raise DataError(f"{file}: row {number}: expected the second turn to be of 'gpt', found {speaker!r}")
        short = Path(*(part for part in given.parts[:-1] if part != "images"), given.name)
        places = (folder / given, folder / short, folder / "images" / given.name)
        yield Item([identity], next((place for place in places if place.is_file()), places[0]), [caption])


def head(path: Path, count: int) -> Iterator[Any]:
    """The first objects of a JSON file that is a list of objects; the file is read no further than they reach.

    Raises:
        DataError: It is no list, or ends inside an object.
    """
    import ijson  # of the pipeline's packages, not of the core

    with path.open("rb") as file:
        start = file.read(_START).lstrip()
        if not start.startswith(b"["):  # of anything else ijson gives no item, and no error
            raise DataError(f"{path}: expected a JSON list, found {start[:20]!r}; download it again")
        file.seek(0)
        try:
            yield from itertools.islice(ijson.items(file, "item", use_float=True), count)
        except (ijson.JSONError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())[:100]
            raise DataError(f"{path}: is no whole JSON list ({reason}); download it again") from None


def _folder(benchmark: BenchmarkParams, *places: Path) -> Path:
    """Where pictures lie; a partial set may lack a folder."""
    try:
        return first_present(*places)
    except NotThereError:
        if benchmark.partial:
            return places[0]
        raise


def _text(where: str, record: Any, benchmark: BenchmarkParams, default: Sequence[str]) -> str:
    return "\n".join(_field(where, record, key) for key in benchmark.text or default).strip()


def _field(where: str, record: Any, key: str, kind: type = str) -> Any:
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, kind):
        words = "a text" if kind is str else "a list"
        raise DataError(f"{where}: expected a JSON object with {words} as '{key}', found {str(record)[:60]}")
    return value
