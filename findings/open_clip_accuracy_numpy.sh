#!/usr/bin/env bash
# open_clip_torch 3.3.0, numpy 2.3.5 and 2.4.6 on Python 3.11.
# Guess: open_clip's zero-shot evaluation (`open_clip_train.zero_shot`) runs with every numpy that it can be installed with; it
#        names no bound.
# Seen:  its `accuracy` calls `float` on an array of one number, of shape (1,). numpy 2.3 warns, numpy 2.4 raises TypeError
#        ("only 0-dimensional arrays can be converted to Python scalars") at the first batch, after the classifier is built.
# Here:  our own zero-shot score calls nothing of it; the test that runs open_clip's evaluation replaces that function.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --no-deps open_clip_torch==3.3.0
cat > "$work/accuracy.py" <<'P'
import sys
import warnings
from pathlib import Path

import numpy as np

# The file is read, not imported: the package imports torch and torchvision.
[path] = Path(sys.prefix).glob("lib/python*/site-packages/open_clip_train/zero_shot.py")
assert "float(correct[:k].reshape(-1).float().sum(0, keepdim=True).cpu().numpy())" in path.read_text()
hits = np.ones((5, 12), np.float32).reshape(-1).sum(0, keepdims=True)  # what numpy is given there
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
        seen = f"{float(hits):g}"
    except TypeError as error:
        seen = f"TypeError: {error}"
print(f"numpy {np.__version__}: float of shape {hits.shape} gives {seen}")
assert seen.startswith("TypeError") == (np.__version__ == "2.4.6")
P
for version in 2.3.5 2.4.6; do
  "$work/env/bin/pip" install --quiet "numpy==$version"
  "$work/env/bin/python" "$work/accuracy.py"
done
