#!/usr/bin/env bash
# peft 0.21.2, transformers 5.24.0, torch 2.13.0 (build for CPUs) on Python 3.11.
# Guess: LoRA on `out_proj` of `nn.MultiheadAttention`, the attention of open_clip's towers, trains that projection, as it does the
#        other linear layers that are named.
# Seen:  its parameters are made, counted and shown as trainable, but never read: attention takes the weight of the module and does not
#        call it. What LoRA learns there changes no output, and its gradient stays None. `target_modules` with the attention itself works.
# Here:  the model's attention calls its linear layers (caft/network/layers.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu numpy==2.4.6 \
  peft==0.21.2 transformers==5.24.0
cat > "$work/lora.py" <<'P'
import peft
import torch
from torch import nn

torch.manual_seed(0)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn, self.mlp = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 8)

    def forward(self, x):
        return self.mlp(self.attn(x, x, x)[0])


def read(*targets):
    """For each target whether its LoRA gets a gradient."""
    model = peft.get_peft_model(Block(), peft.LoraConfig(r=2, target_modules=list(targets), init_lora_weights=False))
    model(torch.randn(1, 3, 8)).sum().backward()
    trained = [(name, weight.grad) for name, weight in model.named_parameters() if "lora" in name and weight.requires_grad]
    return {target: [grad is not None for name, grad in trained if target in name] for target in targets}


found = read("out_proj", "mlp"), read("attn")
print(f"peft {peft.__version__}, torch {torch.__version__}: LoRA that gets a gradient:", *found)
assert found[0] == {"out_proj": [False, False], "mlp": [True, True]} and all(found[1]["attn"])
P
HF_HUB_OFFLINE=1 "$work/env/bin/python" "$work/lora.py"
