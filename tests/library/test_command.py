"""The command `caft`, by its exit code and what it writes; the work of each command against the library."""

import errno
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import caft
from caft.model import gallery
from caft.model.command import main, pictures
from caft.model.drawing import panels
from caft.model.drawing.figures import fit
from caft.model.maps import label_maps
from caft.network.caft import CAFT
from caft.transforms import open_image
from caft.weights.files import save_model

PROJECT = Path(__file__).parents[2]
LONG = "a" * 300  # longer than a name may be
TEXT = "A cat with green eyes. Its nose is pink."


PIPED = {"capture_output": True, "text": True, "timeout": 300}


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(PROJECT), **more}


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
    names |= {"parts/all.png", "parts/legend.png"}  # the masks of all sentences
    assert set(output.splitlines()) == names
    # Where the map is highest the overlay is brightest.
    shown = np.asarray(Image.open("parts/0-attention.png"), np.float64)
    values = caft.load(model_file).ground(photographs / "cat.png", TEXT)[0]
    small = np.asarray(Image.fromarray(values).resize((288, 192), Image.Resampling.BILINEAR))
    high, low = small > np.quantile(small, 0.9), small < np.quantile(small, 0.1)
    assert shown.shape == (192, 288, 3) and shown[high].mean() > shown[low].mean() + 50


def test_ground_says_of_each_sentence_how_well_it_matches(run, model, model_file, photographs, tmp_path):
    (tmp_path / "others.txt").write_text("\ufeffA dog on a beach.\n\nSnow.\n  A red lamp.\n", encoding="utf-8")
    code, output, errors = run(
        "ground", photographs / "cat.png", TEXT, "--reference", "others.txt", "--model", model_file
    )
    assert (code, output) == (0, "cat.ground.png\n")
    expected = model.match(photographs / "cat.png", TEXT, ["A dog on a beach.", "Snow.", "A red lamp."])
    lines = errors.splitlines()
    assert len(lines) == len(expected) == 2
    for line, match in zip(lines, expected, strict=True):
        assert line.startswith(f'"{match.text}": match ')
        assert f"above {match.percentile:.0f} % of the reference sentences" in line
        assert ("not borne out" in line) is not match.borne_out


@pytest.mark.parametrize("width", [200, 640])
def test_the_picture_is_drawn_at_the_width_asked_for(run, model_file, photographs, width):
    args = (photographs / "cat.png", "--model", model_file, "--width", width)
    assert run("ground", *args, TEXT, "-o", "sheet.png")[0] == 0
    assert Image.open("sheet.png").width == 3 * width + 2 * 8 + 2 * 12
    run("ground", *args, TEXT, "-o", "parts")
    height = round(300 * width / 451)
    assert Image.open("parts/0-mask.png").size == Image.open("parts/all.png").size == (width, height)
    assert run("segment", *args, "-o", "segments.png")[0] == 0
    assert Image.open("segments.png").width == 4 * width + 3 * 8 + 2 * 12


def test_a_panorama_can_be_seen(run, model_file, tmp_path):
    Image.effect_noise((3000, 300), 60).convert("RGB").save(tmp_path / "wide.jpg")
    assert run("ground", "wide.jpg", TEXT, "-o", "parts", "--model", model_file)[0] == 0
    assert Image.open("parts/0-mask.png").size == Image.open("parts/all.png").size == (720, 72)
    assert run("segment", "wide.jpg", "-o", "segments.png", "--model", model_file)[0] == 0
    assert Image.open("segments.png").width == 720 + 2 * 12  # below each other


