"""`caft ground --masks` and `--json`: what other programs read, against the library and COCO's own API."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco

from caft.data.run_lengths import compressed, run_lengths
from caft.model.command import main
from caft.model.otsu import otsu_mask
from tests.waiting import wait_until

PROJECT = Path(__file__).parents[2]
TEXT = "A cat with green eyes. Its nose is pink. A red lamp."
FOLDER = ["mask-0.png", "mask-1.png", "mask-2.png"]


@pytest.fixture
def run(model_file, photographs, tmp_path, monkeypatch, capsys):
    """Gives a function that grounds a text in the cat's picture, in an empty folder: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def call(*more, text=TEXT):
        try:
            code = main(["ground", str(photographs / "cat.png"), text, "--model", str(model_file), *map(str, more)])
        except SystemExit as exit:  # argparse
            code = exit.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def expected(model, photographs):
    maps = model.ground(photographs / "cat.png", TEXT)
    assert maps.shape == (3, 300, 451)
    return np.stack([otsu_mask(values) for values in maps])


def temporary():
    return [path for path in Path().rglob("*") if path.name.startswith(".")]


def test_a_name_without_ending_is_a_folder_of_pictures(run, expected):
    code, output, _ = run("--masks", "found/masks")
    assert code == 0
    assert output.splitlines() == ["cat.ground.png", *(f"found/masks/{name}" for name in FOLDER)]
    assert sorted(os.listdir("found/masks")) == FOLDER and not temporary()
    for name, mask in zip(FOLDER, expected, strict=True):
        picture = Image.open(f"found/masks/{name}")
        assert picture.mode == "L" and (np.asarray(picture) == 255 * mask).all()


@pytest.mark.parametrize("name", ["masks.npy", "masks.NPY"])
def test_npy_is_one_array(run, expected, name):
    code, output, _ = run("--masks", name)
    assert (code, output) == (0, f"cat.ground.png\n{name}\n")
    array = np.load(name)
    assert array.dtype == bool and (array == expected).all()


def test_json_is_what_cocos_own_api_writes_and_reads(run, expected):
    code, output, _ = run("--masks", "masks.json")
    assert (code, output) == (0, "cat.ground.png\nmasks.json\n")
    entries = json.loads(Path("masks.json").read_text())
    assert [entry["text"] for entry in entries] == ["A cat with green eyes", "Its nose is pink", "A red lamp"]
    for entry, mask in zip(entries, expected, strict=True):
        theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert entry["segmentation"] == {"size": theirs["size"], "counts": theirs["counts"].decode()}
        assert (coco.decode(entry["segmentation"]) == mask).all()


@given(arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_run_lengths_of_any_mask_are_cocos(mask):
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    runs = run_lengths(mask)
    assert compressed(runs) == theirs["counts"].decode()
    assert coco.frPyObjects({"size": list(mask.shape), "counts": runs}, *mask.shape) == theirs
    assert (coco.decode({"size": list(mask.shape), "counts": compressed(runs)}) == mask).all()


@pytest.mark.parametrize("fill", [False, True])
def test_run_lengths_of_a_large_plain_mask_are_cocos(fill):
    mask = np.full((3000, 4000), fill)
    mask[1234, 2345] = not fill
    assert compressed(run_lengths(mask)) == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def test_json_has_the_librarys_scores(run, model, photographs):
    code, output, errors = run("--json", "--masks", "masks", "-o", "drawn.png")
    assert code == 0 and "match" not in errors
    found = json.loads(output)
    matches = model.match(photographs / "cat.png", TEXT)
    assert found == {
        "picture": str(photographs / "cat.png"),
        "sentences": [{**match._asdict(), "borne_out": match.borne_out} for match in matches],
        "masks": [f"masks/{name}" for name in FOLDER],
        "drawings": ["drawn.png"],
    }
    assert {"text", "logit", "probability", "percentile", "borne_out"} == set(found["sentences"][0])


def test_a_file_is_one_line_of_the_output_whatever_its_name(run):
    code, output, _ = run("--masks", "two\nlines.npy", "-o", "on\rtwo.png")
    assert code == 0 and output.split("\n") == ["on\\rtwo.png", "two\\nlines.npy", ""]
    assert Path("two\nlines.npy").exists()


def test_masks_of_another_text_take_the_place_of_all(run):
    assert run("--masks", "masks")[0] == 0
    assert run("--masks", "masks", text="A cat.")[0] == 0
    assert os.listdir("masks") == ["mask-0.png"] and not temporary()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--masks", "masks.png"], "masks.png: expected a name without ending, for a folder of PNG files, or one that ends"),
        (["--masks", ""], "expected the name of a file or folder, found an empty one"),
        (["--masks", "a" * 300], "argument --masks: no file or folder can have the name"),
        (["--masks", "a" * 240], "File name too long); give another name with --masks"),
        (["--masks", "."], "the folder of the masks is replaced as a whole; give the name of a new one with --masks"),
        (["--masks", "own/.."], "the folder of the masks is replaced as a whole"),
        (["--masks", "file"], "file: is a file; give the name of a folder with --masks"),
        (["--masks", "file/masks"], "file/masks: cannot be written, since file is a file; give another place with --masks"),
        (["--masks", "file/masks.npy"], "cannot be written, since file is a file; give another place with --masks"),
        (["--masks", "folder.npy"], "folder.npy: is a folder; give the name of a file"),
        (["--masks", "folder.json"], "folder.json: is a folder; give the name of a file"),
        (["--masks", "own"], "own: holds mine.png, which is no mask that this command writes"),
        (["--masks", "theirs"], "theirs: holds mask-0.png, which is no mask that this command writes"),
        (["--masks", "linked"], "linked: holds mask-0.png, which is no mask that this command writes"),
        (["--masks", "nowhere"], "nowhere: is a link that leads nowhere; give the name of a folder with --masks"),
        (["--masks", "loop"], "loop: is a link that leads nowhere; give the name of a folder with --masks"),
        (["--masks", "said.json", "--reference", "said.json"], "said.json: is read, and masks would take its place"),
        (["--masks", "/proc/masks"], "/proc/masks: cannot be written (/proc: "),
        (["--masks", "masks", "-o", "masks"], "masks: lies in masks, which is replaced as a whole; give another place with -o"),
        (["--masks", "masks", "-o", "masks/sheet.png"], "masks/sheet.png: lies in masks, which is replaced as a whole"),
    ],
)  # fmt: skip
def test_bad_names_are_found_out_before_the_work(run, tmp_path, monkeypatch, arguments, words):
    def too_late(*given, **more):
        raise AssertionError("the work has begun")

    monkeypatch.setattr("caft.model.command.pictures.read_rgb", too_late)
    (tmp_path / "file").write_text("kept")
    for folder in ("own", "folder.npy", "folder.json"):
        (tmp_path / folder).mkdir()
    (tmp_path / "own/mine.png").write_bytes(b"kept")
    (tmp_path / "theirs/mask-0.png").mkdir(parents=True)  # a folder, and a link, are none of this command's
    (tmp_path / "linked").mkdir()
    for place, target in (("linked/mask-0.png", "../own/mine.png"), ("nowhere", "gone"), ("loop", "loop")):
        (tmp_path / place).symlink_to(target)
    (tmp_path / "said.json").write_text("A cat.")
    code, output, errors = run(*arguments)
    assert code == 2 and words in errors and not output and "Traceback" not in errors
    assert (tmp_path / "file").read_text() == "kept" and (tmp_path / "own/mine.png").read_bytes() == b"kept"
    assert (tmp_path / "said.json").read_text() == "A cat." and (tmp_path / "theirs/mask-0.png").is_dir()
    assert not temporary()


