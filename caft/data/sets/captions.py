"""Layouts of retrieval sets: each reader yields the images with their captions, in the set's order."""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from caft.data.sets.files import (
    ROWS,
    NotThereError,
    OddRowError,
    entries,
    field,
    first_present,
    open_file,
    present,
    read_json,
    read_lines,
    read_lists,
    read_text,
)
from caft.data.sets.findings import Findings
from caft.data.sets.pictures import ENDINGS, find_picture, note_folders, note_others
from caft.errors import DataError
from caft.params.sets import BenchmarkParams

_SHAREGPT4V = "share-captioner_coco_lcs_sam_1246k_1107.json"
_RESAVED = "share4v_sam_10k.json"  # its first 10,000 rows as LoTLIP and FLAIR keep them, with other paths of pictures
_START = 1024  # bytes in which a list begins
_MARK = b"\xef\xbb\xbf"  # a byte order mark


class Item(NamedTuple):
    """An image with its captions and what the files call each of these."""

    ids: Sequence[str]
    image: Path
    captions: Sequence[str]


def urban1k(folder: Path, benchmark: BenchmarkParams, findings: Findings) -> Iterator[Item]:
    """`image/<number>.jpg` (or `images/`) and `caption/<number>.txt`, the whole file, in the order of the numbers."""
    pictures = first_present(folder / "image", folder / "images")
    texts = present(folder / "caption")
    images, captions = _by_stem(pictures, ENDINGS), _by_stem(texts, {".txt"})
    others = note_others((path for path in entries(pictures) if path.stem not in images), findings)
    note_folders(entries(pictures), findings)
    for stem in sorted(images.keys() ^ (captions.keys() - others)):
        there = images.get(stem) or captions[stem]
        lacks = f"{texts.name}/{stem}.txt" if stem in images else f"{pictures.name}/{stem}.jpg"
        findings.bad("images or captions without their partner", stem, f"{there.name} needs {lacks}")
    pairs = images.keys() & captions.keys()
    for stem in sorted(stem for stem in pairs if not stem.isdecimal()):
        findings.bad("names that must be numbers", f"{stem}.txt")
    for stem in sorted((stem for stem in pairs if stem.isdecimal()), key=int):
        try:
            yield Item([stem], images[stem], [read_text(captions[stem]).strip()])
        except DataError as error:
            findings.bad("captions that cannot be read", stem, str(error).removeprefix(f"{captions[stem]}: "))


def docci(folder: Path, benchmark: BenchmarkParams, findings: Findings) -> Iterator[Item]:
    """`docci_descriptions.jsonlines`, in the folder or in `annotations/`, and `images/`; one split, `test` by default."""
    name, split = "docci_descriptions.jsonlines", benchmark.split or "test"
    file = first_present(folder / name, folder / "annotations" / name)
    pictures = present(folder / "images")

    def item(row: Any) -> Item | None:
        # Equal, not contained: `qual_test` is another split.
        if field(row, "split", str) != split:
            return None
        identity, image = field(row, "example_id", str), field(row, "image_file", str)
        return Item([identity], pictures / image, [_text(row, benchmark, ["description"])])

    yield from _items(read_lines(file, findings), item, findings)


def dci(folder: Path, benchmark: BenchmarkParams, findings: Findings) -> Iterator[Item]:
    """`splits.json`, `annotations/<name>` and `photos/<image>`, in the folder or in `densely_captioned_images/`.

    The benchmark is all splits, one after the other, as FLAIR and LoTLIP take it; a caption is `short_caption`, a line
    break and `extra_caption`, which may be empty or null. FG-CLIP takes `extra_caption` alone: `text: [extra_caption]`.
    """
    inner = folder / "densely_captioned_images"
    folder = inner if inner.is_dir() else folder
    file = first_present(folder / "splits.json", inner / "splits.json")
    annotations, pictures = present(folder / "annotations"), present(folder / "photos")
    splits = read_json(file)
    if not isinstance(splits, dict):
        raise DataError(f"{file}: expected a JSON object with a list of file names for each split")
    chosen = benchmark.split.split("+") if benchmark.split else list(splits)
    if unknown := [split for split in chosen if split not in splits]:
        raise DataError(f"{file}: no split '{unknown[0]}'; found {', '.join(splits)}")
    lists = read_lists(file, *chosen)

    def item(name: Any) -> Item:
        if not isinstance(name, str):
            raise OddRowError(f"{file.name}: expected names of files, found {str(name)[:60]}")
        if not (annotations / name).is_file():
            raise OddRowError(f"not found in {annotations.name}/, and {file.name} names it; unpack the archive again")
        try:
            record = read_json(annotations / name)
        except DataError as error:
            raise OddRowError(str(error).removeprefix(f"{annotations / name}: ")) from None
        image = pictures / field(record, "image", str)
        return Item([name], image, [_text(record, benchmark, ["short_caption", "extra_caption"])])

    yield from _items(((str(name), name) for names in lists for name in names), item, findings)