def test_a_photograph_of_a_phone_takes_no_more_memory_than_its_pixels(model_file, tmp_path):
    Image.effect_noise((4032, 3024), 60).convert("RGB").save(tmp_path / "phone.jpg")
    code = """
import resource, sys
import torch
from caft.model.command import main
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
main(["ground", "phone.jpg", "A cat. It sleeps. A lamp. A dog. A star. Snow. Grass. Sky.", "--model", sys.argv[1]])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code, model_file], cwd=tmp_path, env=environment(), **PIPED)
    assert done.returncode == 0, done.stderr
    # Decoding takes 49 MB, spaCy as much, the model and the sheet some; torch's compiler would take 80 MB more, and eight
    # maps of the picture's size 390 MB and as much again.
    assert int(done.stdout.split()[-1]) < 200


def test_a_sheet_shows_what_the_library_finds_in_the_whole_picture(run, model, model_file, photographs):
    """The command makes the picture small before the model is there, and encodes it once."""
    assert run("ground", photographs / "cat.png", TEXT, "-o", "sheet.png", "--model", model_file)[0] == 0
    shown = fit(open_image(photographs / "cat.png"), 288)
    matches = model.match(photographs / "cat.png", TEXT)
    maps = model.ground(photographs / "cat.png", TEXT, size=shown.size[::-1])
    panels.write(panels.looks(shown, matches, list(maps)), 1, Path("expected.png"))
    assert Path("sheet.png").read_bytes() == Path("expected.png").read_bytes()
    assert run("segment", photographs / "cat.png", "-o", "segments.png", "--model", model_file)[0] == 0
    levels = label_maps(model.network, open_image(photographs / "cat.png"))
    panels.write([panels.segments(shown, levels)], 1, Path("expected.png"))
    assert Path("segments.png").read_bytes() == Path("expected.png").read_bytes()


def test_ground_opens_and_encodes_a_picture_once(run, model_file, photographs, monkeypatch):
    opened, seen = [], []
    opens, images = Image.open, CAFT.image_features
    monkeypatch.setattr(Image, "open", lambda file, *more: opened.append(file) or opens(file, *more))
    monkeypatch.setattr(CAFT, "image_features", lambda self, pixels: seen.append(len(pixels)) or images(self, pixels))
    assert run("ground", photographs / "cat.png", TEXT, "--model", model_file)[0] == 0
    assert len(opened) == 1 and seen == [1]


def test_without_a_card_that_says_the_size_the_picture_is_kept_whole(model_file, photographs, tmp_path):
    """Of a file that may be the authors', a card beside it is not read; a card that is none is told by the loading."""
    for name, content in (("none", None), ("odd", "[1]"), ("text", '{"model": {"image_size": "64"}}'), ("bad", "{")):
        model = tmp_path / f"{name}.safetensors"
        if content is not None:
            model.with_suffix(".json").write_text(content)
        assert pictures._side(model) is None
    shutil.copyfile(model_file.with_suffix(".json"), tmp_path / "release.json")
    assert pictures._side(tmp_path / "release.pt") is None
    assert pictures._side(tmp_path / "release.safetensors") == 64


def test_who_saw_rendered_shapes_alone_says_so(run, model, model_file, photographs, tmp_path):
    data = [{"name": "scenes", "count": 4, "fingerprint": "ab"}]
    for name, corpora in (("scenes", data), ("both", [*data, {**data[0], "name": "cc3m"}])):
        facts = {**model.card.record(), "data": corpora}
        card = type(model.card).model_validate(facts, strict=False)
        save_model(model.network, tmp_path / f"{name}.safetensors", card)
    for command in (["ground", photographs / "cat.png", TEXT], ["segment", photographs / "cat.png"]):
        assert "photographs" in run(*command, "--model", "scenes.safetensors")[2]
        assert "rendered shapes" not in run(*command, "--model", "both.safetensors")[2]
    assert run("search", photographs, TEXT, "--model", "scenes.safetensors")[2].count("rendered shapes only") == 1


def test_a_colour_stands_for_one_sentence_of_a_picture(run, model_file, photographs):
    text = " ".join(f"Cat number {number} is here." for number in range(9))
    code, output, _ = run("ground", photographs / "cat.png", text, "-o", "nine", "--model", model_file)
    assert code == 0
    assert {Path(line).name for line in output.splitlines() if "-picture" not in line and "-mask" not in line} == {
        *(f"{number}-attention.png" for number in range(9)),
        *("all-0.png", "legend-0.png", "all-1.png", "legend-1.png"),
    }