def test_a_picture_named_like_a_mask_is_not_replaced_by_its_masks(model_file, photographs, tmp_path, capsys):
    (tmp_path / "masks").mkdir()
    picture = shutil.copy(photographs / "cat.png", tmp_path / "masks/mask-0.png")
    before = picture.read_bytes()
    places = ["--masks", str(tmp_path / "masks"), "-o", str(tmp_path / "out.png")]
    code = main(["ground", str(picture), TEXT, "--model", str(model_file), *places])
    assert code == 2 and f"{picture}: is read, and masks would take its place" in capsys.readouterr().err
    assert picture.read_bytes() == before


@pytest.mark.parametrize("name", ["masks", "masks.npy", "masks.json"])
def test_what_fails_in_the_middle_leaves_what_was_there(run, monkeypatch, name):
    assert run("--masks", name, text="A cat.")[0] == 0
    before = {path: path.read_bytes() for path in Path().rglob("mask*") if path.is_file()}
    asked = 0

    def failing(values):
        nonlocal asked
        asked += 1
        if asked == 3:
            raise OSError(28, "No space left on device", name)
        return otsu_mask(values)

    monkeypatch.setattr("caft.model.otsu.otsu_mask", failing)
    code, _, errors = run("--masks", name)
    assert code == 2 and "No space left on device; free some space there" in errors and asked == 3
    assert {path: path.read_bytes() for path in Path().rglob("mask*") if path.is_file()} == before and not temporary()


WRITTEN = """
import sys
from pathlib import Path
import numpy as np
from caft.model.mask_files import write_masks
try:
    write_masks((np.ones((2000, 1000), bool) for _ in range(3)), ["one", "two", "three"], Path(sys.argv[1]))
except OSError as error:
    print("said:", error)
"""


def test_an_array_that_a_disk_has_no_room_for_is_an_error(small_disk):
    """Mapped into memory, as numpy's own files are, the first page without room would end the process by a signal."""
    (small_disk / "masks.npy").write_bytes(b"kept")
    command = [sys.executable, "-c", WRITTEN, str(small_disk / "masks.npy")]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(PROJECT)})
    assert ended.returncode == 0 and "No space left on device" in ended.stdout, (ended.returncode, ended.stderr)
    assert os.listdir(small_disk) == ["masks.npy"] and (small_disk / "masks.npy").read_bytes() == b"kept"


@pytest.mark.slow
def test_a_killed_command_leaves_no_half_of_its_masks(run, model_file, tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (1200, 1600, 3), np.uint8)).save("large.png", compress_level=0)
    text = " ".join(f"A cat and {number} dogs." for number in range(12))
    command = [sys.executable, "-m", "caft", "ground", "large.png", text, "--model", model_file, "--masks", "masks"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_until(lambda: [path for path in Path().glob(".tmp-*") if list(path.glob("*.png"))], 100, process)
        process.send_signal(signal.SIGKILL)
    assert not Path("masks").exists() and temporary()
    assert run("--masks", "masks")[0] == 0
    assert sorted(os.listdir("masks")) == FOLDER and not temporary()
