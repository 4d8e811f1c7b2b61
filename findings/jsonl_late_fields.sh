#!/usr/bin/env bash
# polars 2.1.0, duckdb 2.0.0, pandas 2.3.3, pyarrow 25.0.1 on Python 3.11.
# Guess: a field that a file of JSON lines has only from some line on is a column, with nulls before; at least its loss is an error.
# Seen:  polars looks at 100 lines and DuckDB at 20,480 (`infer_schema_length`, `sample_size`); a field that comes later is left out,
#        without a word. pandas and pyarrow.json have it. So of captions of which only some have, say, a second source, a column is
#        there or not depending on who is asked and on which line was first. `infer_schema_length=None` and `sample_size=-1` mend it.
# Here:  published sets that are JSON lines (DOCCI, IIW) are read line by line (caft/data/sets/files.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet polars==2.1.0 duckdb==2.0.0 pandas==2.3.3 numpy==2.3.5 pyarrow==25.0.1
cat > "$work/late.py" <<'P'
import json
import sys
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.json

path = Path(sys.argv[1]) / "captions.jsonl"
seen = {}
for before in (50, 1_000, 50_000):
    lines = [{"key": number, "raw": "a dog"} for number in range(before)] + [{"key": before, "raw": "a dog", "long": "A dog runs."}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    columns = {
        "polars": pl.read_ndjson(path).columns,
        "polars, all lines": pl.read_ndjson(path, infer_schema_length=None).columns,
        "duckdb": duckdb.sql(f"FROM '{path}'").columns,
        "duckdb, all lines": duckdb.sql(f"FROM read_json('{path}', sample_size = -1)").columns,
        "pandas": list(pd.read_json(path, lines=True)),
        "pyarrow": pyarrow.json.read_json(path).column_names,
    }
    assert all(set(names) <= {"key", "raw", "long"} for names in columns.values())
    seen[before] = [reader for reader, names in columns.items() if "long" not in names]
    print(f"a field that is first in line {before + 1}: left out by {seen[before] or 'nobody'}")
assert seen == {50: [], 1_000: ["polars"], 50_000: ["polars", "duckdb"]}
P
"$work/env/bin/python" "$work/late.py" "$work"
