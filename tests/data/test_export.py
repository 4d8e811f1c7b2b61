"""What is written for other people's programs, read by these programs' own code."""

import io
import json
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import zlib
from argparse import Namespace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from caft.data.export.coco import export_coco
from caft.data.export.pictures import plain
from caft.data.export.tars import Counts, export_tars
from caft.data.sets.retrieval import RetrievalSet
from caft.data.tables.schema import CAPTIONS, FIELDS
from caft.errors import DataError
from caft.transforms import open_image
from tests.peers import peer

# Raw caption, and long caption by LLaVA, of five images in two tars.
TEXTS = [
    ("a red bus", "A bus. It waits at a stop.\nA tree is green"),
    ("zwei Bären\nam See", "Two bears.</s>They swim."),
    (None, "A cat sleeps. It is old."),
    ("a 3.5 m pole", None),
    ("a cup, blue", "A cup."),
]


def encoded(number: int, kind: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((50, 40)).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


PICTURES = [encoded(0), encoded(1), encoded(2, "PNG"), encoded(3, "TIFF"), encoded(4, "PNG", "RGBA")]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of a corpus' tars, whose keys have stops, and of its caption tables."""
    tmp_path = tmp_path_factory.mktemp("corpus")
    images, captions = tmp_path / "images", tmp_path / "captions"
    images.mkdir()
    captions.mkdir()
    for name, rows in (("00000", (0, 1, 2)), ("00003", (3, 4))):
        table = []
        with tarfile.open(images / f"{name}.tar", "w") as tar:
            for row in rows:
                info = tarfile.TarInfo(f"v1.0/{row}.x.jpg")
                info.size = len(PICTURES[row])
                offset = tar.offset + 512
                tar.addfile(info, io.BytesIO(PICTURES[row]))
                entry = {"key": f"v1.0/{row}.x", "row_id": 10 * row, "offset": offset, "size": info.size}
                table.append({**entry, "raw": TEXTS[row][0], "long_lla": TEXTS[row][1]})
        pq.write_table(pa.Table.from_pylist(table, CAPTIONS), captions / f"{name}.parquet")
    return images, captions


@pytest.fixture(scope="module")
def exported(corpus: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "out"
    assert export_tars(*corpus, out) == Counts(samples=5, without_raw=1, rewritten=2)
    return out


def samples(folder: Path) -> list[dict]:
    urls = sorted(str(path) for path in folder.glob("*.tar"))
    return list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))


@pytest.mark.slow
def test_webdataset_reads_picture_text_and_json(exported: Path) -> None:
    found = samples(exported)
    assert [sample["__key__"].rpartition("/")[2] for sample in found] == [f"{row:09d}" for row in (0, 10, 20, 30, 40)]
    assert [sample["txt"] for sample in found] == [
        "a red bus",
        "zwei Bären\nam See",
        TEXTS[2][1],
        "a 3.5 m pole",
        "a cup, blue",
    ]
    for sample, content in zip(found, PICTURES, strict=True):
        pixels = next(sample[ending] for ending in ("jpg", "png") if ending in sample)
        assert np.array_equal(pixels, np.asarray(open_image(content)))


@pytest.mark.slow
def test_the_json_has_texts_for_open_clip_and_lists_of_sentences_for_flair(exported: Path) -> None:
    for row, (sample, (raw, long)) in enumerate(zip(samples(exported), TEXTS, strict=True)):
        held = sample["json"]
        assert held["row_id"] == 10 * row
        # open_clip 4.x takes a text by its name, as `--json-text-key long_lla` does.
        assert {field: held[field] for field in FIELDS if held[field]} == {
            field: text for field, text in (("raw", raw), ("long_lla", long)) if text
        }
        # FLAIR's rule, of its script that prepares tars: at line breaks, the literal </s>, and every full stop.
        expected = [
            [part.strip() for part in re.split(r"\n|</s>|[.]", text or "") if part.strip()] for text in (raw, long)
        ]
        assert [held["raw_caption"], held["longLLA_captions"]] == expected
        # What it draws from: all lists joined.
        names = ("raw", "shortIB", "longIB", "shortSV", "longSV", "shortLLA", "longLLA")
        lists = [held[f"{name}_captions" if name != "raw" else "raw_caption"] for name in names]
        assert sum(lists, []) == sum(expected, [])


def by_open_clip(folder: Path, pattern: str, batch: int) -> list[tuple[tuple[int, ...], str]]:
    """Shapes and texts of an epoch of open_clip's own training data; without a number of samples, it reads sizes.json."""
    data = peer("open_clip_train.data")
    settings = Namespace(
        train_data=str(folder / pattern), train_num_samples=None, train_data_upsampling_factors=None,
        dataset_resampled=False, seed=0, batch_size=batch, world_size=1, workers=0,
    )  # fmt: skip

    def pixels(image: Image.Image) -> "np.ndarray":
        return np.asarray(image)

    found = data.get_wds_dataset(settings, pixels, True, floor=True, tokenizer=lambda text: [text])
    assert found.dataloader.num_samples == 5
    return [
        (image.shape, text) for images, texts in found.dataloader for image, text in zip(images, texts, strict=True)
    ]


