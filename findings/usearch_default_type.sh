#!/usr/bin/env bash
# usearch 2.26.6, numpy 2.3.5 on Python 3.11.
# Guess: an index of float32 vectors holds float32, and `exact=True` gives the best by the exact scores.
# Seen:  by default it holds bfloat16 where the processor has fast products of them (float16 or float32 where not): `exact=True` means that
#        all are compared, by eight bits of each number. Of 1,000 pictures that are alike, as frames of a film, 1 % are their own nearest;
#        with `dtype="f32"` all are.
# Here:  `caft search` and the scores compare all features in float32.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet usearch==2.26.6 numpy==2.3.5
cat > "$work/alike.py" <<'P'
import numpy as np
import usearch
from usearch.index import Index

rng = np.random.default_rng(0)
pictures = rng.standard_normal((1, 64)) + 0.01 * rng.standard_normal((1000, 64))  # as frames of one film are
pictures = (pictures / np.linalg.norm(pictures, axis=1, keepdims=True)).astype(np.float32)
itself = {}
for dtype in (None, "f32"):
    index = Index(ndim=64, metric="ip", dtype=dtype)
    index.add(np.arange(1000), pictures)
    nearest = index.search(pictures, 1, exact=True).keys[:, 0]
    itself[str(index.dtype)] = float(np.mean(nearest == np.arange(1000)))
exact = float(np.mean((pictures @ pictures.T).argmax(1) == np.arange(1000)))
print(f"{usearch.__version__}: pictures that are their own nearest, by the index' type: {itself}; numpy in float32: {exact}")
assert itself["ScalarKind.F32"] > 0.99 and exact > 0.99 and itself["ScalarKind.BF16"] < 0.1
P
"$work/env/bin/python" "$work/alike.py"
