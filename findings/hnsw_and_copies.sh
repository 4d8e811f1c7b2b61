#!/usr/bin/env bash
# faiss-cpu 1.15.1, usearch 2.26.6, numpy 2.3.5 on Python 3.11.
# Guess: copies in a gallery (a site's "no picture" image, say, a thousand times) waste room in an HNSW index, and harm nothing else: a
#        picture that is there once is found by its own feature.
# Seen:  the copies' links go to each other, and nodes whose neighbours are copies lead nowhere else. With a third of the gallery one
#        picture, a fifth of the *other* pictures in faiss, and one of fifteen in usearch, are not found by their own feature; eight
#        times as many candidates (`efSearch`, `expansion_search`) bring none of them back in faiss. Without the copies each is found.
# Here:  `caft search` is exact (caft/model/search.py), as are the scores; copies are to be left out before such an index is built.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet faiss-cpu==1.15.1 usearch==2.26.6 numpy==2.3.5
cat > "$work/copies.py" <<'P'
import faiss
import numpy as np
import usearch
from usearch.index import Index

rng = np.random.default_rng(0)
pictures = rng.standard_normal((2000, 64)).astype(np.float32)
pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)
placeholder, others = pictures[:1], pictures[1:]
missed = {}
for copies in (1, 1000):
    gallery = rng.permutation(np.concatenate([placeholder.repeat(copies, 0), others]))
    first = faiss.IndexHNSWFlat(64, 16, faiss.METRIC_INNER_PRODUCT)
    first.add(gallery)
    second = Index(ndim=64, metric="ip", dtype="f32", connectivity=16)
    second.add(np.arange(len(gallery)), gallery, threads=1)
    for looked_at in (64, 512):
        first.hnsw.efSearch = looked_at
        second.expansion_search = looked_at
        scores = {"faiss": first.search(others, 10)[0][:, 0], "usearch": 1 - second.search(others, 10, threads=1).distances[:, 0]}
        for name, best in scores.items():
            missed[name, copies, looked_at] = float(np.mean(best < 0.999))  # its own feature would give 1
print(f"faiss {faiss.__version__}, usearch {usearch.__version__}: other pictures that their own feature does not find, by copies of one")
print("picture and candidates looked at:", *(f"\n  {name} {share:.1%}" for name, share in missed.items()))
assert all(share < 0.01 for (_, copies, _), share in missed.items() if copies == 1)
assert missed["faiss", 1000, 64] > 0.1 < missed["faiss", 1000, 512] and missed["usearch", 1000, 64] > 0.03
P
OMP_NUM_THREADS=1 "$work/env/bin/python" "$work/copies.py"
