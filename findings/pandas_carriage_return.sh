#!/usr/bin/env bash
# pandas 2.3.3 on Python 3.11, Linux.
# Guess: `read_csv` of what `to_csv` wrote has the same rows, whatever a text holds: line breaks are quoted.
# Seen:  "\n" is quoted, a lone "\r" is not (it is no part of Linux' line end, which is what pandas tells Python's csv module),
#        and `read_csv` takes it for the end of a row: the row of a caption from the web that has one is broken into two, without a word.
#        polars 2.1.0 and DuckDB 2.0.0 quote it, and so does pandas with `lineterminator="\r\n"`.
# Here:  our reader takes a lone "\r" for a part of its field; a test has such a table.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet pandas==2.3.3 numpy==2.3.5
cat > "$work/returns.py" <<'P'
import io

import pandas as pd

table = pd.DataFrame({"url": ["http://a/1", "http://a/2"], "caption": ["A red\rtruck.", "A dog."]})
rows = {}
for name, options in {"default": {}, 'lineterminator="\\r\\n"': {"lineterminator": "\r\n"}}.items():
    text = table.to_csv(index=False, **options)
    back = pd.read_csv(io.BytesIO(text.encode()))
    rows[name] = len(back)
    print(f"pandas {pd.__version__}, {name}: {text!r} is read back as {back.values.tolist()}")
assert rows == {"default": 3, 'lineterminator="\\r\\n"': 2}
P
"$work/env/bin/python" "$work/returns.py"
