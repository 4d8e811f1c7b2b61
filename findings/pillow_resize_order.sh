#!/usr/bin/env bash
# Pillow 12.3.0 and 13.0.0 on Python 3.11.
# Guess: `Image.resize` gives the same pixels in both: the filters are unchanged, and both work in integers.
# Seen:  Pillow always resized along rows first; 13 begins with columns where the height shrinks and the width grows, or shrinks
#        much less. The values between the two passes are rounded and clipped to 0 to 255, so such pictures come out otherwise:
#        of a smooth one with some noise a quarter of the values by a level, of hard edges by up to thirty. Others are as
#        before. So a tall picture that is squashed to a square, as CLIP-like models do, depends on Pillow's version.
# Here:  Pillow's version is part of a training's name and of the locks. Crops of training are resized by torch, which goes
#        along rows first whatever Pillow does; evaluation, as published, by Pillow.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cat > "$work/resize.py" <<'P'
import random
import sys

import PIL
from PIL import Image

random.seed(0)
edges = Image.frombytes("L", (200, 260), bytes(random.choice((0, 255)) for _ in range(200 * 260)))
coarse = Image.frombytes("L", (9, 9), bytes(random.randrange(256) for _ in range(81))).resize((200, 260), Image.Resampling.BILINEAR)
smooth = Image.frombytes("L", (200, 260), bytes(min(255, max(0, v + round(random.gauss(0, 6)))) for v in coarse.tobytes()))
with open(sys.argv[1], "wb") as file:
    for picture in (edges, smooth, edges.transpose(Image.Transpose.TRANSPOSE)):
        file.write(picture.resize((224, 224), Image.Resampling.BICUBIC).tobytes())
print(PIL.__version__)
P
python3 -m venv "$work/old" && "$work/old/bin/pip" install --quiet pillow==12.3.0
python3 -m venv "$work/new" && "$work/new/bin/pip" install --quiet pillow==13.0.0
for one in old new; do
    "$work/$one/bin/python" "$work/resize.py" "$work/$one.raw"
done
python3 - "$work/old.raw" "$work/new.raw" <<'P'
import sys

old, new = (open(path, "rb").read() for path in sys.argv[1:])
size = 224 * 224
for place, name in enumerate(("tall, edges", "tall, smooth", "wide, edges")):
    differ = [abs(a - b) for a, b in zip(old[place * size : (place + 1) * size], new[place * size : (place + 1) * size])]
    print(f"{name}: {sum(map(bool, differ)) / size:.1%} of the values differ, by at most {max(differ)}")
    if name == "wide, edges":
        assert max(differ) == 0
    else:
        assert sum(map(bool, differ)) > size / 8, "no longer so"
    if name == "tall, edges":
        assert max(differ) > 16
P
