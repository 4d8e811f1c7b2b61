#!/usr/bin/env bash
# supervision 0.31.2, pycocotools 2.0.11, numpy 2.3.5 on Python 3.11.
# Guess: the box of a mask is the same everywhere: from its first to behind its last column and row, as `x2 - x1` is its width.
# Seen:  `mask_to_xyxy` ends at the last pixel, where `x2 - x1` is one too little; COCO's `toBbox` ends behind it. Of a mask of 4 x 4
#        pixels the two boxes have an IoU of 0.56, of 2 x 2 one of 0.25; a box is smaller than its own mask, and one pixel's is empty,
#        with an IoU of 0 with itself. So a segment that is right is counted wrong at IoU 0.5 where it is small.
# Here:  boxes are x, y, width and height with the last pixel in them (caft/data/scenes/sets.py), as COCO's.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet supervision==0.31.2 pycocotools==2.0.11 numpy==2.3.5
cat > "$work/boxes.py" <<'P'
import numpy as np
import supervision as sv
from pycocotools import mask as coco

seen = {}
for side in (1, 2, 4, 32):
    mask = np.zeros((1, 100, 100), bool)
    mask[0, 10 : 10 + side, 20 : 20 + side] = True
    x, y, width, height = coco.toBbox(coco.encode(np.asfortranarray(mask[0].astype(np.uint8))))
    theirs, box = np.array([[x, y, x + width, y + height]]), sv.mask_to_xyxy(mask).astype(float)
    area = sv.Detections(xyxy=box).box_area[0]
    seen[side] = tuple(round(float(v), 2) for v in (area, width * height, sv.box_iou_batch(box, theirs)[0, 0], sv.box_iou_batch(box, box)[0, 0]))
print(f"supervision {sv.__version__}, of squares by their side: area by supervision, by COCO, IoU of the two boxes, of the first with itself:")
print(seen)
assert seen == {1: (0, 1, 0, 0), 2: (1, 4, 0.25, 1), 4: (9, 16, 0.56, 1), 32: (961, 1024, 0.94, 1)}
P
"$work/env/bin/python" "$work/boxes.py" 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
