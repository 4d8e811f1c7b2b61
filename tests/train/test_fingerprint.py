"""A run's name against what a real rank loads: each file that it runs counts, comments and docstrings do not."""

import json
import pickle
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from caft import digests
from caft.data.training.index import build_index
from caft.digests import NO_RESULT, closure, code_digest, file_digest
from caft.eval.scores import cache
from caft.network.vision.superpixels import SFCN
from caft.params import load_params
from caft.train.job import TrainJob
from caft.weights.files import save_model
from tests.data.test_index import _corpus
from tests.test_structure import covers

PROJECT = Path(__file__).parents[2]
SETTINGS = {"train": {"batch": 4, "samples": 8}, "recipes": {"smoke": {"validation_images": 4}}}
# Changes one file after the other in a copy of the package, and gives the name of a run for each.
CHANGES = """
import json, sys
from pathlib import Path

copy, index = Path(sys.argv[1]), Path(sys.argv[2])
sys.path.insert(0, str(copy))
from caft.train.inputs import Inputs, files_of

def name():
    return Inputs.read({"seed": 0}, files_of(index, index / "none", None)).name

names = {"": name()}
for path in sorted(copy.rglob("*.py")):
    source = path.read_text()
    path.write_text(source + "CHANGED = True\\n")
    changed = name()
    path.write_text("# A comment.\\n" + source.replace('\"\"\"', '\"\"\"Other words. ', 1))
    reworded = name()
    path.write_text(source)
    names[path.relative_to(copy).as_posix()] = changed, reworded
assert name() == names[""]
print(json.dumps(names))
"""
# A rank, less the names that `caft/__init__.py` passes on to users: it would load all of the user's model.
RANK = """
import pickle, sys, types
from pathlib import Path

sys.modules["caft"] = package = types.ModuleType("caft")
package.__path__ = ["caft"]
with open(sys.argv[1], "rb") as file:
    job = pickle.load(file)
job()
files = [str(Path(module.__file__).absolute()) for name, module in sys.modules.items() if name.startswith("caft.")]
Path(sys.argv[2]).write_text("\\n".join(files))
"""


@dataclass(frozen=True)
class Found:
    """Which files of the package change a run's name, if a statement is added and if words are; and what a rank loads."""

    by_code: set[str]
    by_words: set[str]
    loaded: set[str]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("fingerprint")
    rows = [[f"It is {n}. And a {n} more. Of {n} field {f}. In {n * f}." for f in range(7)] for n in range(16)]
    _corpus(folder, "one", [rows])
    index = folder / "index"
    build_index(index, [{"name": "one", "fingerprint": "a"}], "spacy", folder / "captions", folder / "sentences")
    (folder / "small.yaml").write_text(yaml.safe_dump(SETTINGS))
    params = load_params(PROJECT / "params.yaml", [folder / "small.yaml"])
    assert params.selected_model.superpixels is not None
    save_model(SFCN(params.selected_model.superpixels.widths), folder / "sfcn.safetensors", {})
    np.save(folder / "excluded.npy", np.zeros(0, np.int64))
    job = TrainJob(
        params, "f", folder / "run", index, folder / "excluded.npy", folder / "images", folder / "sfcn.safetensors", {}
    )
    (folder / "job").write_bytes(pickle.dumps(job))
    python(RANK, folder / "job", folder / "loaded")
    loaded = {str(Path(line).relative_to(PROJECT)) for line in (folder / "loaded").read_text().splitlines()}
    shutil.copytree(PROJECT / "caft", folder / "copy/caft", ignore=shutil.ignore_patterns("__pycache__"))
    names = json.loads(python(CHANGES, folder / "copy", index))
    before = names.pop("")
    by_code = {path for path, (changed, _) in names.items() if changed != before}
    return Found(by_code, {path for path, (_, reworded) in names.items() if reworded != before}, loaded)


def python(code: str, *arguments: Path) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_file_that_a_rank_runs_changes_the_name(found: Found) -> None:
    assert {"caft/train/job.py", "caft/train/distributed.py", "caft/train/trainer.py"} <= found.loaded
    free = {path for path in found.loaded if covers(NO_RESULT, Path(path))}
    assert found.loaded - free <= found.by_code
    assert not free & found.by_code


def test_no_file_changes_the_name_that_a_rank_never_imports(found: Found) -> None:
    on_a_gpu = {"caft/network/vision/sampling_kernel.py"}  # which this rank was not
    assert found.by_code - found.loaded == on_a_gpu


def test_words_change_no_name(found: Found) -> None:
    assert not found.by_words


def test_dvc_trains_again_where_the_name_changes(found: Found) -> None:
    deps = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]["train"]["deps"]
    code = {path for path in found.by_code if (PROJECT / path).read_text().count("\n") > 1}
    assert not [path for path in code if not covers(deps, Path(path))]


SOURCE = '''"""A module."""

LIMIT = 3


class Row:
    """A row."""

    width: int = 1

    def area(self, height: int) -> str:
        """Its area."""
        # as text
        return f"{self.width * height:>{LIMIT}}" + "cm"
'''


