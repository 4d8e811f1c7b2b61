"""The notebook runs from top to bottom as a reader runs it, and the outputs that it shows are those of the default model.

`python -m tests.test_notebook` writes them, in a checkout that `make repro` has finished.
"""

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caft.weights.files import save_model
from tests.peers import FOLDER, peer

PROJECT = Path(__file__).parents[1]
NOTEBOOK = PROJECT / "notebooks/quickstart.ipynb"
WEIGHTS = PROJECT / "models/caft.safetensors"
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_KERNEL = "import sys; sys.path[:0] = [sys.argv.pop(1)]; sys.path.append(sys.argv.pop(1)); "
_KERNEL += "from ipykernel.kernelapp import launch_new_instance; launch_new_instance()"


def executed(weights: Path, folder: Path) -> dict[str, Any]:
    """The notebook after a run in a copy of what it reads, by a kernel of this environment."""
    nbclient, nbformat = peer("nbclient"), peer("nbformat")
    kernel = folder / "kernels/caft/kernel.json"
    kernel.parent.mkdir(parents=True)
    argv = [sys.executable, "-c", _KERNEL, str(PROJECT), str(FOLDER), "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": argv, "display_name": "caft", "language": "python"}))
    (folder / "notebooks").mkdir()
    (folder / "models").mkdir()
    shutil.copy(PROJECT / "params.yaml", folder)
    for ending in (".safetensors", ".json"):
        shutil.copy(weights.with_suffix(ending), (folder / "models/caft").with_suffix(ending))
    specs = peer("jupyter_client.kernelspec").KernelSpecManager(kernel_dirs=[str(folder / "kernels")])
    manager = peer("jupyter_client").AsyncKernelManager(kernel_name="caft", kernel_spec_manager=specs)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(folder / "notebooks")}}
    client = nbclient.NotebookClient(notebook, km=manager, timeout=600, record_timing=False, resources=resources)
    client.execute()
    return dict(notebook)


def outputs(notebook: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What its cells show, without progress, and each kind once: what is printed may come in several parts."""
    found: dict[str, list[dict[str, Any]]] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            shown = [one for one in cell["outputs"] if one.get("name") != "stderr"]
            printed = "".join("".join(one["text"]) for one in shown if one["output_type"] == "stream")
            stream = {"name": "stdout", "output_type": "stream", "text": printed.splitlines(keepends=True)}
            others = [one for one in shown if one["output_type"] != "stream"]
            found[cell["id"]] = [stream, *others] if printed else others
    return found


def words(notebook: dict[str, Any]) -> str:
    """What its cells print."""
    printed = [one for found in outputs(notebook).values() for one in found if one["output_type"] == "stream"]
    return "".join("".join(one["text"]) for one in printed)


@pytest.mark.slow
def test_the_notebook_runs(model: Any, tmp_path: Path) -> None:
    """With the default model where it has been trained; else with random weights, which print other numbers."""
    shown = json.loads(NOTEBOOK.read_text())
    trained = WEIGHTS.is_file()
    if not trained:
        save_model(model.network, tmp_path / "random.safetensors", model.card)
    found = executed(WEIGHTS if trained else tmp_path / "random.safetensors", tmp_path / "copy")
    kinds = {name: [one["output_type"] for one in several] for name, several in outputs(found).items()}
    assert kinds == {name: [one["output_type"] for one in several] for name, several in outputs(shown).items()}
    if trained:
        assert _NUMBER.sub("#", words(found)) == _NUMBER.sub("#", words(shown))
        numbers = [np.array(_NUMBER.findall(words(one)), float) for one in (found, shown)]
        np.testing.assert_allclose(*numbers, atol=1)  # of the last place that is shown, percent


def test_its_outputs_are_small_and_of_no_machine() -> None:
    text = NOTEBOOK.read_text()
    notebook = json.loads(text)
    assert len(text) < 100_000 and notebook["nbformat"] == 4
    assert all(outputs(notebook)[name] for name in ("load", "pictures", "scores", "search", "ground"))
    printed = words(notebook)
    assert "/home/" not in text and "/tmp/" not in text and "Error" not in printed
    for cell in notebook["cells"]:
        assert cell["cell_type"] == "markdown" or cell["execution_count"] is None
        assert not cell["metadata"], "no times, no editor's state"
        for output in cell.get("outputs", ()):
            assert output.get("execution_count") is None and output.get("name") != "stderr"


def write() -> None:
    """Puts the outputs of the default model into the notebook."""
    with tempfile.TemporaryDirectory() as name:
        found = executed(Path(sys.argv[1]) if len(sys.argv) > 1 else WEIGHTS, Path(name))
    notebook = json.loads(NOTEBOOK.read_text())
    made = outputs(found)
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        cell["outputs"] = json.loads(json.dumps(made[cell["id"]]))
        for output in cell["outputs"]:
            output.get("data", {}).pop("image/jpeg", None)  # Pillow gives the same picture twice
            if "execution_count" in output:
                output["execution_count"] = None
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write()
