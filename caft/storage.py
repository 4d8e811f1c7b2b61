"""Where the files that DVC does not track live, and how every file is written.

Images, run folders and the tracking database are too large or too alive for DVC. They lie under
one root, by default in the main checkout even when a stage runs in a DVC experiment's copy: such a
copy starts without untracked files, and images that were fetched once must not be fetched again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caft.params import Params


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


def root(params: Params) -> Path:
    """Returns the storage root, absolute: ``CAFT_STORAGE`` if set, else ``storage.root``.

    A relative root is taken from the main checkout.
    """
    configured = os.environ.get("CAFT_STORAGE") or params.storage.root
    return (main_checkout() / Path(configured).expanduser()).resolve()


def images_folder(params: Params, corpus: str) -> Path:
    """Returns the folder that holds the image shards of one corpus."""
    return root(params) / "images" / corpus


def runs_folder(params: Params) -> Path:
    """Returns the folder that holds one resumable folder a training run."""
    return root(params) / "runs"


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
    """Gives a temporary sibling of `path`, and moves it into place if the block ends well.

    The block writes a file or makes a folder there. What stood at `path` is replaced; after an
    error or a kill it is untouched. Parents are created.

    Args:
        path: The final file or folder.

    Yields:
        A path that does not exist yet, in the same folder, ending like `path` does.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    unique = uuid.uuid4().hex[:8]
    temporary = final.with_name(f".{unique}.{final.name}")
    previous = final.with_name(f".{unique}.previous.{final.name}")
    try:
        yield temporary
        if final.is_dir():
            os.replace(final, previous)  # a folder cannot be renamed onto one that has files
        os.replace(temporary, final)
    finally:
        for leftover in (temporary, previous):
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink(missing_ok=True)


def write_json(path: Path | str, value: Any) -> None:
    """Writes `value` as indented JSON with a final newline, atomically.

    Keys keep their order; NaN and infinities raise ValueError, since other readers reject them.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
