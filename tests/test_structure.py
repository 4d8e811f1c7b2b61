"""The order of the code: who imports whom, what `import caft` needs, and that dvc.yaml lists what each stage reads."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import deps

PROJECT = Path(__file__).parents[1]
PACKAGES = deps.PACKAGES
MODULES = sorted(path.relative_to(PROJECT) for package in PACKAGES for path in (PROJECT / package).rglob("*.py"))

# A module may import from its own and lower levels.
LEVELS = [
    (
        "caft.errors",
        "caft.params",
        "caft.storage",
        "caft.progress",
        "caft.locking",
        "caft.pictures",
        "caft.transforms",
        "caft.digests",
    ),
    ("caft.network.layers", "caft.network.gpu"),
    ("caft.network.vision", "caft.network.text", "caft.network.text_pool", "caft.captions"),
    ("caft.network", "caft.loss", "caft.data"),
    ("caft.model",),
    ("caft.weights",),
    ("caft.adapters", "caft.eval", "caft.train", "caft.export", "caft.demo"),
    ("slurm",),
    ("pipelines", "benchmarks", "caft.model.command", "caft.__main__"),
]

# ---- imports


def source_of(name: str) -> Path | None:
    """File of one of this project's modules, relative to the project."""
    path = Path(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if (PROJECT / candidate).is_file():
            return candidate
    return None


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse((PROJECT / path).read_text(encoding="utf-8"))


def names_imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if source_of(whole) else node.module


@functools.cache
def imports(path: Path) -> frozenset[Path]:
    """Files of this project that a file imports anywhere, also inside functions and for types only."""
    names = [name for name in names_imported(ast.walk(tree(path))) if name.split(".")[0] in PACKAGES]
    return frozenset(file for file in map(source_of, names) if file is not None)


def module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def level(name: str) -> tuple[int, str]:
    """Level of a module, and the entry of LEVELS it belongs to, the longest."""
    found = [
        (number, entry)
        for number, entries in enumerate(LEVELS)
        for entry in entries
        if name == entry or name.startswith(entry + ".")
    ]
    assert found, f"{name}: add it to LEVELS, and to the table in docs/code.md"
    return max(found, key=lambda item: len(item[1]))


@pytest.mark.parametrize("path", [path for path in MODULES if path != Path("caft/__init__.py")], ids=str)
def test_imports_point_downwards(path: Path) -> None:
    own_level, own_entry = level(module_name(path))
    for imported in imports(path):
        if imported == Path("caft/__init__.py"):
            assert own_level >= 4, f"{path} imports `caft` itself, which imports the model"
            continue
        other_level, other_entry = level(module_name(imported))
        # Beside each other they may, in no circle; but no tower knows the other, nor how captions are read.
        allowed = other_level < own_level or other_entry == own_entry or own_level == other_level != 2
        assert allowed, f"{path} imports {imported}, of {other_entry}"


def test_no_imports_run_in_a_circle() -> None:
    """Also not imports inside functions or for types alone."""

    def reached(path: Path) -> set[Path]:
        found, todo = set[Path](), [path]
        while todo:
            new = imports(todo.pop()) - found
            found |= new
            todo += new
        return found

    assert not [str(path) for path in MODULES if path in reached(path)]


def test_caft_imports_nothing_of_the_packages_around_it() -> None:
    found = {(str(path), str(target)) for path in MODULES if path.parts[0] == "caft" for target in imports(path)}
    assert not {(path, target) for path, target in found if not target.startswith("caft/")}


def test_no_module_is_over_400_lines_and_few_lie_at_the_root() -> None:
    lengths = {str(path): (PROJECT / path).read_text(encoding="utf-8").count("\n") for path in MODULES}
    assert not {path: length for path, length in lengths.items() if length > 400}
    assert len([path for path in MODULES if path.parent == Path("caft")]) <= 8


@pytest.mark.parametrize("name", ["sigmoid", "labels"])
def test_the_loss_formulas_import_torch_alone(name: str) -> None:
    path = Path(f"caft/loss/{name}.py")
    imported = {name.split(".")[0] for name in names_imported(ast.walk(tree(path)))}
    assert imported - sys.stdlib_module_names == {"torch"}


def test_only_tracking_imports_mlflow() -> None:
    importers = {
        str(path) for path in MODULES if any(n.split(".")[0] == "mlflow" for n in names_imported(ast.walk(tree(path))))
    }
    tracking = {f"caft/train/tracking/{name}.py" for name in ("runs", "model", "parents", "launched")}
    assert importers == {*tracking, "caft/adapters/pyfunc.py"}


def test_only_commands_print() -> None:
    for path in MODULES:
        if path.parts[0] not in ("pipelines", "benchmarks") and Path("caft/model/command") not in path.parents:
            calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
            assert not any(isinstance(c.func, ast.Name) and c.func.id == "print" for c in calls), path


def test_a_model_is_built_and_used_with_the_core_dependencies_alone(tmp_path: Path) -> None:
    """Whatever is no core dependency of pyproject.toml, directly or not, cannot be imported here.

    Among that may be what torch and our code use if it is there, as triton, which torch for CPUs does not ask for.
    """
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton/__init__.py").write_text("raise AssertionError('triton was imported')")
    (tmp_path / "triton-3.7.1.dist-info").mkdir()
    (tmp_path / "triton-3.7.1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: triton\nVersion: 3.7.1\n")
    (tmp_path / "triton-3.7.1.dist-info/RECORD").write_text("triton/__init__.py,,\n")
    code = """
import importlib.metadata as metadata, sys
from packaging.requirements import Requirement

allowed, todo = set(), ["caft"]
while todo:
    name = todo.pop().lower().replace("_", "-").replace(".", "-")
    if name not in allowed:
        allowed.add(name)
        required = map(Requirement, metadata.requires(name) or []) if name != "caft" else map(Requirement, CORE)
        todo += [r.name for r in required if r.marker is None or r.marker.evaluate({"extra": ""})]
sys.path.append(PLACE)
owners = metadata.packages_distributions()

class OnlyCore:
    # Finds what another finder does, less what is no core dependency: that looks as if it were not installed.

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        names = {owner.lower().replace("_", "-").replace(".", "-") for owner in owners.get(top, [])}
        if names and not names & allowed and top != "packaging":
            return None
        return self.finder.find_spec(name, path, target)

assert "triton" in owners
sys.meta_path[:] = map(OnlyCore, sys.meta_path)
import torch
import caft
from caft.params import load_params
from caft.captions.chunking import caption_chunks
from caft.captions.tokenizer import tokenize

network = caft.CAFT(load_params().models["tiny"], chunks=4).eval()
tokens = tokenize(caption_chunks("A red bus. It stands under a tree. Two people wait.", "dreamlip", chunks=4))
with torch.no_grad():
    images = network.image_features(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    whole, parts = network.text_features(tokens[None])
print(images.whole.shape == whole.shape == (1, 64), tuple(parts.shape))

from PIL import Image

picture = Image.new("RGB", (30, 20), (200, 30, 30))
model = caft.Model(network, caft.ModelCard(splitter="spacy", chunks=4, balanced_rule="paper"))
print(tuple(model.similarity(picture, "A red bus. It waits.").shape), model.ground(picture, "A bus. Red!").shape)
print(model.retrieve("A bus.", [picture])[0].image, model.segment(picture)[0].shape)

from pathlib import Path
from caft.weights.files import read_weights, save_model

save_model(network, Path(PLACE, "model.safetensors"), model.card)
assert len(read_weights(Path(PLACE, "model.safetensors"))) > 100

from caft.model.command import main

main(["chunk", "A bus. It waits."])
assert callable(caft.load)
for name in ("pyarrow", "duckdb", "ray", "spacy", "mlflow", "dvc", "submitit", "tqdm"):
    try:
        __import__(name)
        print(name, "is there")
    except ModuleNotFoundError:
        pass
for line in CORE:
    name = Requirement(line).name.lower()
    if not any(top in sys.modules for top, names in owners.items() if name in [owner.lower() for owner in names]):
        print(name, "is not used")
"""
    pyproject = (PROJECT / "pyproject.toml").read_text()
    import tomllib

    core = tomllib.loads(pyproject)["project"]["dependencies"]
    given = f"CORE, PLACE = {core!r}, {str(tmp_path)!r}"
    done = subprocess.run([sys.executable, "-c", f"{given}\n{code}"], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    chunks = [f"{n}  {text}  [4 tokens]" for n, text in enumerate(["A bus", "It waits"] * 2, start=1)]
    assert done.stdout.splitlines() == ["True (1, 4, 64)", "(1, 1) (2, 20, 30)", "0 (20, 30)", *chunks]
    assert done.stderr.count("spaCy is not installed") == 1


def test_what_needs_no_network_starts_without_torch() -> None:
    code = """
import sys
import pipelines.captions, pipelines.fetch, pipelines.index, pipelines.params, pipelines.select, pipelines.sentences
import pipelines.source

assert "torch" not in sys.modules
import caft

assert caft.CAFT is caft.network.caft.CAFT and caft.load is caft.weights.load.load
assert {"CAFT", "Model", "ModelCard", "load"} <= set(dir(caft))
try:
    caft.clip
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout == "module 'caft' has no attribute 'clip'\n", done.stderr


# ---- dvc.yaml


@functools.cache
def stages() -> dict[str, dict[str, Any]]:
    """Stages of dvc.yaml; those for each corpus without their loop."""
    content = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    return {name: stage.get("do", stage) for name, stage in content.items()}


def covers(listed: Iterable[str], path: Path) -> bool:
    return any(path == Path(entry) or Path(entry) in path.parents for entry in listed)


@pytest.mark.parametrize("graph", deps.GRAPHS)
def test_the_code_of_each_stage_is_listed(graph: str) -> None:
    text = (PROJECT / graph).read_text()
    assert deps.rewritten(graph, text) == text, f"{graph}: run `python -m pipelines.deps` and look at the change"
    # Whatever the lists were, they are written, and nothing else is changed.
    other = re.sub(r"(?m)^( +- )caft/(network|captions|data/crawl)$", r"\1caft/gone.py", text)
    assert other != text
    assert deps.rewritten(graph, other) == text


def test_what_is_left_out_of_these_lists_exists() -> None:
    names = {name for graph in deps.GRAPHS for name in yaml.safe_load((PROJECT / graph).read_text())["stages"]}
    assert not [entry for entry in {*deps.PLUMBING, *deps.GIVEN} if not (PROJECT / entry).exists()]
    assert not [path for path, stages in deps.NOT_OF.items() if stages - names or not (PROJECT / path).exists()]


def test_a_folder_is_listed_where_all_its_code_is_needed() -> None:
    loss = [path.relative_to(PROJECT) for path in (PROJECT / "caft/loss").glob("*.py")]
    assert deps.entries([*loss, Path("caft/errors.py")]) == ["caft/errors.py", "caft/loss"]
    assert "caft/loss/labels.py" in deps.entries(path for path in loss if path.name != "sigmoid.py")


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("cmd: python -m pipelines.index\n", "d.yaml: stage a has no list `deps`"),
        ("cmd: make all\n    deps:\n      - x\n", "d.yaml: stage a runs `make all`; expected `python -m MODULE`"),
        ("cmd: python -m pipelines.gone\n    deps:\n      - x\n", "pipelines.gone: .* there is no such module"),
    ],
)
def test_a_stage_whose_code_cannot_be_found_is_an_error(stage: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deps.rewritten("d.yaml", f"stages:\n  a:\n    {stage}")


@functools.cache
def code_run_by(stage: str) -> list[Path]:
    return [path for path in deps.code_of("dvc.yaml", stage, stages()[stage]["cmd"]) if path.suffix == ".py"]


# Settings read through an attribute of `Params`, as the keys of params.yaml that dvc.yaml must list.
KEYS = {
    "corpora": ["corpora"],
    "data": ["data"],
    "corpus": ["corpus.${item}"],
    "expected_images": ["corpus"],
    "fetch_for": ["fetch", "corpus.${item}"],
    "fetch": ["fetch"],
    "model": ["models.${model}"],
    "models": ["models.base"],  # the paper's, whatever is selected
    "recipe": ["recipes.${recipe}", "recipes.paper", "train"],
    "selected_model": ["models.${model}"],
    "selected_recipe": ["recipes.${recipe}", "recipes.paper", "train"],
    "init": ["init"],
    "seed": ["seed"],
    "superpixels": ["superpixels"],
    "evaluation": ["evaluation"],
    "benchmarks": ["benchmarks"],
    "weights": ["weights"],
    # No result depends on where a job runs or files are kept, nor on what is copied to the tracker.
    "launch": [],
    "storage": [],
    "selected_launcher": [],
    "effective": [],
}

# Read by a stage whose result does not depend on them.
CHANGES_NOTHING = {
    "index": {"recipes.paper.splitter": "a recipe with a base gives its own splitter (caft/params/file.py)"},
    "train": {
        "corpora": "a tag of the tracked run; what is trained on, and so what changes in a recipe, is data/index's",
        "evaluation.batch": "how many images a validation holds at a time",
        "models.base": "an error names the model that given weights fit",
    },
}


def settings_read(path: Path) -> Iterator[tuple[str, ...]]:
    """Attributes that a file reads of a `params`, with the attribute read of that one if there is one."""
    inner = {}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute):
            inner[id(node.value)] = node.attr
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute):
            base = node.value
            if (
                isinstance(base, ast.Name)
                and base.id == "params"
                or isinstance(base, ast.Attribute)
                and (base.attr == "params")
            ):
                yield (node.attr, inner[id(node)]) if id(node) in inner else (node.attr,)


def keys_read(stage: str) -> dict[str, str]:
    """Keys that a stage reads, with a place that reads each."""
    keys = {}
    for path in code_run_by(stage):
        for attribute, *rest in settings_read(path):
            for key in KEYS[attribute]:
                field = rest[0] if attribute in ("selected_recipe", "evaluation", "data") and rest else ""
                keys[f"{key}.{field}" if field and not field.startswith("model_") else key] = str(path)
    for ignored in CHANGES_NOTHING.get(stage, ()):
        keys.pop(ignored, None)
    # A part is read where the whole is.
    return {key: place for key, place in keys.items() if not any(key.startswith(other + ".") for other in keys)}


# Of a stage that computes with the network; `pipelines.stage.prepare` reads it.
ROUNDING = "launchers.${launch}.arithmetic"
# Of the stages that train: negatives are drawn among the images of a rank, dropout for each
# portion of them, and compiled steps round otherwise.
RANKS = {
    f"launchers.${{launch}}.{key}" for key in ("nodes", "tasks_per_node", "ranks_of_run", "micro_batch", "compile")
}


def selections(keys: Iterable[str]) -> set[str]:
    """The selections that keys follow.

    DVC looks them up when it starts and the stage when its turn comes; a selection that was edited between the two is
    recorded with the result by its own key alone.
    """
    return {name for key in keys for name in re.findall(r"\$\{(\w+)\}", key)} - {"item"}


@pytest.mark.parametrize("stage", [name for name, stage in stages().items() if not stage.get("always_changed")])
def test_dvc_lists_exactly_the_settings_that_a_stage_reads(stage: str) -> None:
    expected = set(keys_read(stage))
    if any(code.startswith("caft/network") for code in stages()[stage]["deps"]):
        expected.add(ROUNDING)  # read before the stage is
    if stage == "train":
        expected |= RANKS
    expected |= selections(expected)
    assert sorted(stages()[stage].get("params", [])) == sorted(expected), keys_read(stage)


@pytest.mark.parametrize("graph", deps.GRAPHS)
def test_what_computes_with_the_network_depends_on_how_it_rounds(graph: str) -> None:
    for name, entry in yaml.safe_load((PROJECT / graph).read_text())["stages"].items():
        stage = entry.get("do", entry)
        computes = any(code.startswith("caft/network") for code in stage.get("deps", []))
        if not entry.get("always_changed") and not stage.get("always_changed"):
            assert (ROUNDING in stage.get("params", [])) == computes, (graph, name)


@pytest.mark.parametrize("graph", deps.GRAPHS)
def test_a_stage_whose_settings_follow_a_selection_depends_on_it(graph: str) -> None:
    for name, entry in yaml.safe_load((PROJECT / graph).read_text())["stages"].items():
        keys = entry.get("do", entry).get("params", [])
        assert selections(keys) <= set(keys), (graph, name)


def test_no_stage_depends_on_where_it_runs() -> None:
    for name, stage in stages().items():
        for key in stage.get("params", []):
            places = ("launch", "jobs", "launchers", "storage", "weights")
            allowed = (ROUNDING, "launch", *(RANKS if name == "train" else ()))
            assert key in allowed or key.split(".")[0] not in places, name


def test_metrics_and_curves_are_kept_by_git_and_all_else_by_dvc() -> None:
    for name, stage in stages().items():
        for kind in ("metrics", "plots"):
            for entry in stage.get(kind, []):
                ((path, options),) = entry.items()
                assert path.split("/")[0] == kind and options == {"cache": False}, (name, path)
        for out in stage.get("outs", []):
            assert isinstance(out, str) or list(out.values()) == [{"persist": True}], name