def meaning(source: str) -> str:
    return digests._parsed(Path("module.py"), source.encode()).meaning


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""Another."""\n# and a comment'),
        ('    """A row."""\n', "\n"),
        ('"""Its area."""', '"""Its area, in square centimetres.\n\n        More.\n        """'),
        ("        # as text\n", ""),
        ("self.width * height", "(self.width  *  height)"),
    ],
)
def test_words_and_spaces_are_no_code(old: str, new: str) -> None:
    assert old in SOURCE and meaning(SOURCE.replace(old, new)) == meaning(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 3.0"),
        ("width: int = 1", "width: int = 2"),
        ("width: int = 1", "width = 1"),
        ("self.width * height", "self.width + height"),
        (":>{LIMIT}", ":<{LIMIT}"),
        ('"cm"', '"mm"'),
        ("    def area", "    @staticmethod\n    def area"),
        ("return f", "f"),
    ],
)
def test_each_change_of_code_counts(old: str, new: str) -> None:
    assert old in SOURCE and meaning(SOURCE.replace(old, new)) != meaning(SOURCE)


def test_the_digest_of_code_is_the_same_in_every_python() -> None:
    assert meaning(SOURCE) == "db7900d5dba6fc4bacd33d0ed56d5f03a849504cb9f0e76ed9d023ce36c7227e"
    assert meaning('"""Words alone."""\n') == ""
    others = [path for v in (11, 12, 13) if v != sys.version_info[1] and (path := shutil.which(f"python3.{v}"))]
    script = "import digests; print(digests.code_digest(['caft.train.job']))"
    for other in others:
        done = subprocess.run([other, "-c", script], capture_output=True, text=True, cwd=PROJECT / "caft")
        if done.returncode == 0:  # a version manager's stand-in may have no such Python
            assert done.stdout.strip() == code_digest(["caft.train.job"]), other


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of its own."""
    monkeypatch.setattr(digests, "ROOT", tmp_path)
    files = {
        "__init__.py": "",
        "start.py": "from caft.names import given\nimport torch\ndef later():\n    import caft.lazy",
        "names/__init__.py": '"""Passes names on."""\nfrom caft.names.inner import wanted as given\nimport caft.other',
        "names/inner.py": "wanted = 1",
        "names/table.yaml": "a: 1",
        "names/pages/page.html": "<p>",
        "other.py": "from caft import lazy",
        "lazy.py": "RUN = 'beside.py'",
        "beside.py": "x = 1",
        "unused.py": "x = 1",
    }
    for name, text in files.items():
        (tmp_path / "caft" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "caft" / name).write_text(text)
    return tmp_path / "caft"


def names(*modules: str, left_out: tuple[str, ...] = ()) -> set[str]:
    return {path.relative_to("caft").as_posix() for path in closure(modules, left_out)}


def test_imports_are_followed_to_their_end(package: Path) -> None:
    data = {"names/table.yaml", "names/pages/page.html"}
    everything = {"start.py", "names/__init__.py", "names/inner.py", "other.py", "lazy.py", "beside.py"}
    assert names("caft.start") == everything | data
    # What a package passes on is followed to its source, also where the package itself is left out.
    assert (
        names("caft.start", left_out=("caft/names/__init__.py",))
        == everything - {"names/__init__.py", "other.py"} | data
    )
    assert names("caft.start", left_out=("caft/names", "caft/lazy.py")) == {"start.py"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("from caft.gone import x", "caft.gone: caft/start.py imports it, but there is no such module"),
        ("from . import lazy", "caft/start.py: imports .; name the package"),
    ],
)
def test_an_import_that_leads_nowhere_is_an_error(package: Path, line: str, message: str) -> None:
    (package / "start.py").write_text(line)
    with pytest.raises(ValueError, match=message):
        closure(["caft.start"])


def test_a_data_file_counts_by_its_bytes(package: Path) -> None:
    before = code_digest(["caft.start"])
    (package / "names/pages/page.html").write_text("<b>")
    assert code_digest(["caft.start"]) != before


def test_a_file_has_the_digest_that_sha256sum_prints(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 5000)
    assert file_digest(path) == subprocess.check_output(["sha256sum", path], text=True).split()[0]


@pytest.mark.parametrize(
    ("path", "encodes"),
    [("caft/model/encoding.py", True), ("caft/captions/tokenizer.py", True), ("caft/train/trainer.py", False)],
)
def test_kept_features_are_of_this_code(
    path: str, encodes: bool, model, pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(PROJECT / "caft", tmp_path / "caft", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(digests, "ROOT", tmp_path)
    kept = tmp_path / "kept"
    cache.encode_pairs(model, pictures[:1], ["A dog."], 1, kept)
    source = (tmp_path / path).read_text()
    (tmp_path / path).write_text(source.replace('"""', '"""Other words. ', 1))
    cache.encode_pairs(model, pictures[:1], ["A dog."], 1, kept)
    assert len(list(kept.iterdir())) == 1
    (tmp_path / path).write_text(source + "CHANGED = True\n")
    cache.encode_pairs(model, pictures[:1], ["A dog."], 1, kept)
    assert len(list(kept.iterdir())) == 1 + encodes
