#!/usr/bin/env bash
# safetensors 0.7.0 and 0.8.0, numpy 2.3.5 on Python 3.11.
# Guess: `safetensors.numpy.save_file` writes an array as it reads, or refuses it, as `safetensors.torch` refuses what is not contiguous.
# Seen:  0.8.0 writes the memory from the array's start on, without a word, under the array's shape: transposed, reversed, with
#        some columns left out, or in Fortran's order, it is read back with other numbers, some of which stood outside of it. 0.7.0 is
#        right, and `np.ascontiguousarray` before it is enough.
# Here:  files are written by `safetensors.torch` alone, which refuses a tensor that is not contiguous.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
cat > "$work/views.py" <<'P'
import numpy as np
import safetensors
from safetensors.numpy import load, save

features = np.arange(6, dtype=np.float32).reshape(2, 3)
views = {
    "as it is": features,
    "some rows": features[1:],
    "transposed": features.T,
    "some columns": features[:, 1:],
    "reversed": features[::-1],
    "Fortran's order": np.asfortranarray(features),
}
wrong = [name for name, view in views.items() if not np.array_equal(load(save({"x": view}))["x"], view)]
print(f"{safetensors.__version__}: read back with other numbers: {', '.join(wrong) or 'none'}")
if wrong:
    print("  columns 1 and 2,", views["some columns"].tolist(), "come back as", load(save({"x": views["some columns"]}))["x"].tolist())
broken = safetensors.__version__ == "0.8.0"
assert wrong == (["transposed", "some columns", "reversed", "Fortran's order"] if broken else [])
P
for version in 0.7.0 0.8.0; do
  "$work/env/bin/pip" install --quiet "safetensors==$version" numpy==2.3.5
  "$work/env/bin/python" "$work/views.py"
done
