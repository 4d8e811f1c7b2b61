#!/usr/bin/env bash
# torch 2.13.0 (build for CPUs), numpy 2.4.6 on Python 3.11, x86-64.
# Guess: `torch.sqrt` gives the nearest number, as the standard of floating point asks of every square root and as numpy does;
#        or else MKL_CBWR=COMPATIBLE, under which MKL promises equal results on all processors, makes it alike everywhere.
# Seen:  with that setting, 3,376 of 20,000 float32 roots are not the nearest number on an AMD EPYC 9005, and 2,904 on an
#        Intel Haswell (emulated by QEMU 7.2), so the roots differ between processors; without it, 3,376 and none.
#        `pow` with 0.5 is the same function. numpy's are all the nearest.
# Here:  under `arithmetic: portable`, torch's square root is replaced by numpy's, and a test compares it with exact roots.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu numpy==2.4.6
cat > "$work/roots.py" <<'P'
import math

import numpy as np
import torch

values = torch.rand(20_000, generator=torch.Generator().manual_seed(0)) * 100
# A root in double precision, rounded once more, is the nearest single.
nearest = torch.tensor([math.sqrt(value) for value in values.tolist()], dtype=torch.float64).float()
wrong = {
    "torch.sqrt": int((values.sqrt() != nearest).sum()),
    "torch.pow(x, 0.5)": int((values.pow(0.5) != nearest).sum()),
    "numpy.sqrt": int((np.sqrt(values.numpy()) != nearest.numpy()).sum()),
}
print(torch.__version__, torch.backends.cpu.get_cpu_capability(), "not the nearest of 20,000:", wrong)
assert wrong["torch.sqrt"] == wrong["torch.pow(x, 0.5)"] > 0 and wrong["numpy.sqrt"] == 0
P
MKL_CBWR=COMPATIBLE "$work/env/bin/python" "$work/roots.py"
