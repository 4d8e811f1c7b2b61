#!/usr/bin/env bash
# datasets 5.2.0, pyarrow 25.0.1 on Python 3.11.
# Guess: a folder of Parquet shards is read by `load_dataset("parquet", ...)` whether or not one of them has no rows.
# Seen:  a shard without rows as pyarrow and pandas write it (one row group of no rows) ends the whole data set in "BatchSize must be
#        greater than 0, got 0". One without row groups, as polars and DuckDB write it, is read.
# Here:  tables of shards are written without an empty row group.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet datasets==5.2.0 pyarrow==25.0.1
export HF_HOME=$work/home HF_HUB_OFFLINE=1
cat > "$work/empty.py" <<'P'
import sys
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

datasets.disable_progress_bars()
datasets.logging.set_verbosity(datasets.logging.CRITICAL)
table = pa.table({"caption": ["a dog"]})
found = {}
for name in ("one empty row group", "no row group"):
    folder = Path(sys.argv[1]) / name.replace(" ", "_")
    folder.mkdir()
    pq.write_table(table, folder / "00000.parquet")
    with pq.ParquetWriter(folder / "00001.parquet", table.schema) as writer:
        if name == "one empty row group":  # as write_table does
            writer.write_table(table.slice(0, 0))
    try:
        found[name] = len(datasets.load_dataset("parquet", data_dir=str(folder), split="train", cache_dir=str(folder / "cache")))
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error.__cause__}"
print(datasets.__version__, found)
assert found["no row group"] == 1 and "BatchSize must be greater than 0" in found["one empty row group"]
P
"$work/env/bin/python" "$work/empty.py" "$work"
