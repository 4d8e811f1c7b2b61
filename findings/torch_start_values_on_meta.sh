#!/usr/bin/env bash
# torch 2.13.0 (build for CPUs) on Python 3.11.
# Guess: a module that is built on the device `meta`, which has shapes and no numbers, costs next to nothing: its start values are
#        never computed, so their functions do nothing.
# Seen:  `nn.Linear`, whose values are uniform, is free, `nn.init.trunc_normal_` too; `nn.init.normal_` and `torch.eye` there import
#        torch's compiler (`torch._dynamo`) and sympy, some 800 modules: on the machine at hand most of a second and 80 MB, in every
#        process that builds a transformer's embeddings so before it loads weights into it.
# Here:  `caft.weights.load` leaves the start values out; a test sees that neither is imported.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu numpy==2.4.6
cat > "$work/meta.py" <<'P'
import sys
import time

import torch
from torch import nn

made = {
    "nothing": lambda: None,
    "nn.Linear": lambda: nn.Linear(8, 8, device="meta"),
    "normal_": lambda: nn.init.normal_(torch.empty(8, device="meta")),
    "trunc_normal_": lambda: nn.init.trunc_normal_(torch.empty(8, device="meta")),
    "eye": lambda: torch.eye(8, device="meta"),
}
before, start = len(sys.modules), time.perf_counter()
made[sys.argv[1]]()
loaded = "torch._dynamo" in sys.modules and "sympy" in sys.modules
print(f"{sys.argv[1]:14} {time.perf_counter() - start:.2f} s, {len(sys.modules) - before} more modules, compiler: {loaded}")
sys.exit(loaded != (sys.argv[2] == "loads"))
P
for name in nothing nn.Linear trunc_normal_; do "$work/env/bin/python" "$work/meta.py" "$name" free; done
for name in normal_ eye; do "$work/env/bin/python" "$work/meta.py" "$name" loads; done