def test_a_sheet_that_would_fill_the_memory_is_refused(run, model_file, photographs):
    text = " ".join(f"Cat number {number} is here." for number in range(9))
    code, output, errors = run("ground", photographs / "cat.png", text, "--width", 2048, "--model", model_file)
    assert (code, output) == (2, "")
    assert "9 sentences, each three times at 2048 x 1362, are 75 million pixels, expected at most 64" in errors


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
    for content, kind in (("null", "NoneType"), ("[]", "list"), ("3", "int")):
        (tmp_path / "metrics/train.json").write_text(content)
        code, _, errors = run("info", model_file, "--metrics", "metrics")
        assert code == 2 and f"metrics/train.json: expected an object of scores, found {kind}" in errors


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


def test_a_result_is_one_line_whatever_its_name(run, model_file, photographs, tmp_path):
    (tmp_path / "many").mkdir()
    shutil.copyfile(photographs / "cat.png", tmp_path / "many" / "a\nb.png")
    code, output, _ = run("search", "many", TEXT, "--model", model_file)
    assert code == 0 and output.endswith("  many/a\\nb.png\n") and output.count("\n") == 1


def test_search_draws_what_it_found(run, model_file, photographs):
    search = ("search", photographs, TEXT, "--model", model_file)
    code, output, errors = run(*search, "-o", "found.png")
    assert code == 0 and output == run(*search)[1] and "found.png" in errors
    sheet = np.asarray(Image.open("found.png"))
    first = ranked(output)[0][1]
    path = next(photographs.rglob(first))
    picture = Image.open(path).convert("RGB")
    scale = 288 / max(picture.size)
    small = picture.resize(tuple(round(side * scale) for side in picture.size), Image.Resampling.BICUBIC)
    at = next(y for y in range(len(sheet)) if (sheet[y, 12 : 12 + small.width] == np.asarray(small)[0]).all())
    assert (sheet[at : at + small.height, 12 : 12 + small.width] == np.asarray(small)).all()
    below = sheet[at + small.height : at + small.height + 60, 12 : 12 + small.width]
    assert (below < 128).any()  # score and name


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
    (cache,) = (tmp_path / "cache/caft").glob("*/*.safetensors")
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
    # Kept in half precision: a number in 2048, or what is next to nothing.
    torch.testing.assert_close(found.encoded.part, model.encode_images(found.files).part, rtol=2**-11, atol=2**-24)


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
        (["ground", ".", TEXT, "--model", "MODEL"], ".: is a folder; give one picture"),
        (["segment", ".", "--model", "MODEL"], ".: is a folder; give one picture"),
        (["ground", "CAT", " \t\n ", "--model", "MODEL"], "has no sentence; give words to look for"),
        (["search", ".", "\u3000 ", "--model", "MODEL"], "has no sentence; give words to look for"),
        (["ground", "CAT", TEXT, "--width", "0"], "expected a whole number from 64 to 2048, found '0'"),
        (["ground", "CAT", TEXT, "--reference", "absent.txt"], "absent.txt: not found; check the name"),
        (["ground", "CAT", TEXT, "--reference", "."], ".: is a folder; give a text file with one sentence a line"),
        (["ground", "CAT", TEXT, "--reference", "CAT"], "cannot be read as a text in UTF-8"),
        (["ground", "CAT", TEXT, "-o", ""], "expected the name of a file or folder, found an empty one"),
        (["search", "", TEXT], "expected the name of a file or folder, found an empty one"),
        (["segment", "CAT", "--model", ""], "expected the name of a file or folder, found an empty one"),
        (["ground", "CAT", TEXT, "-o", LONG], "argument -o/--output: no file or folder can have the name"),
        (["ground", "CAT", TEXT, "-o", f"{LONG}.png"], "no file or folder can have the name"),
        (["ground", "CAT", TEXT, "--reference", LONG], "no file or folder can have the name"),
        (["search", LONG, TEXT], "argument folder: no file or folder can have the name"),
        (["info", f"{LONG}.safetensors"], "argument model: no file or folder can have the name"),
        (["info", "MODEL", "--metrics", LONG], "no file or folder can have the name"),
        (["convert", LONG, "-o", "out.safetensors"], "no file or folder can have the name"),
        (["search", ".", TEXT, "-o", "found.jpg", "--model", "MODEL"], "found.jpg: expected a name that ends in .png"),
        (["search", ".", TEXT, "-o", "found", "--model", "MODEL"], "found: expected a name that ends in .png"),
        (["search", "absent", TEXT, "--model", "MODEL"], "absent: no such folder"),
        (["search", ".", TEXT, "--model", "MODEL"], "no picture in it or below"),
        (["search", ".", "", "--model", "MODEL"], "has no sentence"),
        (["search", ".", TEXT, "-k", "0"], "expected a whole number from 1, found '0'"),
        (["search", ".", TEXT, "--part-weight", "1.5"], "expected a number from 0 to 1, found '1.5'"),
        (["chunk", ""], "has no sentence; give words to look for"),
        (["chunk", "..."], "the text '...' has no sentence; give words to look for"),
        (["chunk", "<br> </s>", "--splitter", "spacy"], "has no sentence; give words to look for"),
        (["ground", "absent.png", "...", "--model", "absent.safetensors"], "has no sentence; give words to look for"),
        (["search", "absent", "</s>", "--model", "absent.safetensors"], "has no sentence; give words to look for"),
        (["info", "CAT"], "cannot be read as a torch checkpoint"),
        (["info", "MODEL", "--metrics", "."], "none of train, retrieval, grounding, regions (.json) there"),
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