def iiw(folder: Path, benchmark: BenchmarkParams, findings: Findings) -> Iterator[Item]:
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

        def item(row: Any, pictures: Path = pictures) -> Item:
            key = field(row, "image/key" if isinstance(row, dict) and "image/key" in row else "image", str)
            image = pictures / (key if key.lower().endswith(".jpg") else f"{key}.jpg")
            image = find_picture(image, image.with_name(image.name.replace("test", "train")))
            return Item([key], image, [_text(row, benchmark, ["IIW"])])

        rows = ((f"{part}/{where}", row) for where, row in read_lines(file, findings))
        yield from _items(rows, item, findings)


def karpathy(folder: Path, benchmark: BenchmarkParams, findings: Findings) -> Iterator[Item]:
    """Karpathy's `dataset_<set>.json` of COCO or Flickr30k; one split, `test` by default, which `restval` is not.

    Of each image the first `captions` sentences are taken, as they were written (`raw`); COCO has six for some. Pictures
    lie in the folder that the file names (`val2014/`), here or in `images/`; Flickr30k's in `flickr30k-images/`.
    """
    files = sorted(folder.glob("dataset_*.json"))
    if len(files) != 1:
        if files:
            raise DataError(f"{folder}: expected one dataset_<set>.json, found {', '.join(f.name for f in files)}")
        raise NotThereError(folder / "dataset_<set>.json")
    split = benchmark.split or "test"

    def item(record: Any) -> Item | None:
        if field(record, "split", str) != split:
            return None
        sentences = field(record, "sentences", list)
        count = benchmark.captions or len(sentences)
        if len(sentences) < count:
            raise OddRowError(f"expected {count} captions, found {len(sentences)}")
        inner = field(record, "filepath", str) if record.get("filepath") is not None else ""
        roots = (
            [folder / inner, folder / "images" / inner] if inner else [folder / "flickr30k-images", folder / "images"]
        )
        name = field(record, "filename", str)
        return Item(
            [f"{name}#{place}" for place in range(count)],
            _folder(benchmark, *roots) / name,
            [_text(sentence, benchmark, ["raw"]) for sentence in sentences[:count]],
        )

    (records,) = read_lists(files[0], "images")
    yield from _items(((f"image {number}", record) for number, record in enumerate(records)), item, findings)


def sharegpt4v(folder: Path, benchmark: BenchmarkParams, findings: Findings) -> Iterator[Item]:
    """ShareGPT4V: the first rows of the published file (1.5 GB) or of LoTLIP's; a caption is a conversation's second turn.

    A picture is looked for by its path as given (`sam/images/sa_1.jpg`), by the path without the folder `images`, and
    by its name alone in `images/`.
    """

    def item(row: Any) -> Item:
        try:
            identity, given, (_, answer, *_) = str(row["id"]), Path(row["image"]), row["conversations"]
            speaker, caption = answer["from"], answer["value"].strip()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise OddRowError(f"expected id, image and two conversations; {error!r}") from None
        if speaker != "gpt":
            raise OddRowError(f"expected the second turn to be of 'gpt', found {speaker!r}")
        short = Path(*(part for part in given.parts[:-1] if part != "images"), given.name)
        image = find_picture(folder / given, folder / short, folder / "images" / given.name)
        return Item([identity], image, [caption])

    file = first_present(folder / _SHAREGPT4V, folder / _RESAVED)
    rows = head(file, benchmark.first or 0)
    yield from _items(((f"row {number}", row) for number, row in enumerate(rows)), item, findings)


def head(path: Path, count: int) -> Iterator[Any]:
    """The first objects of a JSON file that is a list of objects; the file is read no further than they reach.

    Raises:
        DataError: It is no list, ends inside an object, or cannot be read.
    """
    import ijson  # of the pipeline's packages, not of the core

    with open_file(path) as file:
        mark = _MARK if file.read(len(_MARK)) == _MARK else b""
        file.seek(len(mark))
        start = file.read(_START).lstrip()
        if not start.startswith(b"["):  # of anything else ijson gives no item, and no error
            raise DataError(f"{path}: expected a JSON list, found {start[:20]!r}; download it again")
        file.seek(len(mark))
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


def _items(rows: Iterable[tuple[str, Any]], item: Callable[[Any], Item | None], findings: Findings) -> Iterator[Item]:
    """What a reader makes of the rows, each with its place; one of another form is a bad item."""
    for where, row in rows:
        try:
            found = item(row)
        except OddRowError as error:
            findings.bad(ROWS, where, str(error))
            continue
        if found is not None:
            yield found


def _by_stem(folder: Path, endings: Collection[str]) -> Mapping[str, Path]:
    """Files of some endings, in any case, by their name without it; of several the first."""
    found: dict[str, Path] = {}
    for path in entries(folder):
        if path.suffix.lower() in endings:
            found.setdefault(path.stem, path)
    return found


def _text(record: Any, benchmark: BenchmarkParams, default: Sequence[str]) -> str:
    """The fields that make the caption; a null is an empty text."""
    keys = benchmark.text or default
    return "\n".join(
        "" if isinstance(record, Mapping) and record.get(key, 0) is None else field(record, key, str) for key in keys
    ).strip()
