#!/usr/bin/env bash
# img2dataset 1.47.0 (Pillow 12.0.0 only writes and reads the pictures) on Python 3.11.
# Guess: a JPEG whose EXIF tag says "turn me" is stored upright, or stored with its tag.
# Seen:  it is stored as it lies and without the tag, status `success`; only the column `exif` of the table still has the
#        orientation. Such pictures are trained on sideways, without a word.
# Here:  the workers decode with `caft.transforms.open_image` in the place of OpenCV (caft/data/crawl/seen.py).
set -euo pipefail
work=$(mktemp -d); trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet img2dataset==1.47.0 Pillow==12.0.0
export NO_ALBUMENTATIONS_UPDATE=1 WANDB_MODE=disabled
cd "$work" && mkdir web
env/bin/python - <<'P'
from PIL import Image

image = Image.new("RGB", (300, 200), "red")
image.paste("blue", (0, 0, 300, 40))  # a blue sky, on top as the file lies
exif = Image.Exif()
exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright: 200 x 300
image.save("web/turned.jpg", exif=exif)
P
port=$(env/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
env/bin/python -m http.server "$port" --bind 127.0.0.1 --directory web >/dev/null 2>&1 & server=$!
sleep 2
echo "http://127.0.0.1:$port/turned.jpg" > urls.txt
env/bin/img2dataset --url_list urls.txt --output_folder out --output_format files --resize_mode no --processes_count 1 \
  --thread_count 1 --enable_wandb False > log.txt 2>&1
env/bin/python - <<'P'
import json
from pathlib import Path

from PIL import Image

stored = Image.open("out/00000/000000000.jpg")
note = json.loads(Path("out/00000/000000000.json").read_text())
orientation = json.loads(note["exif"]).get("Image Orientation")
print(f"status {note['status']}; stored {stored.size} with EXIF {dict(stored.getexif())}; the table says: {orientation}")
assert note["status"] == "success" and stored.size == (300, 200) and not dict(stored.getexif())
assert orientation == "Rotated 90 CW"
P
