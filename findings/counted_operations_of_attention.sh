#!/usr/bin/env bash
# torch 2.13.0 (build for CPUs), fvcore 0.1.5.post20221221, thop 0.1.1.post2209072238 on Python 3.11.
# Guess: counters of operations agree on a layer of attention, but for the factor of two between a multiplication with its addition and
#        two operations; and torch's own count does not depend on where the tensors are.
# Seen:  on a CPU torch's counter leaves the products of queries with keys and of weights with values out, which it has on "meta" (and
#        on a GPU); fvcore leaves them out everywhere and says so in a warning; thop counts nothing at all of `nn.MultiheadAttention`.
# Here:  counted on tensors without numbers, with the plain attention, and compared with sums by hand (caft/train/cost.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu numpy==2.4.6 \
  fvcore==0.1.5.post20221221 thop==0.1.1.post2209072238
cat > "$work/count.py" <<'P'
import logging

import thop
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

logging.disable(logging.WARNING)
LENGTH, WIDTH = 197, 192


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 3, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


projections, products = 4 * LENGTH * WIDTH**2, 2 * LENGTH**2 * WIDTH  # multiplications
found = {}
with torch.no_grad():
    for device in ("cpu", "meta"):
        with torch.device(device):
            layer, x = Layer().train(), torch.zeros(1, LENGTH, WIDTH)
        with FlopCounterMode(display=False) as counter:
            layer(x)
        found[f"torch, {device}"] = counter.get_total_flops() // 2
    layer, x = Layer().train(), torch.zeros(1, LENGTH, WIDTH)
    found["fvcore"] = int(FlopCountAnalysis(layer, x).total())
    found["thop"] = int(thop.profile(layer, inputs=(x,), verbose=False)[0])
print(torch.__version__, "by hand", projections + products, "without the products", projections, "counted", found)
assert found == {"torch, cpu": projections, "torch, meta": projections + products, "fvcore": projections, "thop": 0}
P
"$work/env/bin/python" "$work/count.py"
