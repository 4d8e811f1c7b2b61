#!/usr/bin/env bash
# ray 2.60.0 with pyarrow 25.0.1 and pandas 2.3.3 on Python 3.11.
# Guess: `map_batches` with a function that gives its batch back leaves a table as it is, in each of its three formats.
# Seen:  in "numpy", its default, a column of integers of 64 bits that holds one null becomes float64: an id above 2**53 is another
#        id, and the null a NaN. A block without a null stays as it is, so one column has two types. "pandas" and "pyarrow" keep both.
# Here:  batches are pyarrow tables, written with a fixed schema (caft/data/tables).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet "ray[data]==2.60.0" pyarrow==25.0.1 pandas==2.3.3
export RAY_DATA_DISABLE_PROGRESS_BARS=1 RAY_USAGE_STATS_ENABLED=0
cat > "$work/ids.py" <<'P'
import logging

import pyarrow as pa
import ray

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
logging.getLogger("ray.data").setLevel(logging.ERROR)
ids = [2**53 + 1, None, 2**53 + 3]
seen = {}
for batch_format in ("numpy", "pandas", "pyarrow"):
    rows = ray.data.from_arrow(pa.table({"id": pa.array(ids, pa.int64())})).map_batches(lambda batch: batch, batch_format=batch_format)
    seen[batch_format] = [row["id"] for row in rows.take_all()]
whole = ray.data.from_arrow(pa.table({"id": [2**53 + 1]})).map_batches(lambda batch: batch).take_all()[0]["id"]
print(ray.__version__, "put in:", ids, "came out:", seen, "without a null:", whole)
assert seen["pandas"] == seen["pyarrow"] == ids and whole == 2**53 + 1
assert seen["numpy"][::2] == [2.0**53, 2.0**53 + 4] and seen["numpy"][1] != seen["numpy"][1]
P
"$work/env/bin/python" "$work/ids.py"