@pytest.mark.parametrize("command", ["", "ground", "segment", "search", "chunk", "info", "convert", "push"])
def test_help_has_an_example(run, command):
    code, output, _ = run(*command.split(), "--help")
    assert code == 0 and "caft " in output and len(output.splitlines()) > 8


# ---------------------------------------------------------------------- around the command


@pytest.mark.parametrize(
    ("command", "output", "words"),
    [
        ("ground", "a.jpg", "expected a name that ends in .png"),
        ("ground", "CAT/out.png", "is a file"),
        ("segment", "CAT/parts", "is a file"),
        ("ground", "file", "is a file"),
        ("segment", "parts.2", "expected a name that ends in .png"),
        ("search", "/proc/nowhere/out.png", "cannot be written"),
        ("ground", "/proc/nowhere/parts", "cannot be written"),
        ("search", "folder.png", "is a folder"),
        ("convert", "/proc/out.safetensors", "cannot be written"),
        ("convert", "card.safetensors", "card.json: is a folder"),
        ("ground", f"{'a' * 240}.png", "File name too long"),  # its own is not, that of its temporary file is
        ("ground", "drawn", "drawn/0-picture.png: is a folder"),
    ],
)
def test_where_nothing_can_be_written_is_found_out_before_the_work(
    run, model_file, photographs, tmp_path, monkeypatch, command, output, words
):
    def too_late(*arguments, **more):
        raise AssertionError("the work has begun")

    for place in ("model.command.pictures.read_rgb", "weights.placed.load_model", "weights.load.load"):
        monkeypatch.setattr(f"caft.{place}", too_late)
    monkeypatch.setattr(gallery, "read_gallery", too_late)
    for folder in ("folder.png", "card.json", "drawn/0-picture.png"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "file").write_text("kept")
    given = {
        "ground": [photographs / "cat.png", TEXT, "--model", model_file],
        "segment": [photographs / "cat.png", "--model", model_file],
        "search": [photographs, TEXT, "--model", model_file],
        "convert": ["given.pt"],
    }
    code, printed, errors = run(command, *given[command], "-o", output.replace("CAT", str(photographs / "cat.png")))
    assert code == 2 and words in errors and not printed and "\n" not in errors.strip()
    assert {path.name for path in tmp_path.iterdir()} == {"folder.png", "file", "card.json", "drawn"}
    assert (tmp_path / "file").read_text() == "kept"


def test_a_reader_that_wants_no_more_ends_the_command_in_silence(tmp_path):
    # More than a pipe holds, and than an argument may have.
    code = "import sys; from caft.__main__ import main; sys.argv[1:] = ['chunk', 'A cat. ' * 30_000]; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert (process.wait(300), process.stderr.read()) == (0, b"")
    process.stderr.close()


