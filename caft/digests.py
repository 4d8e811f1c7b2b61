"""Digests of files, tensors and code: equal digests mean equal content, so that a result can be found again.

Code is digested as what Python makes of it, without comments and docstrings, so that other words change no digest. Which
code is digested follows from imports: all modules of this package that a module imports, directly or not, also inside
functions, less those in `NO_RESULT`. No list of files is kept by hand.
"""

import ast
import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).parents[1]
_SCRIPT = re.compile(r"\w+\.py")

# Settings; in recipes and models, which are not among them, methods compute.
_VALUES = ("__init__", "corpora", "evaluation", "file", "load", "section", "sets", "settings")
# Files and folders on which no result depends, so that neither a digest of code nor a stage of dvc.yaml holds them.
NO_RESULT = {
    "caft/__init__.py": "passes names on",
    "caft/errors.py": "words for users",
    "caft/digests.py": "names results",
    "caft/locking.py": "who may write at a time",
    "caft/progress.py": "log lines",
    "caft/storage.py": "where files lie",
    "caft/params/problems.py": "words for users",
    **{f"caft/params/{name}.py": "values, which count themselves" for name in _VALUES},
    "caft/model/kept.py": "keeps what was computed",
    "caft/weights/authors.py": "names in published files; what is in a file counts itself",
    "caft/weights/flair.py": "the same",
    "caft/weights/open_clip.py": "the same",
    "caft/weights/content.py": "words for users",
    "caft/weights/misfits.py": "words for users",
    "caft/train/cost.py": "what a step costs, by formula",
    "caft/train/energy.py": "what energy it takes",
    "caft/train/follow.py": "what a job has written down",
    "caft/train/inputs.py": "names runs",
    "caft/train/plan.py": "what a run will take",
    "caft/train/seal.py": "whether a file is whole",
    "caft/train/speed.py": "how fast it goes",
    "caft/train/stalled.py": "when waiting for images ends",
    "caft/train/tracking": "a copy of metrics and weights for people",
    "caft/data/loopback.py": "which way to this machine itself",
    "caft/data/tables/meanings.py": "words for users, beside the columns of tables",
    "caft/data/tables/cluster.py": "which process works on a shard",
    "caft/data/tables/database.py": "how much memory a query takes",
}


