"""Whether what DVC will record of a stage is what the stage has read.

DVC takes the digests of code and the values of settings for `dvc.lock` when a stage has ended. What was edited while it
ran would stand there as what made its result.
"""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from caft.digests import same_code
from caft.errors import CaftError
from caft.params import flat
from caft.params.file import parsed, read

_CODE = ("caft", "pipelines", "slurm", "benchmarks")
_STAGE = "DVC_STAGE"  # set by DVC for what it runs: the stage, after its dvc.yaml if that is not the root's
_SHOWN = 4


class Seen(NamedTuple):
    """What stood in the checkout at one time."""

    code: dict[Path, bytes]
    settings: bytes


def look(settings: str) -> Seen | None:
    """Reads what DVC may record, with the given settings file; None where DVC does not run this process."""
    if _STAGE not in os.environ:
        return None
    code = {}
    for path in (path for folder in _CODE for path in Path(folder).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
            with suppress(FileNotFoundError):  # an editor's
                code[path] = path.read_bytes()
    return Seen(code, Path(settings).read_bytes() if Path(settings).is_file() else b"")


def check(before: Seen | None, settings: str) -> None:
    """Compares what the stage's entry in its dvc.yaml lists with what stood there when the stage began.

    Raises:
        CaftError: It is not the same.
    """
    if before is None or (now := look(settings)) == before or now is None:
        return
    graph, _, address = os.environ[_STAGE].rpartition(":")
    name, _, item = address.partition("@")
    stage = read(Path(graph or "dvc.yaml"))["stages"][name]
    stage = stage.get("do", stage)
    files = [path for path in sorted({*before.code, *now.code}) if _is_listed(path, stage.get("deps", []))]
    changed = [str(path) for path in files if not same_code(path, before.code.get(path), now.code.get(path))]
    contents = [{**content, "item": item} for content in (parsed(before.settings.decode()), read(Path(settings)))]
    for key in stage.get("params", []):
        then, later = (_values(content, key) for content in contents)
        keys = [key for key in {**then, **later} if then.get(key) != later.get(key)]
        changed += [f"{key} {then.get(key)} -> {later.get(key)}" for key in keys]
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise CaftError(
            f"{', '.join(changed[:_SHOWN])}{more} changed while stage {address} ran, and DVC would record that as what "
            "made its result. Undo it or leave it, and run `dvc repro` again, which reads what stands there then"
        )


def _is_listed(path: Path, entries: list[str]) -> bool:
    return any(Path(entry) in (path, *path.parents) for entry in entries)


def _values(content: dict[str, Any], key: str) -> dict[str, Any]:
    """Values at a key of `params` in dvc.yaml, by dotted keys."""
    dotted = re.sub(r"\$\{(\w+)\}", lambda found: str(content.get(found[1])), key)
    value: Any = content
    for part in dotted.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return dict(flat({dotted: value}))