def test_a_full_disk_below_standard_output_is_an_error(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "caft", "chunk", "A cat. It sleeps."], cwd=tmp_path, env=environment(),
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=300,
        )  # fmt: skip
    assert done.returncode == 2 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    assert "No space left" in done.stderr


def test_standard_output_that_takes_no_more_is_told_as_that(model_file, photographs, tmp_path):
    (tmp_path / "many").mkdir()
    for number in range(100):  # together more than a buffer holds, so that it is printing which fails
        shutil.copyfile(photographs / "cat.png", tmp_path / "many" / f"{number}-{'a' * 200}.png")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "caft", "search", "many", TEXT, "-k", "100", "--model", model_file], cwd=tmp_path,
            env=environment(XDG_CACHE_HOME=str(tmp_path / "cache")), stdout=full, stderr=subprocess.PIPE, text=True,
            timeout=300,
        )  # fmt: skip
    assert done.returncode == 2 and "run the stage" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: standard output cannot be written (No space left")


def test_a_disk_that_fills_during_the_work_is_told_without_a_stage(run, model_file, photographs, monkeypatch):
    def full(*arguments, **more):
        raise OSError(errno.ENOSPC, "No space left on device", "found.png")

    monkeypatch.setattr("caft.model.drawing.panels.write", full)
    code, _, errors = run("segment", photographs / "cat.png", "--model", model_file)
    assert code == 2 and "stage" not in errors and "storage.root" not in errors
    assert "found.png: No space left on device; free some space there" in errors


@pytest.mark.parametrize(
    "locale",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
    ids=["ascii", "C"],
)
def test_any_locale_prints_any_name_and_text(model_file, photographs, tmp_path, locale):
    shutil.copy(photographs / "cat.png", tmp_path / "Kätzchen 猫.png")
    name = os.fsencode("Kätzchen 猫.png")
    command = [sys.executable, "-m", "caft"]
    ground = [*command, "ground", name, "Das Kätzchen schläft 猫.", "--model", model_file]
    chunk = [*command, "chunk", "Das Kätzchen schläft."]
    search = [*command, "search", ".", "Ein Kätzchen.", "--model", model_file, "-o", "gefunden.png"]
    for line in (ground, chunk, search):
        done = subprocess.run(
            line, cwd=tmp_path, env=environment(XDG_CACHE_HOME=str(tmp_path / "cache"), **locale),
            capture_output=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        assert b"Traceback" not in done.stderr and b"tzchen" in done.stdout
    assert (tmp_path / "Kätzchen 猫.ground.png").exists() and (tmp_path / "gefunden.png").exists()


def test_names_that_are_no_text_are_printed_as_they_are(model_file, photographs, tmp_path):
    shutil.copy(photographs / "cat.png", os.path.join(os.fsencode(tmp_path), b"caf\xe9.png"))
    search = ["search", ".", "A cat.", "--model", model_file, "-o", "found.png"]
    done = subprocess.run(
        [sys.executable, "-m", "caft", *search], cwd=tmp_path, capture_output=True, timeout=300,
        env=environment(XDG_CACHE_HOME=str(tmp_path / "cache")),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(b"caf\xe9.png")


@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.5, 2.5])
def test_an_interruption_is_one_line_whenever_it_comes(tmp_path, seconds):
    """Also while libraries are imported; the process says when it has begun."""
    code = "import sys; print('begun', flush=True); from caft.__main__ import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "search", "/", "A cat.", "--model", "absent"],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdout.readline()
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    # While Python takes itself down, the signal ends it with no more words.
    ended_before = process.returncode in (2, -signal.SIGINT) and errors.startswith("error: ")
    assert ended_before or (process.returncode, errors) == (130, "interrupted\n")


def test_an_interruption_during_the_work_is_one_line(run, model_file, photographs, monkeypatch):
    def interrupted(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("caft.model.command.pictures.read_rgb", interrupted)
    assert run("ground", photographs / "cat.png", TEXT, "--model", model_file) == (130, "", "interrupted\n")
