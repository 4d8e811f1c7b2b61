"""`caft audit`: its table against the library, sentence by sentence, its page, and what it refuses."""

import csv
import html
import json
import os
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import caft
from caft.captions.sentences import spans
from caft.model.command import main
from caft.model.pairs import read_pairs, said
from caft.model.support import Judge, least_support

COUNT = 9
CAPTIONS = ["A red box lies on the floor. *** It is small.", "A lake, seen from above.\nThe sky is blue."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Nine pictures, each with a text beside it, and the same as a table that names one more, which is not there."""
    place = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    with (place / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "other", "caption"])
        for number in range(COUNT):
            pixels = np.full((40, 60, 3), rng.integers(0, 255, 3), np.uint8)
            pixels[5:25, 10:40] = rng.integers(0, 255, 3)
            Image.fromarray(pixels).save(place / f"{number}.png")
            (place / f"{number}.txt").write_text(CAPTIONS[number % 2], encoding="utf-8")
            writer.writerow([f"{number}.png", "x", CAPTIONS[number % 2]])
        writer.writerow(["gone.png", "x", "A cat."])
        writer.writerow(["0.png", "x", ""])
    return place


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        return main(["audit", *map(str, arguments)]), *capsys.readouterr()

    return call


def test_the_table_has_every_sentence_with_its_place_score_and_flag(run, model_file, folder):
    code, output, errors = run(folder / "table.csv", "--model", model_file, "-o", "a.parquet", "--page", "w.html")
    assert code == 0 and output.splitlines() == ["a.parquet", "w.html"], errors
    assert "left out" in errors and "gone.png" in errors and "9 pictures, 1 could not be read" in errors
    rows = pq.read_table("a.parquet").to_pylist()
    model = caft.load(model_file)
    pictures = [Image.open(folder / f"{number}.png") for number in range(COUNT)]
    texts = [CAPTIONS[n][a:b] for n in range(2) for a, b in spans(CAPTIONS[n], model.card.splitter)]
    scores = [{match.text: match.logit for match in model.match(picture, texts)} for picture in pictures]
    place = 0
    for number in range(COUNT):
        caption = CAPTIONS[number % 2]
        kept = [
            (count, a, b)
            for count, (a, b) in enumerate(spans(caption, model.card.splitter))
            if any(map(str.isalnum, caption[a:b]))
        ]
        for count, a, b in kept:
            row = rows[place]
            place += 1
            assert (row["image"], row["row"]) == (str(folder / f"{number}.png"), number)
            assert (row["number"], row["start"], row["end"], row["sentence"]) == (count, a, b, caption[a:b])
            logits = [of_picture[caption[a:b]] for of_picture in scores]
            assert row["logit"] == pytest.approx(logits[number], abs=1e-3)
            others = logits[:number] + logits[number + 1 :]
            assert row["support"] == pytest.approx(logits[number] - np.mean(others), abs=1e-3)
    assert place == len(rows)
    least = least_support([row["support"] for row in rows])
    assert [row["flagged"] for row in rows] == [row["support"] < least for row in rows]
    page = Path("w.html").read_text(encoding="utf-8")
    shown = re.findall(r'<span class="kind">.*?</span> (.*?)<br>\s*<small>support (\S+),', page, re.S)
    by_support = sorted(rows, key=lambda row: row["support"])[:24]
    assert [(html.escape(row["sentence"], quote=False), f"{row['support']:.2f}") for row in by_support] == shown
    assert "<script" not in page and page.count("data:image/webp") == 2 * len(by_support)


def test_a_folder_and_each_kind_of_table_give_the_same(run, model_file, folder, tmp_path):
    rows = [{"image": str(folder / f"{number}.png"), "caption": CAPTIONS[number % 2]} for number in range(COUNT)]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    pairs = [tuple(pair) for pair in read_pairs(tmp_path / "t.json")]
    assert pairs == [tuple(pair) for pair in read_pairs(tmp_path / "t.jsonl")]
    assert pairs == [tuple(pair) for pair in read_pairs(folder)]
    assert pairs == [tuple(pair) for pair in read_pairs(folder / "table.csv") if pair.image.exists()]
    code, output, _ = run(folder, "--model", model_file, "--share", "0.25", "-o", "f.json")
    assert (code, output) == (0, "f.json\n")
    found = json.loads((tmp_path / "f.json").read_text())
    supports = [row["support"] for row in found]
    assert sum(row["flagged"] for row in found) == sum(value < np.quantile(supports, 0.25) for value in supports) > 0
    assert run(folder, "--model", model_file)[:2] == (0, f"{folder.name}.audit.csv\n")
    with (tmp_path / f"{folder.name}.audit.csv").open(newline="") as file:
        assert [row["sentence"] for row in csv.DictReader(file)] == [row["sentence"] for row in found]


@pytest.mark.parametrize("output", ["a.csv", "a.json", "a.parquet"])
def test_a_name_that_is_no_utf_8_is_written_as_escapes(run, model_file, folder, tmp_path, output):
    for number in range(8):
        name = b"\xff.png" if number == 3 else b"%d.png" % number
        (tmp_path / os.fsdecode(name)).write_bytes((folder / f"{number}.png").read_bytes())
        (tmp_path / os.fsdecode(name.replace(b"png", b"txt"))).write_text("A box. It is red.")
    code, _, errors = run(".", "--model", model_file, "-o", output, "--page", "w.html")
    assert code == 0, errors
    assert (tmp_path / output).read_bytes().replace(b"\\\\", b"\\").count(b"\\xff.png") >= 1
    if output == "a.csv":  # and a folder that is given as "." has the name that it has
        assert run(".", "--model", model_file)[:2] == (0, f"{tmp_path.name}.audit.csv\n")


def test_no_picture_is_held_at_its_own_size(run, model_file, folder, monkeypatch):
    """128 photographs of 12 million pixels would take 5 GB."""
    held = []
    of, score = Judge.of.__func__, Judge.score

    def seen(pictures):
        held.extend(picture.size for picture in pictures)
        return pictures

    monkeypatch.setattr(Judge, "of", classmethod(lambda cls, n, keys, pictures: of(cls, n, keys, seen(pictures))))
    monkeypatch.setattr(Judge, "score", lambda self, keys, some, texts: score(self, keys, seen(some), texts))
    code, _, errors = run(folder, "--model", model_file)
    assert code == 0 and set(held) == {(64, 64)} and len(held) == 2 * COUNT
    assert "each sentence compared with 8 others at the most" in errors


def test_sentences_without_a_word_are_none():
    found = said("A box. *** It is.", "spacy")
    assert [sentence.sentence for sentence in found if "***" == sentence.sentence] == []
    assert all("A box. *** It is."[s.start : s.end] == s.sentence for s in found)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "a,b\n1,2\n", "row 0 has no image and no caption, but a, b; expected image"),
        ("t.csv", "image\n1.png\n", "row 0 has no caption, but image"),
        ("t.csv", "image,caption\n1.png,\n", "1 pictures and no caption"),
        ("t.json", '{"image', "cannot be read as .json"),
        ("t.json", "[1]", "row 0 has no image and no caption, but no columns, int"),
        ("t.parquet", "no table", "cannot be read as .parquet"),
        ("t.csv", b"\xff\xfeimage", "cannot be read as .csv"),
        ("t.xlsx", "", "expected a table that ends in one of .csv"),
        ("t.csv", "image,caption\n0.png,A cat.\n", "1 could not be read|0 pictures: a sentence's support"),
    ],
)
def test_what_is_no_table_is_one_error(run, model_file, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    code, output, errors = run(name, "--model", model_file)
    assert (code, output) == (2, "") and len(errors.strip().splitlines()) <= 10
    assert re.search(message, errors), errors
    assert not list(tmp_path.glob("*.audit.csv"))


def test_outputs_are_refused_before_the_work(run, model_file, folder):
    refused = {"-o": ("x.png", "x.png: expected a name that ends in one of"), "--page": ("w.txt", "ends in .html")}
    for option, (name, message) in refused.items():
        code, output, errors = run(folder, "--model", "nowhere.safetensors", option, name)
        assert (code, output) == (2, "") and message in errors, errors
    code, _, errors = run("nothing.csv", "--model", model_file)
    assert code == 2 and "no such file or folder" in errors
