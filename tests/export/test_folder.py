"""What `caft export` writes: run by onnxruntime and by torch.export against the network, and read as its user would."""

import hashlib
import json
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from caft.export import parity, running
from caft.export.graphs import graphs
from caft.model.command import main
from tests.export.conftest import PROJECT, environment
from tests.peers import peer
from tests.waiting import wait_until

pytestmark = pytest.mark.slow
PAGE = PROJECT / "docs/export.md"


@pytest.fixture(scope="module")
def cases(small_model):
    return parity.cases(running.Network(small_model[0].network), seed=1)


@pytest.mark.parametrize("form", ["onnx", "programs"])
def test_random_batches_and_lengths_give_what_the_network_gives(form, exported, small_model, cases):
    parts = graphs(small_model[0].network)
    ran = running.Sessions(exported / form, parts) if form == "onnx" else running.Programs(exported / form, parts)
    assert {len(case.inputs["pixels"]) for case in cases if case.graph == "image"} >= {1, 2, 5}
    assert {case.inputs["tokens"].shape[1] for case in cases if case.graph == "text"} >= {3, 77}
    difference = parity.compare(ran, cases)
    assert difference.same == difference.pictures == 8  # every label and every pick
    assert set(difference.largest) >= {"image.segments", "text.texts", "caption.whole", "score.logits"}
    assert max(difference.largest.values()) < 1e-4


def test_eight_bits_are_smaller_and_close(exported, small_model, cases):
    folder = exported / "onnx"
    for name in ("image", "text", "caption"):
        assert (folder / f"{name}.int8.onnx").stat().st_size < 0.8 * (folder / f"{name}.onnx").stat().st_size
    ran = running.Sessions(folder, graphs(small_model[0].network), ".int8.onnx")
    for case in cases:
        if case.graph in ("text", "caption"):
            found = ran.run(case.graph, case.inputs)
            for name, wanted in case.wanted.items():
                assert 0 < np.abs(found[name] - wanted).max() < 0.1 * np.abs(wanted).max()


def test_sizes_that_may_change_have_letters_and_no_place_of_this_machine_is_in_a_file(exported):
    onnx = peer("onnx")
    shapes = {}
    for path in (exported / "onnx").glob("*.onnx"):
        graph = onnx.load(path).graph
        for value in (*graph.input, *graph.output):
            dims = value.type.tensor_type.shape.dim
            shapes[path.stem, value.name] = [dim.dim_param or dim.dim_value for dim in dims]
    manifest = json.loads((exported / "onnx/manifest.json").read_text())
    for name, graph in manifest["graphs"].items():
        for port, value in {**graph["inputs"], **graph["outputs"]}.items():
            assert shapes[name, port] == value["shape"]
    assert shapes["image", "pixels"] == ["B", 3, 32, 32] and shapes["text", "tokens"] == ["T", "L"]
    assert shapes["score", "attention"] == ["B", "T", 8]
    place = re.compile(rb"/\w{3,}\.py\b|site-packages|" + re.escape(str(PROJECT).encode()))
    for path in exported.rglob("*.*"):
        assert not (found := place.search(path.read_bytes())), (path, found)


