#!/usr/bin/env bash
# pycocotools 2.0.11, numpy 2.3.5 on Python 3.11.
# Guess: masks of two sizes (height and width exchanged, or a mask of the resized picture) are an error when they are compared or joined.
# Seen:  `iou` is -1, which goes into a mean IoU as a number, and `merge` is a mask of 0 x 0 pixels. Only `decode` of both is an error.
# Here:  a mask's size is compared with its picture's before anything is made of it (caft/data/sets/masks.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet pycocotools==2.0.11 numpy==2.3.5
"$work/env/bin/python" - <<'P'
import numpy as np
from pycocotools import mask

wide, tall = (mask.encode(np.ones(size, np.uint8, order="F")) for size in ((5, 8), (8, 5)))
iou, joined = mask.iou([wide], [tall], [0]).item(), mask.merge([wide, tall])
print(f"of 5 x 8 and 8 x 5 pixels: IoU {iou:g}, joined {joined}")
assert iou == -1 and joined == {"size": [0, 0], "counts": b""}
P
