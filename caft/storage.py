"""Where the files that DVC does not track live, and how every file is written.

Images, run folders and the tracking database are too large or too alive for DVC. They lie under
one root, by default in the main checkout even when a stage runs in a DVC experiment's copy: such a
copy starts without untracked files, and images that were fetched once must not be fetched again.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caft.errors import DataError

if TYPE_CHECKING:
    from caft.params import Params

# Errors of the operating system about a disk or a path, as opposed to our own mistakes.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
_PATH = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)


def main_checkout() -> Path:
    """Returns the main checkout's folder, absolute, also from inside an experiment's copy.

    DVC sets ``DVC_ROOT`` to the main checkout in every stage it runs, queued and temporary
    experiments included. Git cannot tell: an experiment's copy is a repository of its own.
    """
    if dvc_root := os.environ.get("DVC_ROOT"):
        return Path(dvc_root).resolve()
    try:
        top_level = subprocess.run(
            ["git", "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return Path.cwd()
    return Path(top_level).resolve()


def in_checkout(path: str) -> Path:
    """Returns the user's file or folder of that name; where an experiment's copy lacks it, the main checkout's."""
    given = Path(path).expanduser()
    return given if given.exists() or not (main := main_checkout() / given).exists() else main


def root(params: Params) -> Path:
    """Returns the storage root, absolute: ``CAFT_STORAGE`` if set, else ``storage.root``.

    A relative root is taken from the main checkout.
    """
    configured = os.environ.get("CAFT_STORAGE") or params.storage.root
    return (main_checkout() / Path(configured).expanduser()).resolve()


def images_folder(params: Params, corpus: str) -> Path:
    """Returns the folder of the image shards of one corpus."""
    return root(params) / "images" / corpus


def runs_folder(params: Params) -> Path:
    """Returns the folder that holds a resumable folder for each training run."""
    return root(params) / "runs"


def features_folder(params: Params) -> Path:
    """Returns the folder that holds encoded evaluation sets; it may be deleted at any time."""
    return root(params) / "features"


def scratch_folder(params: Params, name: str) -> Path:
    """Returns the folder of files that are slow to recompute; it is safe to delete while no stage runs."""
    return root(params) / "scratch" / name


def tracking_uri(params: Params) -> str:
    """Returns the tracking address: ``storage.tracking_uri``, or SQLite in the storage root."""
    return params.storage.tracking_uri or f"sqlite:///{root(params) / 'mlflow.db'}"


def artifact_location(params: Params) -> str:
    """Returns the file URI under which the tracker keeps artifacts.

    It is given explicitly, since the tracker would take a folder relative to whichever process
    happens to create the experiment.
    """
    return (root(params) / "mlartifacts").as_uri()


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Gives a temporary sibling of `path`, and moves it into place if the block raises nothing.

    The block writes a file or makes a folder there. What stood at `path` is replaced, but a file never replaces a
    folder, which may be a user's; after an error or a kill it is untouched. A link is replaced itself, by a folder if it
    leads to one; what it leads to is kept, since that may be another's, as a cache's. Parents are created.

    Args:
        path: The final file or folder.

    Yields:
        A path that does not exist yet, in the same folder, ending like `path` does.

    Raises:
        IsADirectoryError: The block wrote no folder, and there is one, or a link to one, at `path`; it is kept.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(final)
    temporary, previous = siblings(final)
    try:
        yield temporary
        if final.is_dir():
            if not temporary.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(final))
            os.replace(final, previous)  # a folder cannot be renamed onto one that has files
        os.replace(temporary, final)
    finally:
        for leftover in (temporary, previous):
            _remove(leftover)


def siblings(final: Path) -> tuple[Path, Path]:
    """Returns new names beside `final`, of what is being written and of what stood there; both longer than its own."""
    unique = f".tmp-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return final.with_name(f"{unique}.{final.name}"), final.with_name(f"{unique}-previous.{final.name}")


def _remove_leftovers(final: Path) -> None:
    """Removes the temporary siblings of `final` that killed processes of this machine have left."""
    mine = f".tmp-{socket.gethostname()}-"
    for name in os.listdir(final.parent):
        if not (name.startswith(mine) and name.endswith(f".{final.name}")):
            continue
        process = name.removeprefix(mine).split("-")[0]
        if process.isdigit() and not _runs(int(process)):
            _remove(final.with_name(name))


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is another user's
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path | str, value: Any) -> None:
    """Writes `value` as indented JSON with a final newline, atomically.

    Keys keep their order; NaN and infinities raise ValueError, since other readers reject them.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path | str, text: str) -> None:
    """Writes a text as UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path | str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows as CSV with a header, lines ending in a line feed, atomically."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_json(path: Path | str, stage: str) -> Any:
    """Returns the content of a JSON file that a stage wrote.

    Raises:
        DataError: It is missing or no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: not found; run `{f'dvc repro {stage}'.strip()}`") from None
    except ValueError as error:
        raise DataError(f"{path}: is no JSON ({error}); run `{f'dvc repro --force {stage}'.strip()}`") from None


def disk_problem(error: BaseException) -> str | None:
    """Explains to who runs a stage a disk or path error behind an exception; None if there is none."""
    return None if (found := disk_error(error)) is None else _advice(*found)


def disk_error(error: BaseException) -> tuple[int, str] | None:
    """Returns number and description of a disk or path error behind an exception; None if there is none.

    Libraries wrap the system's error, or keep only its message, so the whole chain of causes is searched.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (*_DISK, *_PATH):
            place = cause.filename2 or cause.filename
            return cause.errno, f"{place}: {cause.strerror}" if place else str(cause)
        for code in _DISK:
            if line := next((line for line in str(cause).splitlines() if os.strerror(code) in line), None):
                return code, line.strip()
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return None


def _advice(code: int, problem: str) -> str:
    if code in (errno.ENOSPC, errno.EDQUOT):
        advice = "free some space, or let storage.root (CAFT_STORAGE) point to a larger disk"
    elif code == errno.ENAMETOOLONG:
        advice = "give a shorter name"
    elif code in _PATH:
        advice = "move what is in the way"
    else:
        advice = "check that you may write to the folder, or let storage.root (CAFT_STORAGE) point to one that can"
    return f"{problem}; {advice}, and run the stage again: what was complete is kept"
