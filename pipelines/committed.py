"""Prints the digests of the default run's weights, and whether they and the metrics are the committed ones, or why not.

`make repro` ends with it. What is compared are the files of metrics/ that the stages of dvc.yaml write, but for speeds and
the run's name.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from caft.digests import file_digest
from caft.errors import DataError, exits_with_message
from caft.params import flat
from caft.storage import read_json

METRICS = ("data", "leakage", "superpixels", "train", "retrieval", "grounding", "regions")
WEIGHTS = (Path("models/caft.safetensors"), Path("models/sfcn.safetensors"))
_NO_RESULTS = ("images_per_s", "data_wait_share", "cost", "settings_digest")  # speeds, and the name of the run
# What decides about a result.
_SOURCES = ("params.yaml", "dvc.yaml", "caft", "pipelines")
_LOCKS = ("requirements.lock", "requirements-cpu.lock")
_SHOWN = 3


def main() -> None:
    """Prints the lines."""
    with exits_with_message():
        print("\n".join(lines()))


def lines() -> Iterator[str]:
    """What is printed.

    Raises:
        DataError: There is no checkout of git, or a stage has not run.
    """
    found, committed = numbers(), numbers("HEAD")
    for path in WEIGHTS:
        key = f"train.weights.{path.stem}"
        if key in found:
            if not path.is_file():
                raise DataError(f"{path}: not found; run `dvc repro`")
            found[key] = file_digest(path)
            yield f"weights:     {path} {found[key]}{' as committed' if found[key] == committed.get(key) else ''}"
    if not committed:
        yield "metrics:     this commit has none to compare with"
        return
    keys = [key for key in {**committed, **found} if not set(key.split(".")) & set(_NO_RESULTS)]
    other = [key for key in keys if found.get(key) != committed.get(key)]
    if not other:
        yield "metrics:     as committed"
        return
    yield f"metrics:     {len(other)} of {len(keys)} values are not as committed:"
    for key in [key for key in other if "weights" not in key and isinstance(found.get(key), float)][:_SHOWN]:
        yield f"             {key} {found[key]}, committed {committed.get(key)}"
    for reason in reasons() or ["no reason is known: please report it, with the processor's name"]:
        yield f"             {reason}"


def numbers(commit: str | None = None) -> dict[str, Any]:
    """Values of all metrics by file and key, of a commit, or as they are in the working folder.

    Raises:
        DataError: As `lines`.
    """
    table: dict[str, Any] = {}
    for name in METRICS:
        path = Path(f"metrics/{name}.json")
        if commit is None:
            content = read_json(path, "")
        else:
            content = json.loads(_git("show", f"{commit}:./{path}", missing="{}"))
        table |= flat(content, f"{name}.")
    return table


def reasons() -> list[str]:
    """Why results may differ from those of the commit."""
    found = []
    # Two letters that say how, and the path.
    if changed := [line[3:] for line in _git("status", "--porcelain", "--", *_SOURCES).splitlines()]:
        found.append(f"changed since the commit: {_some(changed)}")
    if (arithmetic := read_json("models/caft.json", "train").get("arithmetic", "unknown")) != "portable":
        found.append(f"arithmetic is {arithmetic}: each kind of processor rounds in its own way")
    if others := list(_other_versions()):
        found.append(f"other versions than the lock's: {_some(others)}")
    return found


def _other_versions() -> Iterator[str]:
    for lock in _LOCKS:
        for name, locked in re.findall(r"^([\w.-]+)==([\w.]+)", Path(lock).read_text(encoding="utf-8"), re.MULTILINE):
            try:
                installed = version(name).partition("+")[0]
            except PackageNotFoundError:
                continue
            if installed != locked:
                yield f"{name} {installed} for {locked}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _git(*arguments: str, missing: str | None = None) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        raise DataError("git: no such program; results are compared with those of a commit") from None
    if done.returncode == 0:
        return done.stdout
    if missing is not None and _git("rev-parse", "HEAD"):
        return missing
    raise DataError(f"git {arguments[0]}: {done.stderr.strip()}; results are compared with those of a commit")


if __name__ == "__main__":
    main()
