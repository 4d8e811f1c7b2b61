#!/usr/bin/env bash
# torch 2.13.0 (build for CPUs) on Python 3.11.
# Guess: to `torch.export`, `len(x)` and `x.shape[0]` are the same number, so a model that repeats a class token by `len(x)` keeps
#        its batch open where dynamic_shapes says so.
# Seen:  without strict=True, which is the default, `len(x)` is the number of the example. With Dim("batch") or Dim.DYNAMIC that is an
#        error; with Dim.AUTO, which leaves it to the exporter, the export succeeds and the program refuses any other batch.
# Here:  what an export traces asks for `shape[0]` (caft/export/forms.py), and tests run batches of one, two and five.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu numpy==2.4.6
cat > "$work/length.py" <<'P'
import torch
from torch.export import Dim, export


class Token(torch.nn.Module):
    def __init__(self, by_len):
        super().__init__()
        self.cls, self.by_len = torch.nn.Parameter(torch.zeros(1, 1, 4)), by_len

    def forward(self, x):
        rows = len(x) if self.by_len else x.shape[0]
        return torch.cat([self.cls.expand(rows, -1, -1), x], dim=1)


def outcome(by_len, strict, size):
    try:
        program = export(Token(by_len), (torch.zeros(2, 3, 4),), dynamic_shapes={"x": {0: size}}, strict=strict)
    except Exception as error:
        return f"no program: {type(error).__name__}"
    try:
        return f"batch of five: {tuple(program.module()(torch.zeros(5, 3, 4)).shape)}"
    except Exception as error:
        return f"batch of five refused: {error}".splitlines()[0]


found = {}
for by_len in (False, True):
    for strict in (False, True):
        for name, size in {"Dim": Dim("batch"), "Dim.DYNAMIC": Dim.DYNAMIC, "Dim.AUTO": Dim.AUTO}.items():
            found[by_len, strict, name] = outcome(by_len, strict, size)
            print("len(x)    " if by_len else "x.shape[0]", f"strict={strict!s:5} {name:11}", found[by_len, strict, name])
print(torch.__version__)
wrong = {key: one for key, one in found.items() if not one.startswith("batch of five: (5, 4, 4)")}
assert set(wrong) == {(True, False, name) for name in ("Dim", "Dim.DYNAMIC", "Dim.AUTO")}
assert wrong[True, False, "Dim.AUTO"].startswith("batch of five refused")
P
"$work/env/bin/python" "$work/length.py" 2> /dev/null
