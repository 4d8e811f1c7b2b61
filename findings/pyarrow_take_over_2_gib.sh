#!/usr/bin/env bash
# pyarrow 25.0.1, numpy 2.3.5 on Python 3.11; needs 1 GB of memory.
# Guess: three rows are taken from a table of any size, as long as they fit.
# Seen:  of a column of `string` with more than 2 GiB, which CC3M's captions are three times over, `take` of three rows, `sort_by` and
#        `combine_chunks` end in "offset overflow while concatenating arrays": they join all chunks first. `filter` and a join do not.
#        As `large_string` all work.
# Here:  no table holds more captions than those of one shard; rows are joined by DuckDB.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet pyarrow==25.0.1 numpy==2.3.5
cat > "$work/take.py" <<'P'
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

chunk = pa.array(["x" * 1000] * 100_000)  # 100 MB, taken 22 times over
column = pa.chunked_array([chunk] * 22)
table = pa.table({"caption": column, "number": np.arange(len(column))})
ways = {
    "take of three": lambda: table.take(pa.array([0, 5, len(table) - 1])),
    "sort_by": lambda: table.sort_by("number"),
    "combine_chunks": lambda: column.combine_chunks(),
    "filter to three": lambda: table.filter(pc.less(table["number"], 3)),
    "join with three": lambda: table.join(pa.table({"number": [0, 5, 7]}), "number", join_type="inner"),
}
overflow = []
for name, way in ways.items():
    try:
        way()
    except pa.ArrowInvalid as error:
        assert "offset overflow" in str(error)
        overflow.append(name)
print(f"{pa.__version__}: of {column.nbytes / 2**30:.2f} GiB of captions these overflow: {overflow}")
assert overflow == ["take of three", "sort_by", "combine_chunks"]
P
"$work/env/bin/python" "$work/take.py"
