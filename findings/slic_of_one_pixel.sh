#!/usr/bin/env bash
# scikit-image 0.26.0, numpy 2.3.5 on Python 3.11.
# Guess: SLIC's superpixels are local: a pixel that changes moves labels near it at most; and `n_segments=196` gives about 196.
# Seen:  the picture is first stretched to its own darkest and lightest pixel, so one white pixel in a corner of a dull picture gives
#        other labels to most of its pixels, on the far side, too. And of a picture of fine noise one superpixel is left: small pieces are
#        joined until none is smaller than half a cell.
# Here:  SLIC is only compared with, on the rendered pictures (caft/eval/analysis/superpixel_methods.py); the model has its own.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet scikit-image==0.26.0 numpy==2.3.5
cat > "$work/pixel.py" <<'P'
import numpy as np
import skimage
from skimage.segmentation import slic

rng = np.random.default_rng(0)
coarse = rng.integers(20, 170, (8, 8, 3)).repeat(16, axis=0).repeat(16, axis=1)  # a dull picture, 128 x 128
dull = (coarse + rng.integers(-15, 16, coarse.shape)).clip(20, 170).astype(np.uint8)
marked = dull.copy()
marked[0, 0] = 255
moved = slic(dull, n_segments=64, start_label=0) != slic(marked, n_segments=64, start_label=0)
noise = rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
counts = {name: len(np.unique(slic(picture, n_segments=196))) for name, picture in {"flat": noise * 0 + 90, "noise": noise}.items()}
print(f"{skimage.__version__}: one white corner moves {moved.mean():.0%} of the labels, {moved[64:, 64:].mean():.0%} in the quarter")
print(f"that is farthest from it; of 196 superpixels asked for: {counts}")
assert moved[64:, 64:].mean() > 0.02 and counts["flat"] == 196 and counts["noise"] == 1
P
"$work/env/bin/python" "$work/pixel.py"
