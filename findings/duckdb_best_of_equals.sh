#!/usr/bin/env bash
# duckdb 2.0.0 on Python 3.11.
# Guess: `arg_max(id, score)` among equal scores is the first row that has it, or at least the same row each time: the order of rows is
#        kept (`preserve_insertion_order`), whatever the threads.
# Seen:  with one thread it is the first row. With four it is the first of whichever row group a thread came to first, so one query on
#        one file gives several answers on one machine, and so do the rows that GROUP BY keeps of duplicates by it. A second key
#        (`arg_max(id, (score, -id))`) has one answer.
# Here:  every order that decides what is kept ends in the number of the row (caft/data/crawl/counted.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet duckdb==2.0.0
cat > "$work/equals.py" <<'P'
import sys
from collections import Counter

import duckdb

path = f"{sys.argv[1]}/scores.parquet"
rows = "SELECT i AS id, CASE WHEN i % 7 = 3 THEN 1.0 ELSE 0.5 END AS score FROM range(1000000) AS numbers(i)"
duckdb.sql(f"COPY ({rows}) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 20480)")


def best(of, threads, times=100):
    duckdb.sql(f"SET threads = {threads}")
    return Counter(duckdb.sql(f"SELECT {of} FROM '{path}'").fetchall()[0][0] for _ in range(times))


alone, together = best("arg_max(id, score)", 1), best("arg_max(id, score)", 4)
told = best("arg_max(id, (score, -id))", 4)
print("the best of one thread:", dict(alone), "of four:", dict(together), "with a second key:", dict(told))
assert set(alone) == set(told) == {3} and len(together) > 1
assert all(number % 7 == 3 for number in together)
P
"$work/env/bin/python" "$work/equals.py" "$work"
