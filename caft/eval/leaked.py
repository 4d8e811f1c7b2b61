"""Evaluation images that are in the training index too, as the stage `leakage` found them."""

from collections.abc import Collection, Mapping
from pathlib import Path

import pyarrow.parquet as pq

from caft import storage
from caft.data.training.subsets import read_excluded
from caft.errors import DataError

UNKNOWN = "unknown"
AUDIT, PAIRS, EXCLUDED = Path("metrics/leakage.json"), Path("data/leakage.parquet"), Path("data/excluded.npy")
Leaked = Mapping[str, Collection[str]]  # images by set, as paths from the set's folder


def read_leaked() -> Leaked:
    """Returns the images of each audited set that are in the training index, less those that training leaves out.

    A set that the stage `leakage` did not find is not among them: nothing is known of it.

    Raises:
        DataError: A file of the stage is missing.
    """
    audited = storage.read_json(AUDIT, "leakage").get("sets", {})
    leaked: dict[str, set[str]] = {name: set() for name, entry in audited.items() if "images" in entry}
    if any(entry.get("seen_in_training") for entry in audited.values()):
        if not PAIRS.exists():
            raise DataError(f"{PAIRS}: not found; run `dvc repro leakage`")
        rows = pq.read_table(PAIRS, columns=["benchmark", "image", "position"]).to_pylist()
        excluded = set(read_excluded(EXCLUDED).tolist())
        for row in rows:
            if row["position"] not in excluded:
                leaked[row["benchmark"]].add(row["image"])
    return leaked