@pytest.mark.slow
def test_open_clip_drops_every_sample_of_the_tars_that_training_reads(corpus: tuple[Path, Path]) -> None:
    """Why there is an export: no sample of theirs has a `txt`."""
    is_kept = peer("open_clip_train.data").filter_no_caption_or_no_image
    urls = [str(path) for path in corpus[0].glob("*.tar")]
    assert [is_kept(sample) for sample in webdataset.WebDataset(urls, shardshuffle=False)] == [False] * 5


@pytest.mark.slow
def test_open_clip_trains_on_every_sample(exported: Path) -> None:
    found = by_open_clip(exported, "{00000..00001}.tar", batch=1)
    assert sorted(text for _, text in found) == sorted(raw or long for raw, long in TEXTS)
    assert all(shape == (40, 50, 3) for shape, _ in found)


@pytest.mark.parametrize(
    "content",
    [
        encoded(0, exif=b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
        encoded(1, "PNG", "RGBA"),
        encoded(2, "PNG", "P"),
        encoded(3, "JPEG", "CMYK"),
        encoded(4, "WEBP"),
        encoded(5, "JPEG", "L"),
        encoded(6, "GIF", "P"),
    ],
)
def test_other_programs_see_the_picture_that_this_one_sees(content: bytes) -> None:
    ending, written = plain(content)
    with Image.open(io.BytesIO(written)) as image:
        assert image.format == {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[ending]
        assert np.array_equal(np.asarray(image.convert("RGB")), np.asarray(open_image(content)))


def test_a_plain_picture_is_copied_to_the_byte() -> None:
    for kind, ending in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")):
        assert plain(content := encoded(0, kind)) == (ending, content)


def test_a_folder_with_anything_in_it_is_left_alone(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine")
    for export in (
        lambda folder: export_tars(*corpus, folder),
        lambda folder: export_coco(RetrievalSet([], [], []), folder),
    ):
        with pytest.raises(
            DataError, match="out: is there already; give the name of a folder that is not, or remove it"
        ):
            export(tmp_path / "out")
    assert (tmp_path / "out/mine").read_text() == "mine"


def test_a_picture_of_too_many_pixels_is_one_error() -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    content = encoded(0, "PNG")
    with pytest.raises(DataError, match="pixels"):
        plain(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])


def test_a_link_to_where_it_is_to_lie_stays(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    picture = tmp_path / "0.jpg"
    picture.write_bytes(PICTURES[0])
    for name, export in (
        ("tars", lambda folder: export_tars(*corpus, folder)),
        ("coco", lambda folder: export_coco(RetrievalSet(["0"], [picture], ["a red bus"]), folder)),
    ):
        link, disk = tmp_path / name, tmp_path / f"disk of {name}"
        disk.mkdir()
        link.symlink_to(disk)
        export(link)
        assert link.is_symlink() and any(disk.iterdir())


def test_a_damaged_picture_leaves_no_half_of_an_export(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(corpus[0], tmp_path / "images")
    (tmp_path / "images/00003.tar").write_bytes(bytes(10240))
    (tmp_path / "captions").mkdir()
    shutil.copy(corpus[1] / "00003.parquet", tmp_path / "captions")  # one alone needs no Ray
    with pytest.raises(DataError, match=r"00003\.tar: v1\.0/3\.x: .*run `dvc repro` first"):
        export_tars(tmp_path / "images", tmp_path / "captions", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_set_is_named() -> None:
    command = [sys.executable, "-m", "pipelines.export_coco", "docsi", "-o", "out"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and re.search("docsi: is no retrieval set of .*params.yaml; known are ", done.stderr)


def test_cocos_own_reader_gets_every_caption_to_the_letter(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    paths = []
    for number, content in enumerate(PICTURES[:3]):
        paths.append(tmp_path / f"{number}.jpg")
        paths[-1].write_bytes(content)
    captions = ["one\ntwo", " a.jpg,b ", "drei\u2028vier", "five"]
    assert export_coco(RetrievalSet(["a", "b", "c", "d"], paths, captions, [0, 0, 1, 2]), tmp_path / "out") == 0
    coco = COCO(tmp_path / "out/coco_test_karpathy.json")
    assert coco.getImgIds() == [0, 1, 2]
    held = [[entry["caption"] for entry in coco.loadAnns(coco.getAnnIds(image))] for image in coco.getImgIds()]
    assert held == [["one\ntwo", " a.jpg,b "], ["drei\u2028vier"], ["five"]]
    files = [entry["file_name"] for entry in coco.loadImgs([0, 1, 2])]
    assert [(tmp_path / "out/val2014" / name).read_bytes() for name in files] == PICTURES[:3]


@pytest.mark.slow
def test_sizes_are_those_of_the_tars(exported: Path) -> None:
    assert json.loads((exported / "sizes.json").read_text()) == {"00000.tar": 3, "00001.tar": 2}
