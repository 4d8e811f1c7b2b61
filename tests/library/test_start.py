"""What a command or a stage imports before it works: torch takes a second and 230 MB, and others nearly as much."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import caft
from caft.params import load_params
from caft.weights.networks import without_values

PROJECT = Path(__file__).parents[2]


def imported(code: str, *words: str, folder: Path = PROJECT, **environment: str) -> set[str]:
    """Names of all modules that a process has after it ran some code, also where that ends it."""
    code = f"""
import atexit, sys
atexit.register(lambda: print("modules", *sys.modules, file=sys.stderr))
{code}
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=folder, timeout=300,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return set(done.stderr.splitlines()[-1].split()[1:])


COMMAND = "from caft.__main__ import main; sys.exit(main())"


@pytest.mark.parametrize(
    "words",
    [["--help"], ["ground", "--help"], ["search", "--help"], [], ["ground"], ["search", ".", "A cat.", "-k", "0"]],
)
def test_help_and_wrong_arguments_need_no_library(words: list[str]) -> None:
    found = imported(COMMAND, *words)
    assert "caft.model.command" in found
    assert not found & {"torch", "numpy", "PIL", "pydantic", "spacy", "ftfy", "safetensors"}


@pytest.mark.parametrize(
    "words",
    [
        ["chunk", "A cat. It waits."],
        ["chunk", "A red cat. It waits. The mat is green.", "--splitter", "spacy"],
        ["ground", "absent.jpg", "A cat."],
        ["ground", ".", "A cat."],
        ["ground", "absent.jpg", " "],
        ["ground", "absent.jpg", "A cat.", "-o", "a.jpg"],
        ["segment", "absent.jpg"],
        ["search", ".", "A cat.", "-o", "a.jpg"],
        ["convert", "absent.pt", "-o", "a.pt"],
        ["convert", "absent.safetensors", "-o", "a.safetensors"],
    ],
)
def test_what_is_told_without_a_model_needs_no_torch(words: list[str], tmp_path: Path) -> None:
    found = imported(COMMAND, *words, folder=tmp_path)
    assert "caft.model.command" in found and not found & {"torch", "spacy"}


