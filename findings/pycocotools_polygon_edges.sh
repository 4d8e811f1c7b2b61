#!/usr/bin/env bash
# pycocotools 2.0.11, numpy 2.3.5, Pillow 12.0.0 on Python 3.11.
# Guess: two common ways to fill COCO's polygon (10,10) (20,10) (20,20) (10,20) give the same pixels.
# Seen:  the COCO API fills 100 pixels, Pillow's ImageDraw 121: Pillow counts the outline on all sides, the API on two.
#        On small objects this moves an IoU by several points, so scores with masks drawn by Pillow cannot be compared
#        with published ones.
# Here:  polygons are drawn by pycocotools (caft/data/sets/masks.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet pycocotools==2.0.11 numpy==2.3.5 Pillow==12.0.0
"$work/env/bin/python" - <<'P'
import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask

square = [10, 10, 20, 10, 20, 20, 10, 20]
coco = mask.decode(mask.frPyObjects([square], 40, 40))[..., 0].astype(bool)
canvas = Image.new("1", (40, 40))
ImageDraw.Draw(canvas).polygon(square, fill=1, outline=1)
pillow = np.asarray(canvas)
print(f"COCO API: {coco.sum()} pixels; Pillow: {pillow.sum()}; IoU of the two: {(coco & pillow).sum() / (coco | pillow).sum():.3f}")
assert coco.sum() == 100 and pillow.sum() == 121
P
