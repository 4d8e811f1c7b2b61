#!/usr/bin/env bash
# safetensors 0.8.0, numpy 2.3.5 on Python 3.11.
# Guess: equal tensors and equal metadata, given in the same order, are written as equal bytes.
# Seen:  the keys of the metadata come in another order each time: 20 files of eight keys are 20 different files. Without
#        metadata, or with one key, all are equal.
# Here:  a model's weights carry no metadata; its card is a file beside them, so that equal weights have one sha256.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet safetensors==0.8.0 numpy==2.3.5
"$work/env/bin/python" - <<'P'
import numpy as np
from safetensors.numpy import save

tensors = {"weight": np.zeros(3, np.float32)}
keys = ("licence", "settings", "model", "recipe", "data", "source", "name", "splitter")


def files(metadata):
    return len({save(tensors, metadata) for _ in range(20)})


found = files({key: "x" for key in keys}), files({"card": "x"}), files(None)
print(f"of 20 files, different ones: {found[0]} with eight keys, {found[1]} with one, {found[2]} without metadata")
assert found[0] > 10 and found[1:] == (1, 1)
P