def test_a_picture_is_decoded_and_let_go_before_torch_is_imported(model_file: Path, tmp_path: Path) -> None:
    """Else a photograph's pixels would stand beside all that torch loads."""
    from PIL import Image

    Image.effect_noise((640, 480), 60).convert("RGB").save(tmp_path / "photo.jpg")
    code = f"""
import gc
from PIL import Image
loads, seen = Image.Image.load, []
from PIL import JpegImagePlugin
decode = JpegImagePlugin.JpegImageFile.load
def load(self):
    seen.append("torch" in sys.modules)
    return decode(self)
JpegImagePlugin.JpegImageFile.load = load

class AtTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sizes = sorted(one.size for one in gc.get_objects() if isinstance(one, Image.Image))
            print("sizes", sizes, seen[0])
            sys.meta_path.remove(self)

sys.meta_path.insert(0, AtTorch())
from caft.model.command import main
assert main(["ground", "photo.jpg", "A cat. It waits.", "--model", {str(model_file)!r}]) == 0
"""
    done = subprocess.run(
        [sys.executable, "-c", "import sys\n" + code], capture_output=True, text=True, cwd=tmp_path, timeout=300,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # As it is drawn, and as the model takes it.
    assert done.stdout.splitlines() == ["sizes [(64, 64), (288, 216)] False", "photo.ground.png"]


def test_a_known_gallery_is_searched_without_what_draws_and_what_compiles(model_file: Path, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    Image.effect_noise((64, 48), 60).convert("RGB").save(tmp_path / "photos/one.png")
    words, cache = ["search", "photos", "A cat.", "--model", str(model_file)], str(tmp_path / "cache")
    imported(COMMAND, *words, folder=tmp_path, XDG_CACHE_HOME=cache)
    found = imported(COMMAND, *words, folder=tmp_path, XDG_CACHE_HOME=cache)
    assert "torch" in found
    unused = {"sympy", "torch._dynamo", "torch._inductor", "scipy", "matplotlib", "pyarrow", "caft.params.settings"}
    assert not found & {*unused, "caft.model.drawing.panels"}


def test_what_a_command_imports_is_never_looked_through_for_garbage_and_the_rest_is(model_file: Path) -> None:
    code = f"""
import gc
from caft.model.command.common import loaded
loaded({str(model_file)!r})
assert gc.isenabled() and gc.get_freeze_count() > 50_000, gc.get_freeze_count()
"""
    assert "torch" in imported(code)


def test_loading_a_model_computes_no_start_values(model_file: Path) -> None:
    """Without values to compute, torch loads neither its compiler nor sympy, and no random number is drawn."""
    found = imported(f"import caft\ncaft.load({str(model_file)!r})")
    assert "torch" in found and not found & {"sympy", "torch._dynamo", "torch._inductor"}
    before = torch.random.get_rng_state()
    loaded = caft.load(model_file)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not any(value.is_meta for value in loaded.network.state_dict().values())


def test_a_network_of_each_kind_is_built_without_values() -> None:
    """Names, shapes and what is trained are those of the network that draws its start values."""
    models = load_params(PROJECT / "params.yaml").models
    for name in models:
        chunks = 1 if models[name].is_flat_text else 4
        hollow = without_values(models[name], chunks)
        with torch.device("meta"):
            drawn = caft.CAFT(models[name], chunks)
        expected = {key: (value.shape, value.dtype) for key, value in drawn.state_dict().items()}
        assert {key: (value.shape, value.dtype) for key, value in hollow.state_dict().items()} == expected
        assert [p.requires_grad for p in hollow.parameters()] == [p.requires_grad for p in drawn.parameters()]
        assert sum(parameter.numel() for parameter in hollow.parameters() if not parameter.is_meta) < 5000


WITHOUT_A_NETWORK = ("look", "source", "fetch", "captions", "sentences", "select", "index", "leakage", "sets")


@pytest.mark.parametrize("stage", [*WITHOUT_A_NETWORK, "params", "committed"])
def test_stages_without_a_network_start_without_torch(stage: str) -> None:
    found = imported(f"import pipelines.{stage}")
    unused = {"torch", "ray", "mlflow", "spacy", "matplotlib", "scipy.stats", "duckdb", "pandas", "img2dataset"}
    assert not found & unused


@pytest.mark.parametrize(
    "stage",
    ["train", "superpixels", "evaluate_retrieval", "evaluate_grounding", "evaluate_regions", "evaluate_superpixels"],
)
def test_stages_with_a_network_start_without_what_others_use(stage: str) -> None:
    unused = {"ray", "mlflow", "spacy", "matplotlib", "scipy.stats", "sympy", "duckdb", "pandas", "img2dataset"}
    assert not imported(f"import pipelines.{stage}") & unused


def test_the_report_starts_without_statistics_that_its_default_page_does_not_need() -> None:
    assert not imported("import pipelines.report") & {"scipy.stats", "ray", "mlflow", "spacy", "sympy"}


@pytest.mark.parametrize("items", [[3], [3, 4, 5, 6, 7]])
def test_few_shards_are_worked_on_without_ray(items: list[int]) -> None:
    use = f"assert ray_tasks(str, {items}, 'numbers') == {[str(item) for item in items]}"
    found = imported(f"from caft.data.tables.cluster import ray_tasks\n{use}")
    assert "caft.data.tables.cluster" in found and "ray" not in found


def test_names_of_the_settings_are_there_when_asked_for() -> None:
    code = """
import caft.params
assert {"Params", "flat", "load_params"} <= set(dir(caft.params))
import caft.params.arithmetic
assert "pydantic" not in sys.modules
from caft.params import Params, flat, load_params
assert type(load_params()) is Params and caft.params.flat is flat
try:
    caft.params.settngs
except AttributeError as error:
    assert str(error) == "module 'caft.params' has no attribute 'settngs'"
else:
    raise AssertionError
"""
    assert "caft.params.settings" in imported(code)
