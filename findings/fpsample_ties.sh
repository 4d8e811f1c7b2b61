#!/usr/bin/env bash
# fpsample 1.0.2, numpy 2.3.5 on Python 3.11.
# Guess: farthest point sampling gives a tie to the lowest index, as numpy's and torch's argmax do.
# Seen:  `fps_sampling` gives ties to the highest index; on a regular grid, where ties are the rule, it picks other points
#        than any sampler built on argmax, from the second pick on.
# Here:  picks of caft's sampler are compared with the original module's and a plain loop, never with this package.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet fpsample==1.0.2 numpy==2.3.5
"$work/env/bin/python" - <<'P'
import fpsample
import numpy as np

# Five points on a line, asked from the middle: both ends are equally far.
points = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [4, 0, 0]], np.float32)
picks = fpsample.fps_sampling(points, 3, start_idx=2).tolist()
distances = ((points - points[2]) ** 2).sum(1)
print(f"fpsample picks {picks}; the first farthest of all is {int(distances.argmax())}")
assert picks[:2] == [2, 4] and int(distances.argmax()) == 0
P
