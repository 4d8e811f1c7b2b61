"""The name of a run: a hash of everything that changes its result."""

import hashlib
import json
from pathlib import Path
from typing import Any

# Code whose change changes the weights; the rest of the package only launches, stores or scores them.
_CODE = (
    "network",
    "captions",
    "loss",
    "train/optim.py",
    "train/task.py",
    "train/trainer.py",
    "data/training/batch.py",
    "data/training/reader.py",
    "transforms.py",
)


def fingerprint(settings: dict[str, Any], index_folder: Path, weights: Path | None) -> str:
    """Sixteen hexadecimal digits.

    Args:
        settings: Model, recipe and seed; not the launcher, which only moves the work.
        index_folder: The training index.
        weights: SFCN's; without them, it is what runs of all seeds have in common, if `settings` has no seed.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update((index_folder / "index.json").read_bytes())
    if weights is not None:
        digest.update(weights.read_bytes())
    package = Path(__file__).parent.parent
    for name in _CODE:
        path = package / name
        for source in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
