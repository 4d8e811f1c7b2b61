#!/usr/bin/env bash
# torch 2.13.0 (build for CPUs) on Python 3.11.
# Guess: `F.normalize` and `F.cosine_similarity` of a row of zeros (a token that is padding, a segment that no pixel has) are zero in
#        every type: both have an `eps` against the division by zero.
# Seen:  in float32 and bfloat16 they are. In float16 the default `eps` of 1e-12 and 1e-8 are themselves rounded to 0, and the row
#        is NaN, which a model in `half` then spreads. With `eps=1e-6` it is zero.
# Here:  features are normalised in float32 (caft/network), and scores that are NaN are an error.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu numpy==2.4.6
cat > "$work/zeros.py" <<'P'
import torch
from torch.nn.functional import cosine_similarity, normalize

nan = {}
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    zeros = torch.zeros(1, 8, dtype=dtype)
    made = {"normalize": normalize(zeros), "with eps=1e-6": normalize(zeros, eps=1e-6), "cosine": cosine_similarity(zeros, zeros)}
    nan[str(dtype)] = [name for name, values in made.items() if values.isnan().any()]
print(torch.__version__, "NaN of a row of zeros:", nan)
assert nan == {"torch.float32": [], "torch.bfloat16": [], "torch.float16": ["normalize", "cosine"]}
P
"$work/env/bin/python" "$work/zeros.py"
