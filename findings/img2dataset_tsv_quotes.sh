#!/usr/bin/env bash
# img2dataset 1.47.0 (its reader alone), pyarrow 25.0.1 on Python 3.11.
# Guess: in a TSV a caption ends at the tab, as in the lists that CC3M and CC12M are published as, in which nothing is quoted.
# Seen:  `input_format="tsv"` reads quotes as of a CSV. A caption that begins with one and has no second takes the rows behind it, up to
#        the next quote at the end of a field, into itself: their addresses are never asked for, and nothing counts them. A caption
#        between two quotes loses both. What comes in as Parquet is read as it is.
# Here:  img2dataset gets its lists as Parquet (caft/data/crawl/listing.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet pyarrow==25.0.1 pandas==2.3.3 numpy==2.3.5 fsspec==2026.9.0
"$work/env/bin/pip" install --quiet --no-deps img2dataset==1.47.0
cat > "$work/quotes.py" <<'P'
import importlib.util
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

package = Path(importlib.util.find_spec("img2dataset").origin).parent  # the package itself imports torch and OpenCV
spec = importlib.util.spec_from_file_location("reader", package / "reader.py")
reader = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reader)

work = Path(sys.argv[1])
captions = ["a red bus", '" wait here " says the sign', '"no entry', "a dog", "a cat", "an owl", 'a screen of 24"', "the end"]
rows = [(caption, f"https://example.org/{number}.jpg") for number, caption in enumerate(captions)]
(work / "list.tsv").write_text("caption\turl\n" + "".join(f"{caption}\t{url}\n" for caption, url in rows))
pq.write_table(pa.table({"caption": captions, "url": [url for _, url in rows]}), work / "list.parquet")
read = {}
for kind in ("tsv", "parquet"):
    shards = reader.Reader(str(work / f"list.{kind}"), kind, "url", "caption", None, None, None, 100, set(), str(work))
    read[kind] = []
    for _, shard in shards:
        read[kind] += [tuple(row[name] for name in ("caption", "url")) for row in pa.ipc.open_file(shard).read_all().to_pylist()]
    print(f"{kind}: {len(read[kind])} of {len(rows)} rows")
for row in read["tsv"]:
    print(row)
assert read["parquet"] == rows
assert read["tsv"][:2] == [rows[0], (" wait here  says the sign", rows[1][1])]
assert len(read["tsv"]) < len(rows) and "a dog" not in [caption for caption, _ in read["tsv"]]
P
"$work/env/bin/python" "$work/quotes.py" "$work"
