#!/usr/bin/env bash
# duckdb 2.0.0 and 1.5.6, pyarrow 25.0.1 on Python 3.11.
# Guess: the schema of a Parquet file is that of the query; shards that one query writes have one schema, whatever their rows.
# Seen:  from 2.0 on a column of a table in which there happens to be no null is written as required; in 1.5 all may hold nulls. So
#        shards differ by their rows: pyarrow does not join their tables; and of a folder it takes the first shard's schema, says
#        "not null" of a column that holds nulls, and then refuses to write it.
# Here:  every table that stays is written with a fixed schema; what DuckDB writes in between is cast to it (caft/data/tables).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cat > "$work/shards.py" <<'P'
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

folder = Path(sys.argv[1]) / duckdb.__version__
folder.mkdir()
tables = [pa.table({"id": [0, 1], "caption": ["a dog", "a cat"]}), pa.table({"id": [2, 3], "caption": ["an owl", None]})]
for number, rows in enumerate(tables):
    duckdb.sql("CREATE OR REPLACE TABLE shard AS FROM rows")
    duckdb.sql(f"COPY shard TO '{folder}/{number}.parquet' (FORMAT parquet)")
shards = [pq.read_table(folder / f"{number}.parquet") for number in (0, 1)]
nullable = [[field.nullable for field in shard.schema] for shard in shards]
print(duckdb.__version__, "with", pa.__version__, "- id and caption of each shard may hold nulls:", nullable)
if duckdb.__version__ == "1.5.6":
    assert nullable == [[True, True], [True, True]]
    sys.exit()
assert nullable == [[False, False], [False, True]]
whole = pq.read_table(folder)  # one folder, as one table
print("of the folder:", whole.schema.field("caption"), whole["caption"].to_pylist())
assert not whole.schema.field("caption").nullable and whole["caption"].null_count == 1
for name, action in {"joined": lambda: pa.concat_tables(shards), "written": lambda: pq.write_table(whole, folder / "one")}.items():
    try:
        action()
    except pa.ArrowInvalid as error:
        print(f"{name}: {str(error).splitlines()[0]}")
    else:
        sys.exit(f"{name}: this finding no longer holds")
assert pa.concat_tables(shards, promote_options="permissive").schema.field("caption").nullable  # what helps
P
for version in 1.5.6 2.0.0; do
  python3 -m venv "$work/$version-env"
  "$work/$version-env/bin/pip" install --quiet "duckdb==$version" pyarrow==25.0.1
  "$work/$version-env/bin/python" "$work/shards.py" "$work"
done
