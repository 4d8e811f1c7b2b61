"""The command `caft`, by its exit code and what it writes; the work of each command against the library."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import caft
from caft.model import gallery
from caft.model.command import main

PROJECT = Path(__file__).parents[2]
TEXT = "A cat with green eyes. Its nose is pink."


@pytest.fixture
def run(model_file, photographs, tmp_path, monkeypatch, capsys):
    """Gives a function that runs the command in an empty folder: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit:  # argparse
            code = exit.code
        return code, *capsys.readouterr()

    return call


def test_the_module_and_the_installed_script_are_the_same_function(model_file, photographs, tmp_path):
    scripts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]
    module, function = scripts["caft"].split(":")
    assert module == "caft.__main__" and callable(getattr(importlib.import_module(module), function))
    done = subprocess.run(
        [sys.executable, "-m", "caft", "ground", photographs / "cat.png", TEXT, "--model", model_file],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(PROJECT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "cat.ground.png\n"), done.stderr
    assert Image.open(tmp_path / "cat.ground.png").width == 3 * 288 + 2 * 8 + 2 * 12


def test_ground_writes_single_pictures_of_each_sentence_into_a_folder(run, model_file, photographs):
    code, output, _ = run("ground", photographs / "cat.png", TEXT, "-o", "parts", "--model", model_file)
    assert code == 0
    names = {f"parts/{number}-{kind}.png" for number in (0, 1) for kind in ("picture", "attention", "mask")}
    assert set(output.splitlines()) == names
    # Where the map is highest the overlay is brightest.
    shown = np.asarray(Image.open("parts/0-attention.png"), np.float64)
    values = caft.load(model_file).ground(photographs / "cat.png", TEXT)[0]
    small = np.asarray(Image.fromarray(values).resize((288, 192), Image.Resampling.BILINEAR))
    high, low = small > np.quantile(small, 0.9), small < np.quantile(small, 0.1)
    assert shown.shape == (192, 288, 3) and shown[high].mean() > shown[low].mean() + 50


def test_segment_shows_superpixels_and_three_groupings(run, model_file, photographs):
    code, output, _ = run("segment", photographs / "cat.png", "--model", model_file)
    assert (code, output) == (0, "cat.segments.png\n")
    assert Image.open("cat.segments.png").width == 4 * 288 + 3 * 8 + 2 * 12


def test_chunk_shows_what_a_model_reads(run, model_file):
    code, output, _ = run("chunk", "A. B. C. D. E.")
    assert code == 0 and output.splitlines() == [
        "1  A. B  [5 tokens]",
        "2  C  [3 tokens]",
        "3  D  [3 tokens]",
        "4  E  [3 tokens]",
    ]
    long = "word " * 80
    assert "1  " + long.strip() + "  [82 tokens, cut after 77]" in run("chunk", long, "--model", model_file)[1]
    assert "1  Dr. Who waits.  " in run("chunk", "Dr. Who waits. It rains.", "--splitter", "spacy")[1]


def test_info_is_the_card_and_the_weights(run, model, model_file, tmp_path):
    code, output, _ = run("info", model_file)
    assert code == 0 and output.startswith("# CAFT model `0123456789abcdef`")
    total = sum(parameter.numel() for parameter in model.network.parameters())
    assert f"- all: {total:,}" in output and "- part level: scale 4.48, bias -3.00" in output
    (tmp_path / "metrics").mkdir()
    scores = {"phrase": {"expressions": 7, "miou": 12.34, "miou_wrong_expression": None}}
    (tmp_path / "metrics/grounding.json").write_text(json.dumps(scores))
    assert "| phrase | 7 | 12.3 | - | - | - |" in run("info", model_file, "--metrics", "metrics")[1]
    (tmp_path / "metrics/train.json").write_text('{"settings_digest": "another"}')
    code, _, errors = run("info", model_file, "--metrics", "metrics")
    assert code == 2 and "metrics: scores of the model another, not of 0123456789abcdef" in errors


# ---------------------------------------------------------------------- search


def ranked(output):
    return [(float(line.split()[0]), Path(line.split(maxsplit=1)[1]).name) for line in output.splitlines()]


def test_search_ranks_as_the_library(run, model, model_file, photographs):
    files = [photographs / "cat.png", photographs / "people/astronaut.jpg"]
    code, output, errors = run("search", photographs, TEXT, "--model", model_file)
    assert code == 0, errors
    scores = model.similarity(files, TEXT)[:, 0]
    expected = [(scores[match.image].item(), files[match.image].name) for match in model.retrieve(TEXT, files)]
    assert [name for _, name in ranked(output)] == [name for _, name in expected]
    assert [score for score, _ in ranked(output)] == pytest.approx([score for score, _ in expected], abs=1e-3)
    assert len(ranked(run("search", photographs, TEXT, "-k", "1", "--model", model_file)[1])) == 1


def test_the_second_search_encodes_only_what_came_or_changed(run, model_file, photographs, tmp_path, monkeypatch):
    folder = tmp_path / "pictures"
    shutil.copytree(photographs, folder)
    encoded = []

    def counted(model, paths, batch):
        encoded.extend(path.name for path in paths)
        return original(model, paths, batch)

    original = gallery.encode_cropped
    monkeypatch.setattr(gallery, "encode_cropped", counted)
    search = ("search", folder, TEXT, "--model", model_file)
    first = run(*search)
    assert sorted(encoded) == ["astronaut.jpg", "cat.png"]
    encoded.clear()
    assert run(*search) == first and not encoded
    Image.new("RGB", (30, 30), (255, 0, 0)).save(folder / "red.png")
    Image.new("RGB", (30, 30), (0, 0, 255)).save(folder / "cat.png")
    (folder / "people/astronaut.jpg").unlink()
    assert {name for _, name in ranked(run(*search)[1])} == {"red.png", "cat.png"}
    assert sorted(encoded) == ["cat.png", "red.png"]


def test_a_damaged_cache_or_picture_stops_nothing(run, model_file, photographs, tmp_path, caplog):
    folder = tmp_path / "pictures"
    shutil.copytree(photographs, folder)
    (folder / "broken.jpg").write_bytes((folder / "people/astronaut.jpg").read_bytes()[:500])
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"")
    search = ("search", folder, TEXT, "--model", model_file)
    code, output, _ = run(*search)
    assert code == 0 and len(ranked(output)) == 2
    assert caplog.text.count("left out: ") == 1 and "broken.jpg: cannot be decoded" in caplog.text
    (cache,) = (tmp_path / "cache/caft").glob("*.safetensors")
    cache.write_bytes(cache.read_bytes()[:100])
    assert run(*search)[1] == output and "is damaged" in caplog.text


