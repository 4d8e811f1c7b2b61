"""Checkpoints of a run: written atomically, rotated, and skipped with the reason if damaged or of another run.

Beside each checkpoint lies a small file with its size and SHA-256, written before the checkpoint is put into place.
"""

import json
import logging
from pathlib import Path
from typing import Any

import torch

from caft.digests import file_digest
from caft.storage import replacing, write_json

logger = logging.getLogger(__name__)
_KEPT = 2


def save(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Writes the checkpoint after so many steps, then removes all but the last two; if it cannot, none is removed.

    The run's `fingerprint` is part of the state.
    """
    path = folder / f"step-{step:09d}.pt"
    with replacing(path) as temporary:
        with temporary.open("wb") as file:  # given a path, torch hides what the system says of a full disk
            torch.save(state, file)
        seal = {"fingerprint": state["fingerprint"], "bytes": temporary.stat().st_size}
        seal["sha256"] = file_digest(temporary)
        write_json(_seal(path), seal)
    for old in sorted(folder.glob("step-*.pt"))[:-_KEPT]:
        _seal(old).unlink(missing_ok=True)
        old.unlink()


def newest(folder: Path, fingerprint: str) -> Path | None:
    """The newest checkpoint that is undamaged and belongs to a run; newer ones are skipped with a warning."""
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        fault = _fault(path, fingerprint)
        if fault is None:
            return path
        logger.warning("%s %s; it is not used, but the one before it", path, fault)
    return None


def load(path: Path) -> dict[str, Any]:
    """The state in a checkpoint."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _fault(path: Path, fingerprint: str) -> str | None:
    """What is wrong with a checkpoint, if anything is."""
    try:
        seal = json.loads(_seal(path).read_text())
        owner, size, digest = seal["fingerprint"], seal["bytes"], seal["sha256"]
    except FileNotFoundError:
        return f"has no {_seal(path).name}, so it may not have been written to its end"
    except (ValueError, KeyError, TypeError) as error:
        return f"has a {_seal(path).name} that cannot be read ({error})"
    if owner != fingerprint:
        return f"belongs to run {owner}, this is run {fingerprint}"
    if path.stat().st_size != size:
        return f"has {path.stat().st_size} bytes, {size} were written"
    if file_digest(path) != digest:
        return "holds other bytes than were written (its SHA-256 differs)"
    return None


def _seal(path: Path) -> Path:
    return path.with_suffix(".json")
