"""Checkpoints of a run: complete or absent, and refused when they are another run's."""

import logging
from pathlib import Path
from typing import Any

import torch

from caft.errors import CheckpointError
from caft.storage import replacing

logger = logging.getLogger(__name__)
_KEPT = 2


def save(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Writes the checkpoint of a step, atomically, and removes all but the last two."""
    with replacing(_path(folder, step)) as temporary:
        torch.save(state, temporary)
    for old in sorted(folder.glob("step-*.pt"))[:-_KEPT]:
        old.unlink()


def latest(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The newest checkpoint that can be read; a damaged one is passed over with a warning.

    Raises:
        CheckpointError: A checkpoint belongs to another run.
    """
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file; all mean the same here
            logger.warning("%s cannot be read (%s); the one before it is used", path, error)
            continue
        if state["fingerprint"] != fingerprint:
            raise CheckpointError(
                f"{path}: belongs to run {state['fingerprint']}, this is run {fingerprint}; remove the folder {folder}"
            )
        return state
    return None


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:09d}.pt"