def test_what_was_done_before_an_interruption_is_kept(model, photographs, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    original, calls = gallery.encode_cropped, []

    def interrupted(model, paths, batch):
        calls.append(paths)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(model, paths, batch)

    monkeypatch.setattr(gallery, "encode_cropped", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gallery.read_gallery(model.network, "m", photographs, batch=1)
    found = gallery.read_gallery(model.network, "m", photographs, batch=1)
    assert len(calls) == 3 and len(found.files) == 2  # the first of two was not encoded again
    torch.testing.assert_close(found.encoded.whole, model.encode_image(found.files))
    torch.testing.assert_close(found.encoded.part, model.encode_images(found.files).part)


def test_another_model_has_a_cache_of_its_own(model, photographs, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    gallery.read_gallery(model.network, "one", photographs)
    gallery.read_gallery(model.network, "two", photographs)
    assert len(list((tmp_path / "caft").iterdir())) == 2


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["ground", "absent.png", TEXT], "absent.png: not found; check the name"),
        (["ground", "CAT", TEXT, "--model", "absent.safetensors"], "absent.json: not found; a model is two files"),
        (["ground", "CAT", "  ", "--model", "MODEL"], "has no sentence; give words to look for"),
        (["ground", "CAT", TEXT, "--model", "MODEL", "-o", "a.jpg"], "a.jpg: expected a name that ends in .png"),
        (["search", "absent", TEXT, "--model", "MODEL"], "absent: no such folder"),
        (["search", ".", TEXT, "--model", "MODEL"], "no picture in it or below"),
        (["search", ".", "", "--model", "MODEL"], "has no sentence"),
        (["search", ".", TEXT, "-k", "0"], "expected a whole number from 1, found '0'"),
        (["search", ".", TEXT, "--part-weight", "1.5"], "expected a number from 0 to 1, found '1.5'"),
        (["chunk", ""], "a caption without a sentence cannot be chunked; give a text"),
        (["info", "CAT"], "cannot be read as a torch checkpoint"),
        (["info", "MODEL", "--metrics", "."], "no .json file there"),
        (["convert", "MODEL", "-o", "out.safetensors"], "is in this project's form already"),
        (["convert", "absent.pt", "-o", "out.pt"], "out.pt: expected a name that ends in .safetensors"),
        (["convert", "absent.pt", "-o", "out.safetensors"], "absent.pt: not found"),
    ],
)
def test_what_is_wrong_is_said_with_exit_code_2(run, model_file, photographs, arguments, words):
    places = {"MODEL": model_file, "CAT": photographs / "cat.png"}
    code, output, errors = run(*(places.get(argument, argument) for argument in arguments))
    assert code == 2 and words in errors and not output
    assert "Traceback" not in errors


@pytest.mark.parametrize("command", ["", "ground", "segment", "search", "chunk", "info", "convert"])
def test_help_has_an_example(run, command):
    code, output, _ = run(*command.split(), "--help")
    assert code == 0 and "caft " in output and len(output.splitlines()) > 8
