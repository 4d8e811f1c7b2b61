#!/usr/bin/env bash
# scikit-image 0.26.0, opencv-python-headless 4.14.0.94, numpy 2.3.5 on Python 3.11.
# Guess: Otsu's threshold of a map without contrast leaves an empty mask in both libraries, for bytes and for floats.
# Seen:  of a constant picture of bytes OpenCV's threshold is 0, so the mask is everything, scikit-image's is the value itself, so the mask is
#        nothing. Of float32 maps that span less than 256 steps of float32 (attention that is nearly even), scikit-image
#        ends in a ValueError; the same map in float64 is cut between its two values. So which library or type cuts a map decides between all,
#        nothing and an error, and IoUs of empty answers with it.
# Here:  maps are scaled to [0, 1] in float64 first; a constant one has no foreground (caft/model/otsu.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet scikit-image==0.26.0 opencv-python-headless==4.14.0.94 numpy==2.3.5
cat > "$work/flat.py" <<'P'
import cv2
import numpy as np
import skimage
from skimage.filters import threshold_otsu

constant = np.full((8, 8), 128, np.uint8)
threshold, mask = cv2.threshold(constant, 0, 255, cv2.THRESH_OTSU)
found = {"OpenCV": int((mask > 0).sum()), "scikit-image": int((constant > threshold_otsu(constant)).sum())}
print(f"OpenCV {cv2.__version__}, scikit-image {skimage.__version__}: foreground of 64 equal pixels: {found}, OpenCV's threshold {threshold}")
nearly = np.where(np.arange(64).reshape(8, 8) < 40, 0.5, 0.5 + 1e-6)
try:
    single = str(threshold_otsu(nearly.astype(np.float32)))
except ValueError as error:
    single = f"ValueError: {error}"
double = int((nearly > threshold_otsu(nearly)).sum())
print(f"two values a millionth apart: float64 has {double} pixels of foreground, float32: {single}")
assert found == {"OpenCV": 64, "scikit-image": 0} and double == 24 and single.startswith("ValueError")
P
"$work/env/bin/python" "$work/flat.py"