@pytest.mark.parametrize("form", ["onnx", "programs"])
def test_the_manifest_has_digests_licence_and_parity(form, exported, small_model):
    folder, (_, path) = exported / form, small_model
    manifest = json.loads((folder / "manifest.json").read_text())
    files = {file.name for file in folder.iterdir() if file.suffix in (".onnx", ".pt2")}
    assert set(manifest["files"]) == files and {file.split(".")[0] for file in files} == set(manifest["graphs"])
    for name, facts in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert facts == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert manifest["model"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert manifest["licence"]["code"] == "Apache-2.0" and manifest["licence"]["weights"].startswith("as where")
    assert manifest["temperatures"]["part"] == {"scale": pytest.approx(np.exp(1.5)), "bias": -3}
    table = (folder / "parity.md").read_text()
    assert "| 8 of 8 |" in table and table in (folder / "card.md").read_text()
    forms = {"onnx": {"onnx", "int8"}, "programs": {"torch.export"}}[form]
    assert set(manifest["parity"]) == forms


def test_the_page_s_example_runs_without_torch(exported, small_model, pictures, tmp_path):
    """By onnxruntime alone: scores and maps are those of the model."""
    model = small_model[0]
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    (tmp_path / "exported").symlink_to(exported / "onnx")
    for number, picture in enumerate(pictures[:2]):
        (tmp_path / f"{number}.jpg").symlink_to(picture)
    example = example.replace('["photo.jpg"]', '["0.jpg", "1.jpg"]')
    code = f"""
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ImportError("torch is not here")
sys.meta_path.insert(0, NoTorch())
{example}
assert "torch" not in sys.modules
np.savez("found.npz", scores=scores, maps=maps)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz")
    captions = re.search(r"captions = (\[.*?\])\n", example, re.S)[1]
    wanted = model.similarity(pictures[:2], eval(captions))
    np.testing.assert_allclose(found["scores"], wanted, atol=1e-3)
    assert found["maps"].shape[0] == 2
    side = model.network.image_size
    squashed = model.ground(pictures[0], eval(captions)[0], size=(side, side))
    np.testing.assert_allclose(found["maps"], squashed, atol=1e-5)


# ---- the command


def run(*arguments, **more):
    command = [sys.executable, "-m", "caft", "export", *map(str, arguments)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600, **more)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to write; give --onnx FOLDER, --torch-export FOLDER, or both"),
        (["--int8", "--torch-export", "new"], "--int8 is a form of ONNX; give --onnx FOLDER with it"),
        (["--onnx", "new", "--torch-export", "new"], "new: given twice; give each form a folder of its own"),
        (["--onnx", "full"], "full: is a folder with files in it; give a new one with --onnx, or remove it"),
        (["--torch-export", "full/kept"], "full/kept: is a file; give the name of a folder with --torch-export"),
        (["--torch-export", "new", "--sets", "random"], "--sets: there is no params.yaml here"),
        (["gone.safetensors", "--torch-export", "new"], "gone.json: not found; a model is two files, weights and card"),
    ],
)
def test_what_is_asked_wrongly_is_one_error_and_nothing_is_written(
    arguments, message, small_model, tmp_path, monkeypatch, capsys
):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        peer(package)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/kept").write_text("mine")
    model = [] if any("safetensors" in word for word in arguments) else [str(small_model[1])]
    assert main(["export", *model, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["full", "full/kept"]


def test_without_the_extra_the_error_names_it(small_model, tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "sys.path[:] = [place for place in sys.path if not (Path(place) / 'onnxruntime').is_dir()]\n"
        "from caft.model.command import main\n"
        f"sys.exit(main(['export', {str(small_model[1])!r}, '--onnx', 'new']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and "install the extra: pip install 'caft[export]'" in done.stderr
    assert "onnxruntime cannot be found" in done.stderr and not list(tmp_path.iterdir())


def test_a_killed_export_leaves_nothing_that_looks_whole_and_the_next_tidies_up(small_model, tmp_path):
    command = [sys.executable, "-m", "caft", "export", small_model[1], "--torch-export", "new"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: any(tmp_path.rglob("image.pt2")), 50, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "new").exists() and not any(tmp_path.rglob("manifest.json"))
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".tmp-")
    done = run(small_model[1], "--torch-export", "new", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = ["card.md", "caption.pt2", "image.pt2", "manifest.json", "parity.md", "score.pt2", "text.pt2"]
    assert sorted(done.stdout.split()) == sorted(f"new/{name}" for name in names)
    assert "forms are not scored on evaluation sets: no params.yaml here" in done.stderr
    assert "| torch.export |" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    module = torch.export.load(tmp_path / "new/text.pt2").module()  # with torch alone
    tokens = torch.zeros(7, 5, dtype=torch.int64)
    tokens[:, 2] = 49407
    with torch.no_grad():
        features = module(tokens=tokens)[0]
    assert torch.allclose(features, small_model[0].network.sub_caption(tokens), atol=1e-5)
