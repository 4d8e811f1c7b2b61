"""The order of the code: who imports whom, what `import caft` needs, and that dvc.yaml lists what each stage uses."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[1]
PACKAGES = ("caft", "pipelines", "slurm", "benchmarks")
MODULES = sorted(path.relative_to(PROJECT) for package in PACKAGES for path in (PROJECT / package).rglob("*.py"))

# A module may import from lower levels, and from its own package.
LEVELS = [
    ("caft.errors", "caft.params", "caft.storage", "caft.progress", "caft.locking", "caft.transforms"),
    ("caft.network.layers",),
    ("caft.network.vision", "caft.network.text", "caft.network.text_pool", "caft.captions"),
    ("caft.network", "caft.loss", "caft.data"),
    ("caft.model",),
    ("caft.weights",),
    ("caft.adapters", "caft.eval", "caft.train"),
    ("slurm",),
    ("pipelines", "benchmarks", "caft.model.command", "caft.__main__"),
]

# What no stage's result depends on, so that dvc.yaml leaves it out.
PLUMBING = {
    "caft/errors.py": "words for users",
    "caft/model/model.py": "methods for users; stages call the functions behind them",
    "caft/params": "the values themselves are listed as params",
    "caft/progress.py": "log lines",
    "caft/weights/authors.py": "names in published files; the weights of these stages are this project's",
    "caft/weights/flair.py": "the same",
    "caft/eval/given.py": "given weights, which pipelines/score alone has",
    "caft/storage.py": "where files lie",
    "caft/data/tables/cluster.py": "which process works on a shard",
    "caft/data/tables/database.py": "how much memory a query takes",
    "caft/locking.py": "who may write at a time",
    "caft/train/speed.py": "how fast it goes",
    "caft/train/cost.py": "what a step costs, by formula",
    "caft/train/tracking/runs.py": "a copy of metrics for people",
    "caft/train/tracking/model.py": "a copy of the weights in it",
    "caft/train/tracking/names.py": "what is what in it",
    "caft/train/tracking/parents.py": "what belongs together in it",
    "pipelines/stage.py": "the command line",
    "slurm/__init__.py": "a docstring",
    "slurm/executors.py": "where a job runs",
    "caft/train/plan.py": "what a run will take",
    "slurm/preemption.py": "when a job is interrupted",
    "slurm/queue.py": "what the scheduler says",
    "slurm/rendezvous.py": "where ranks find each other",
    "caft/train/stalled.py": "when waiting for images ends",
    "slurm/submit.py": "where a job runs",
}
# Imports that the result of one stage does not depend on either.
NOT_FOLLOWED = {
    ("captions", "caft/data/crawl/fetch.py"): "puts lost images back, and verifies that they are the same",
    ("superpixels", "caft/data/crawl/fetch.py"): "the same",
    ("train", "caft/data/crawl/fetch.py"): "the same",
    ("leakage", "caft/data/crawl/fetch.py"): "the same",
    ("superpixels", "caft/weights/files.py"): "reads and writes weights; it imports all of the model",
    ("evaluate_superpixels", "caft/weights/files.py"): "the same",
    ("superpixels", "caft/captions/chunks.py"): "reads pictures, of a reader that also gives texts",
    ("superpixels", "caft/captions/sentences.py"): "the same",
    ("superpixels", "caft/captions/tokenizer.py"): "the same",
    ("leakage", "caft/captions/chunks.py"): "the same",
    ("leakage", "caft/captions/sentences.py"): "the same",
    ("leakage", "caft/captions/tokenizer.py"): "the same",
}


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


def runs(path: Path) -> frozenset[Path]:
    """Files of this project that a file imports, or runs as a process by the name of a neighbouring file."""
    texts = {n.value for n in ast.walk(tree(path)) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    neighbours = {path.parent / text for text in texts if text.endswith(".py") and text.count(".") == 1}
    return imports(path) | {file for file in neighbours if file in MODULES}


def module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def level(name: str) -> tuple[int, str]:
    """Level of a module, and the entry of LEVELS it belongs to."""
    for number, entries in enumerate(LEVELS):
        for entry in entries:
            if name == entry or name.startswith(entry + "."):
                return number, entry
    raise AssertionError(f"{name}: add it to LEVELS, and to the tree in the documentation")


@pytest.mark.parametrize("path", [path for path in MODULES if path != Path("caft/__init__.py")], ids=str)
def test_imports_point_downwards(path: Path) -> None:
    own_level, own_entry = level(module_name(path))
    for imported in imports(path):
        if imported == Path("caft/__init__.py"):
            assert own_level >= 4, f"{path} imports `caft` itself, which imports the model"
            continue
        other_level, other_entry = level(module_name(imported))
        allowed = other_level < own_level or other_entry == own_entry or own_level == other_level in (0, 3, 4, 5)
        assert allowed, f"{path} imports {imported}, of {other_entry}"


def test_no_two_modules_import_each_other() -> None:
    order: dict[Path, int] = {}  # 1 while its imports are followed, 2 after

    def follow(path: Path, trail: tuple[Path, ...]) -> None:
        assert order.get(path) != 1, f"circle: {' -> '.join(map(str, [*trail, path]))}"
        if path not in order:
            order[path] = 1
            at_import = [node for node in tree(path).body if not _is_type_checking(node)]
            for name in names_imported(iter(at_import)):
                target = source_of(name)
                # A package's module may import its siblings, which imports the package's own __init__ first.
                if target and target != path and target.parent / "__init__.py" != target:
                    follow(target, (*trail, path))
            order[path] = 2

    for path in MODULES:
        follow(path, ())


def _is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


@pytest.mark.parametrize("name", ["sigmoid", "labels"])
def test_the_loss_formulas_import_torch_alone(name: str) -> None:
    path = Path(f"caft/loss/{name}.py")
    assert {imported.split(".")[0] for imported in names_imported(ast.walk(tree(path)))} == {"torch"}


def test_only_tracking_imports_mlflow() -> None:
    importers = {
        str(path) for path in MODULES if any(n.split(".")[0] == "mlflow" for n in names_imported(ast.walk(tree(path))))
    }
    assert importers == {f"caft/train/tracking{part}.py" for part in ("", "_model", "_parents")}


def test_only_commands_print() -> None:
    for path in MODULES:
        if path.parts[0] not in ("pipelines", "benchmarks") and path != Path("caft/model/command.py"):
            calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
            assert not any(isinstance(c.func, ast.Name) and c.func.id == "print" for c in calls), path


def test_a_model_is_built_and_used_with_the_core_dependencies_alone() -> None:
    """Whatever is no core dependency of pyproject.toml, directly or not, cannot be imported here."""
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
owners = metadata.packages_distributions()

class OnlyCore:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        names = {owner.lower().replace("_", "-").replace(".", "-") for owner in owners.get(top, [])}
        if names and not names & allowed and top != "packaging":
            raise ModuleNotFoundError(f"{name} is no core dependency", name=name)

sys.meta_path.insert(0, OnlyCore())
import torch
import caft
from caft.params import load_params
from caft.captions.chunks import caption_chunks
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

from caft.model.command import main

main(["chunk", "A bus. It waits."])
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
    done = subprocess.run(
        [sys.executable, "-c", f"CORE = {core!r}\n{code}"], capture_output=True, text=True, cwd=PROJECT
    )
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

assert caft.CAFT is caft.network.caft.CAFT and caft.load is caft.weights.load.load and set(caft.__all__) <= set(dir(caft))
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


def script_of(stage: str) -> Path:
    words = stages()[stage]["cmd"].split()
    assert words[:2] == ["python", "-m"]
    path = source_of(words[2])
    assert path is not None, f"{stage}: no module {words[2]}"
    return path


def covers(listed: list[str] | dict[str, str], path: Path) -> bool:
    return any(path == Path(entry) or Path(entry) in path.parents for entry in listed)


@functools.cache
def code_run_by(stage: str) -> frozenset[Path]:
    """Files that a stage's result depends on: what its script imports, directly or not, without the plumbing."""
    seen, todo = set(), [script_of(stage)]
    while todo:
        path = todo.pop()
        if path in seen or covers(PLUMBING, path):
            continue
        seen.add(path)
        todo += [target for target in runs(path) if (stage, str(target)) not in NOT_FOLLOWED]
    return frozenset(path for path in seen if len(tree(path).body) > 1 or path == script_of(stage))


