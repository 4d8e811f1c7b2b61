#!/usr/bin/env bash
# pyarrow 25.0.1, polars 2.1.0, pandas 2.3.3, duckdb 2.0.0 on Python 3.11.
# Guess: "not this cause" keeps the same rows whether it is written `!=` or `not in`, and before or after pandas has read the table.
# Seen:  in a table of pictures whose `cause` of loss is null for each that is there, pyarrow's filter `!=` drops the null rows, all
#        pictures that were fetched, and its `not in` keeps them. `pandas.read_parquet` has the former in `filters=` and the latter in
#        a mask; of polars, `filter(... != ...)` drops them and `remove(... == ...)` keeps them. DuckDB drops them either way.
# Here:  what was fetched is asked for as `cause IS NULL` (docs/tables.md).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet pyarrow==25.0.1 polars==2.1.0 pandas==2.3.3 numpy==2.3.5 duckdb==2.0.0
cat > "$work/nulls.py" <<'P'
import sys

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

path = f"{sys.argv[1]}/pictures.parquet"
pq.write_table(pa.table({"id": [0, 1, 2], "cause": ["gone", None, "large"]}), path)
frame, table = pl.read_parquet(path), pd.read_parquet(path)
kept = {
    "pyarrow !=": pq.read_table(path, filters=[("cause", "!=", "gone")])["id"].to_pylist(),
    "pyarrow not in": pq.read_table(path, filters=[("cause", "not in", ["gone"])])["id"].to_pylist(),
    "pandas filters !=": pd.read_parquet(path, filters=[("cause", "!=", "gone")])["id"].tolist(),
    "pandas mask !=": table[table["cause"] != "gone"]["id"].tolist(),
    "polars filter !=": frame.filter(pl.col("cause") != "gone")["id"].to_list(),
    "polars filter not is_in": frame.filter(~pl.col("cause").is_in(["gone"]))["id"].to_list(),
    "polars remove ==": frame.remove(pl.col("cause") == "gone")["id"].to_list(),
    "duckdb !=": [row[0] for row in duckdb.sql(f"SELECT id FROM '{path}' WHERE cause != 'gone'").fetchall()],
    "duckdb not in": [row[0] for row in duckdb.sql(f"SELECT id FROM '{path}' WHERE cause NOT IN ('gone')").fetchall()],
}
for how, rows in kept.items():
    print(f"{how}: {rows}")
assert {how for how, rows in kept.items() if rows == [1, 2]} == {"pyarrow not in", "pandas mask !=", "polars remove =="}
assert all(rows in ([2], [1, 2]) for rows in kept.values())
P
"$work/env/bin/python" "$work/nulls.py" "$work"
