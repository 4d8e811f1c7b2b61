#!/usr/bin/env bash
# duckdb 2.0.0 on Python 3.11.
# Guess: `WHERE lost IS NULL USING SAMPLE 10 ROWS`, in the order in which it must be written, gives ten of the rows that the
#        condition keeps; and `USING SAMPLE 10%` of 1,000 rows gives about a hundred.
# Seen:  the sample is drawn first and the condition is asked of the ten drawn: where a fifth of the rows pass, about two are left. A
#        per cent is of blocks of 2,048 rows: of a table of 1,000 rows nothing nine times of ten, else all. Both stand in DuckDB's pages
#        on SAMPLE. A subquery, and `10% (bernoulli)` or `reservoir(10%)`, give what was meant.
# Here:  a list of addresses is in the order of their hashes, so its first rows are a sample (caft/data/crawl/listing.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet duckdb==2.0.0
cat > "$work/sample.py" <<'P'
import duckdb

duckdb.sql("CREATE TABLE pictures AS SELECT i AS id, CASE WHEN i % 5 != 0 THEN 'gone' END AS lost FROM range(1000) AS numbers(i)")


def counts(query, seeds=40):
    """Of one query, how many rows each of these seeds gives."""
    return [len(duckdb.sql(query.format(seed)).fetchall()) for seed in range(1, seeds + 1)]


ten = counts("FROM pictures WHERE lost IS NULL USING SAMPLE reservoir(10 ROWS) REPEATABLE ({})")
meant = counts("FROM (FROM pictures WHERE lost IS NULL) USING SAMPLE reservoir(10 ROWS) REPEATABLE ({})")
tenth = counts("FROM pictures USING SAMPLE 10% (system, {})")
each = counts("FROM pictures USING SAMPLE 10% (bernoulli, {})")
print("ten rows, of those with a condition:", ten)
print("ten rows of a subquery:", meant)
print("ten per cent of 1,000 rows:", tenth)
print("the same, bernoulli:", each)
assert sum(ten) / len(ten) < 4 and set(meant) == {10}
assert set(tenth) == {0, 1000} and 60 < min(each) <= max(each) < 140
P
"$work/env/bin/python" "$work/sample.py"
