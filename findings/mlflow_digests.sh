#!/usr/bin/env bash
# mlflow 3.17.2, pandas 2.3.3, polars 2.1.0, numpy 2.3.5 on Python 3.11.
# Guess: the digest of a data set that MLflow shows beside a run differs if a caption of it differs.
# Seen:  `from_pandas` and `from_numpy` read the first 10,000 rows: a caption that is mended in a later one leaves the digest as it was.
#        Columns of lists or bytes are not read at all. `from_polars` reads all rows but not their order: captions that have changed
#        places have the same digest.
# Here:  the digest logged is our own, of every row's number and SHA-256 (`log_data` of caft/train/tracking/runs.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet mlflow==3.17.2 pandas==2.3.3 polars==2.1.0 numpy==2.3.5
cat > "$work/digests.py" <<'P'
import mlflow
import numpy as np
import pandas as pd
import polars as pl


def mended(row, rows=20_000):
    """Captions and features of as many pictures, of which one row is another."""
    captions, features = ["a dog"] * rows, np.zeros((rows, 4))
    captions[row], features[row] = "a cat", 1
    return captions, features


def of_pandas(captions):
    return mlflow.data.from_pandas(pd.DataFrame({"caption": captions})).digest


early, late, later = mended(5), mended(15_000), mended(15_001)
digests = {
    "pandas, row 5 or 15,000": {of_pandas(rows[0]) for rows in (early, late)},
    "pandas, row 15,000 or 15,001": {of_pandas(rows[0]) for rows in (late, later)},
    "numpy, row 5 or 15,000": {mlflow.data.from_numpy(rows[1]).digest for rows in (early, late)},
    "numpy, row 15,000 or 15,001": {mlflow.data.from_numpy(rows[1]).digest for rows in (late, later)},
    "pandas, lists of other sentences": {of_pandas([[text], [text, text]]) for text in ("A dog runs.", "A cat sleeps.")},
    "pandas, other bytes": {of_pandas([text.encode()]) for text in ("A dog runs.", "A cat sleeps.")},
    "polars, other texts": {mlflow.data.from_polars(pl.DataFrame({"caption": [text]})).digest for text in ("a dog", "a cat")},
    "polars, texts that changed places": {
        mlflow.data.from_polars(pl.DataFrame({"caption": texts})).digest for texts in (["a dog", "a cat"], ["a cat", "a dog"])
    },
}
for what, found in digests.items():
    print(f"{what}: {'told apart' if len(found) == 2 else 'one digest'}")
assert {what for what, found in digests.items() if len(found) == 2} == {
    "pandas, row 5 or 15,000", "numpy, row 5 or 15,000", "polars, other texts"
}
P
"$work/env/bin/python" "$work/digests.py"
