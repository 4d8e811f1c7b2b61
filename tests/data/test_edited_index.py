"""After edits of a user's pictures, table or tars, the stages give the index of a folder that was made anew."""

import argparse
import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from webdataset import TarWriter

from caft.data.tables.fields import FIELDS
from caft.data.training.reader import TrainingIndex
from caft.params import load_params
from pipelines import captions, fetch, index, select, sentences, source

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray")]
# What says where an image lies.
WHERE = {"images.npy", "index.json"}
FIELD = FIELDS.index("long_ib")
Rows = list[tuple[str, str]]


def pixels(seed: int) -> np.ndarray:
    """80 x 96 x 3."""
    return np.kron(np.random.default_rng(seed).integers(0, 256, (10, 12, 3), np.uint8), np.ones((8, 8, 1), np.uint8))


def save(path: Path, seed: int) -> None:
    Image.fromarray(pixels(seed)).save(path)


def write_table(path: Path, column: str, rows: Rows) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([column, "long_caption"])
        writer.writerows(rows)


def rows_of(names: Callable[[int], str], count: int) -> Rows:
    return [(names(number), f"Picture {number}. It has a tone. A box.") for number in range(count)]


class Made:
    """An index by all stages; the folder of its images is kept, or not."""

    def __init__(self, root: Path, entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
        (root / "overlay.yaml").write_text(
            f"{{corpora: [mine], corpus: {{mine: {{kind: custom, expected_images: 9, {entry}}}}}, "
            "fetch: {images_per_shard: 5, image_size: 64, timeout: 3, retries: 0}}"
        )
        self.params = load_params("params.yaml", [root / "overlay.yaml"])
        self.root, self.monkeypatch = root, monkeypatch

    def run(self, name: str) -> TrainingIndex:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        self.monkeypatch.setenv("CAFT_STORAGE", str(folder / "storage"))
        self.monkeypatch.chdir(folder)
        arguments = argparse.Namespace(corpus="mine", retry=None, erase=False)
        for stage in (source, fetch, captions, sentences, select, index):
            stage.main(self.params, arguments)
        return TrainingIndex(folder / "data/index", folder / "storage/images")

    def as_anew(self) -> TrainingIndex:
        """The index of the folder that is kept, which is compared with that of one made anew."""
        kept, anew = self.run("kept"), self.run("anew")
        assert kept.row_ids.tolist() == anew.row_ids.tolist()
        assert [kept.image_bytes(i) for i in range(len(kept))] == [anew.image_bytes(i) for i in range(len(anew))]
        files, counts = [], []
        for folder in (self.root / "kept", self.root / "anew"):
            files.append({path.name: path.read_bytes() for path in (folder / "data/index").iterdir()})
            counts.append(json.loads((folder / "metrics/data.json").read_text())["mine"])
        assert {name for name in files[0] | files[1] if files[0].get(name) != files[1].get(name)} == WHERE
        assert counts[0].pop("fingerprint") != counts[1].pop("fingerprint")  # of the files, so it tells the two apart
        assert counts[0] == counts[1] and counts[0]["rows_out"] == len(kept)
        return kept


@pytest.mark.verify  # test_ordering.py and test_look_stage.py cover the most of it
def test_own_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    rows = rows_of("{}.png".format, 14)
    for number, (name, _) in enumerate(rows):
        save(photos / name, number)
    made = Made(tmp_path, f"table: {photos}/table.csv", monkeypatch)

    write_table(photos / "table.csv", "path", rows)
    assert len(made.run("kept")) == 14
    rows[3] = ("3.png", "A corrected caption. It is right.")
    save(photos / "new.png", 77)
    rows.insert(5, ("new.png", "A new picture. Indeed."))
    write_table(photos / "table.csv", "path", rows)
    assert len(made.run("kept")) == 15
    del rows[2]
    save(photos / "8.png", 88)
    (photos / "9.png").rename(photos / "neuf.png")
    rows[[name for name, _ in rows].index("9.png")] = ("neuf.png", "Picture 9. Another name.")
    shutil.copy(photos / "1.png", photos / "copy.png")
    rows.append(("copy.png", "A copy. Yes."))
    write_table(photos / "table.csv", "path", rows)
    found = made.as_anew()
    assert sorted(found.row_ids.tolist()) == list(range(15)) and len(found.repeats) == 2
    for i, row in enumerate(found.row_ids.tolist()):
        name, caption = rows[row]
        assert found.chunk_text(i, FIELD, [0]) == caption.split(". ")[0] + "."
        seed = {"new.png": 77, "8.png": 88, "neuf.png": 9, "copy.png": 1}.get(name) or int(name.removesuffix(".png"))
        stored = np.asarray(found.picture(i).resize((12, 10)), np.float64)
        assert np.abs(stored - np.asarray(Image.fromarray(pixels(seed)).resize((12, 10)))).mean() < 20


@pytest.mark.verify  # test_packed.py and test_look.py cover the most of it
def test_packed_tars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = tmp_path / "packed"
    packed.mkdir()
    address = "https://one.example/{}.png".format
    write_table(tmp_path / "table.csv", "url", rows_of(address, 12))

    def tar(name: str, numbers: list[int]) -> None:
        with TarWriter(str(packed / name)) as writer:
            for number in numbers:
                save(tmp_path / "one.png", number)
                content = (tmp_path / "one.png").read_bytes()
                writer.write({"__key__": f"{number:09d}", "png": content, "json": {"url": address(number)}})

    tar("b.tar", [7, 1, 4, 2])
    tar("c.tar", [3, 9, 0])
    made = Made(
        tmp_path,
        f"table: {tmp_path}/table.csv, packed: {packed}, minimum_usable: 0.1, fetch: {{minimum_yield: 0.1}}",
        monkeypatch,
    )
    before = made.run("kept").row_ids.tolist()
    assert len(before) == 7
    tar("a.tar", [11, 5])
    after = made.run("kept").row_ids.tolist()
    assert sorted(after) == sorted([*before, 5, 11]) and [row for row in after if row not in (5, 11)] == before
    assert made.run("anew").row_ids.tolist() == after
