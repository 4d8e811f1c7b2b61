"""The name of a run: a hash of everything that changes its result."""

import hashlib
import json
from pathlib import Path
from typing import Any

from caft.digests import code_digest

JOB = "caft.train.job"  # what a rank runs


def fingerprint(settings: dict[str, Any], index_folder: Path, weights: Path | None) -> str:
    """Sixteen hexadecimal digits, over settings, data, superpixels and the code of the training job.

    Other comments and docstrings do not change it; see `caft.digests`.

    Args:
        settings: Model, recipe and seed; not the launcher, which only moves the work.
        index_folder: The training index.
        weights: SFCN's; without them, it is what runs of all seeds have in common, if `settings` has no seed.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update((index_folder / "index.json").read_bytes())
    if weights is not None:
        digest.update(weights.read_bytes())
    digest.update(code_digest([JOB]).encode())
    return digest.hexdigest()[:16]
