#!/usr/bin/env bash
# faiss-cpu 1.15.1, numpy 2.3.5 on Python 3.11.
# Guess: the first answer of `search(queries, k)` does not depend on k, so R@1 may be read off the first column of a search for ten;
#        and among equal scores the lowest number is first, as it is for distances.
# Seen:  of an inner-product index (`IndexFlatIP`) `search(q, 1)` gives the lowest of equal vectors, `search(q, k)` for any larger k
#        lists the highest of those first. A gallery that holds a picture twice has one R@1 for k = 1 and another for k = 10.
#        `IndexFlatL2` gives the lowest first for every k.
# Here:  scores of matches are compared with all others, and equal ones count against the match (caft/eval/scores/retrieval.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet faiss-cpu==1.15.1 numpy==2.3.5
cat > "$work/equals.py" <<'P'
import faiss
import numpy as np

pictures = np.random.default_rng(0).standard_normal((100, 64)).astype(np.float32)
pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)
gallery = np.concatenate([pictures, pictures])  # each twice: 0 and 100, 1 and 101, ...
found = {}
for index in (faiss.IndexFlatIP(64), faiss.IndexFlatL2(64)):
    index.add(gallery)
    first = {k: index.search(pictures, k)[1][:, 0] for k in (1, 2, 10)}
    found[type(index).__name__] = {k: f"{np.mean(numbers == np.arange(100)):.0%}" for k, numbers in first.items()}
print(faiss.__version__, "R@1 by k, where the first of the two is the match:", found)
assert found == {"IndexFlatIP": {1: "100%", 2: "0%", 10: "0%"}, "IndexFlatL2": {1: "100%", 2: "100%", 10: "100%"}}
P
OMP_NUM_THREADS=1 "$work/env/bin/python" "$work/equals.py"