def file_digest(path: Path) -> str:
    """SHA-256 of a file, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_digest(tensors: Iterable[tuple[str, "Tensor"]]) -> str:
    """SHA-256 over names, types, shapes and values of tensors, in the order given."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def code_digest(modules: Iterable[str]) -> str:
    """SHA-256 over the code that some modules of this package depend on; those of other packages are passed over."""
    lines = [f"{path} {digest}\n" for path, digest in code_digests(modules).items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def code_digests(modules: Iterable[str]) -> dict[str, str]:
    """SHA-256 of what each file says that some modules of this package depend on, by its path; of others none."""
    paths = closure(module for module in modules if module.split(".")[0] == "caft")
    return {
        path.as_posix(): _code(path).meaning if path.suffix == ".py" else file_digest(ROOT / path) for path in paths
    }


def closure(
    modules: Iterable[str], left_out: Iterable[str] = NO_RESULT, packages: Sequence[str] = ("caft",)
) -> list[Path]:
    """Files that some modules depend on: their own, and those of all that they import, directly or not.

    A name that a package's `__init__` passes on is followed to where it is defined. With the modules come the `__init__`
    of the packages around them, of which only what they run is followed, `import MODULE`, and data files beside them.
    A file without a statement is no code.

    Args:
        modules: Dotted names.
        left_out: Files and folders that are neither returned nor followed.
        packages: Imports of others are not followed.

    Returns:
        Paths relative to `ROOT`, sorted.

    Raises:
        ValueError: A module or an import leads to no file.
    """
    without = {Path(entry) for entry in left_out}
    found: set[Path] = set()
    todo, seen = [(module, "", "a caller") for module in modules], set()  # module, name in it, and who asks for it
    while todo:
        module, name, asking = todo.pop()
        if (module, name) in seen or module.split(".")[0] not in packages:
            continue
        seen.add((module, name))
        if (path := _file(module, name)) is None:
            raise ValueError(f"{module}: {asking} imports it, but there is no such module below {ROOT}")
        code = _code(path)
        if path.name == "__init__.py":
            todo += [(origin, inner, str(path)) for origin, inner, own in code.imports if own and own == name]
        if path in found or not without.isdisjoint((path, *path.parents)):
            continue
        found.add(path)
        for package in (folder / "__init__.py" for folder in list(path.parents)[:-1]):
            if (ROOT / package).is_file() and without.isdisjoint((package, *package.parents)):
                todo += [(origin, "", str(package)) for origin, _, own in _code(package).imports if not own]
        for origin, inner, _ in code.imports:
            if origin.startswith("."):
                raise ValueError(f"{path}: imports {origin}; name the package, so that the import can be followed")
            todo.append((origin, inner, str(path)))
        # Files that are run as processes of their own.
        scripts = [path.with_name(script).with_suffix("") for script in code.scripts]
        found_scripts = [script for script in scripts if (ROOT / script.with_suffix(".py")).is_file()]
        todo += [(".".join(script.parts), "", str(path)) for script in found_scripts]
    found |= {folder / "__init__.py" for path in found for folder in list(path.parents)[:-1]}
    found |= {data for folder in {path.parent for path in found} for data in _data(folder)}
    return sorted(path for path in found if without.isdisjoint((path, *path.parents)) and has_code(path))


def has_code(path: Path) -> bool:
    """Whether a file below `ROOT` has content that could have an effect; an `__init__` is often a docstring alone."""
    return (ROOT / path).is_file() and (path.suffix != ".py" or bool(_code(path).meaning))


def same_code(path: Path, one: bytes | None, other: bytes | None) -> bool:
    """Whether two contents of a file say the same; None is no file. Python may differ in comments and docstrings."""
    if one == other or path.suffix != ".py" or one is None or other is None:
        return one == other
    try:
        return _parsed(path, one).meaning == _parsed(path, other).meaning
    except SyntaxError:  # it is just being written
        return False


def _file(module: str, name: str) -> Path | None:
    """The file that `from module import name` runs, or `import module` where the name is empty; None without one."""
    for dotted in (f"{module}.{name}", module):
        place = Path(*dotted.split("."))
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if (ROOT / file).is_file():
                return file
    return None


def _data(folder: Path) -> Iterator[Path]:
    """Data files of a folder below `caft`, also in folders of it that hold data alone."""
    if folder.parts[0] != "caft" or len(folder.parts) == 1:
        return
    for entry in sorted((ROOT / folder).iterdir()):
        if entry.name.startswith((".", "__pycache__")):
            continue
        if entry.is_file() and entry.suffix != ".py":
            yield folder / entry.name
        elif entry.is_dir() and not (entry / "__init__.py").exists():
            yield from _data(folder / entry.name)


class _Code(NamedTuple):
    """What a source file says."""

    meaning: str  # digest of its statements without comments and docstrings; empty if there are none
    imports: list[tuple[str, str, str]]  # module, name in it, and name here, of everything imported anywhere in it
    scripts: list[str]  # names of Python files that it mentions


def _code(path: Path) -> _Code:
    return _parsed(path, (ROOT / path).read_bytes())


@functools.cache
def _parsed(path: Path, source: bytes) -> _Code:
    tree = ast.parse(source, str(path))
    imports, scripts = [], []
    statements = _canonical(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [(alias.name, "", "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            imports += [(module, alias.name, alias.asname or alias.name) for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _SCRIPT.fullmatch(node.value):
            scripts.append(node.value)
    meaning = hashlib.sha256(repr(statements).encode()).hexdigest() if statements != _canonical(ast.parse("")) else ""
    return _Code(meaning, imports, scripts)


def _canonical(node: Any) -> Any:
    """A syntax tree as tuples, alike in all versions of Python: without places, docstrings and empty fields.

    `ast.dump` is not: versions add fields, which are empty for older code, and 3.12.1 ends some f-strings with an empty
    part.
    """
    if isinstance(node, list):
        return [_canonical(item) for item in node if not _has_no_effect(item)]
    if isinstance(node, ast.JoinedStr):
        return "JoinedStr", [_canonical(part) for part in node.values if getattr(part, "value", None) != ""]
    if isinstance(node, ast.Constant):
        return repr(node.value)
    if isinstance(node, ast.AST):
        fields = [(name, _canonical(getattr(node, name, None))) for name in node._fields]
        return type(node).__name__, [(name, value) for name, value in fields if value not in (None, [])]
    return node


def _has_no_effect(node: Any) -> bool:
    """Whether it is a docstring, or another string that stands alone."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