@pytest.mark.parametrize("stage", stages())
def test_dvc_lists_the_code_that_a_stage_runs(stage: str) -> None:
    listed = stages()[stage]["deps"]
    code = [entry for entry in listed if entry.split("/")[0] in PACKAGES]
    missing = [str(path) for path in sorted(code_run_by(stage)) if not covers(code, path)]
    assert not missing, f"dvc.yaml, {stage}: add these deps"
    unused = [entry for entry in code if not any(covers([entry], path) for path in code_run_by(stage))]
    assert not unused, f"dvc.yaml, {stage}: these deps are not imported by it"
    plumbing = [entry for entry in code if entry in PLUMBING]
    assert not plumbing, f"dvc.yaml, {stage}: {plumbing} change no result"


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
    "index": {"recipes.paper.splitter": "a recipe with a base gives its own splitter (caft/params/bases.py)"},
    "train": {
        "corpora": "a tag of the tracked run; what is trained on, and so what changes in a recipe, is data/index's",
        "evaluation.batch": "how many images a validation holds at a time",
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


@pytest.mark.parametrize("stage", stages())
def test_dvc_lists_exactly_the_settings_that_a_stage_reads(stage: str) -> None:
    assert sorted(stages()[stage].get("params", [])) == sorted(keys_read(stage)), keys_read(stage)


def test_no_stage_depends_on_where_it_runs() -> None:
    for name, stage in stages().items():
        for key in stage.get("params", []):
            assert key.split(".")[0] not in ("launch", "jobs", "launchers", "storage", "weights"), name


def test_metrics_and_curves_are_kept_by_git_and_all_else_by_dvc() -> None:
    for name, stage in stages().items():
        for kind in ("metrics", "plots"):
            for entry in stage.get(kind, []):
                ((path, options),) = entry.items()
                assert path.split("/")[0] == kind and options == {"cache": False}, (name, path)
        assert all(isinstance(out, str) for out in stage.get("outs", [])), name
