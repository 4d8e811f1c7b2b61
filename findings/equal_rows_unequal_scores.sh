#!/usr/bin/env bash
# numpy 2.4.6 (its wheel, with OpenBLAS) and torch 2.13.0 (build for CPUs, with MKL) on Python 3.11, x86-64 with AVX-512, one thread.
# Guess: a picture that is in a gallery twice gets the same score both times, since the product of a query with equal rows is the same sum.
# Seen:  columns at the end of a block are summed in another order. Of 100 copies of one feature OpenBLAS gives some another last bit,
#        so copies do not tie, a sort puts them in an order of its own, and a rule for ties never sees them; which copies,
#        depends on their number, that of the queries, the library and the processor. torch does so for fewer sizes.
# Here:  said in docs/behaviours.md: the count of tied queries beside a recall is the least, not all, where a set holds copies.
set -euo pipefail
grep -q avx512f /proc/cpuinfo || { echo "the numbers below are those of a processor with AVX-512" >&2; exit 1; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu numpy==2.4.6
cat > "$work/copies.py" <<'P'
import numpy as np
import torch

rng = np.random.default_rng(0)
queries = rng.standard_normal((1000, 512)).astype(np.float32)
feature = rng.standard_normal((1, 512)).astype(np.float32)
products = {
    f"numpy {np.__version__}": lambda a, b: a @ b.T,
    f"torch {torch.__version__}": lambda a, b: (torch.from_numpy(a) @ torch.from_numpy(b).T).numpy(),
}
for name, product in products.items():
    split = {}
    for copies in (7, 100, 128, 257, 1000):
        scores = product(queries, feature.repeat(copies, 0))
        split[copies] = f"{np.mean([len(set(row)) > 1 for row in scores.tolist()]):.0%}"
    print(f"{name}: queries to which the copies do not all score the same, by copies: {split}")
    assert any(share != "0%" for share in split.values()), "no longer so"
P
OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 "$work/env/bin/python" "$work/copies.py"
