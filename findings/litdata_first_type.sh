#!/usr/bin/env bash
# litdata 0.2.76, torch 2.13.0 (build for CPUs), Pillow 12.0.0 on Python 3.11. (torchvision, with which litdata reads pictures, is not
# needed for this.)
# Guess: a tensor is read with the type with which it was written, or one of another type than the first is refused; and a JPEG that was
#        opened, painted over and made smaller in place is stored as it then is.
# Seen:  tensors of one axis, as token ids and scores are, stand in the chunks without their type, and all are read as the first one's:
#        after one of 64-bit integers, the 32-bit integers 4 and 5 are read as one number, 21474836484; after one in float32, 1.0 and
#        2.0 in float64 are four numbers. No error, no warning. And of a JPEG the file that it was opened from is stored, in full size
#        and with what was painted over.
# Here:  each array of the index has one type, and what is written is cast to it (caft/data/training/index.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu numpy==2.4.6 Pillow==12.0.0 \
  lightning-utilities==0.15.3 filelock==4.3.1 boto3==1.44.8 requests==2.34.2 tifffile==2026.3.3 obstore==0.12.1
"$work/env/bin/pip" install --quiet --no-deps litdata==0.2.76
export DATA_OPTIMIZER_CACHE_FOLDER=$work/cache DATA_OPTIMIZER_DATA_CACHE_FOLDER=$work/data
cd "$work"
cat > first.py <<'P'
from pathlib import Path

import litdata
import torch
from PIL import Image

IDS = torch.tensor([1, 2, 3]), torch.tensor([4, 5], dtype=torch.int32)
SCORES = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0], dtype=torch.float64)


def edited(number):
    """The photo without its left half, 150 x 100."""
    image = Image.open("photo.jpg")
    image.paste("black", (0, 0, 150, 200))
    image.thumbnail((150, 100))
    return {"image": image}


def ids(number):
    return {"tensor": IDS[number]}


def scores(number):
    return {"tensor": SCORES[number]}


if __name__ == "__main__":
    Image.radial_gradient("L").resize((300, 200)).convert("RGB").save("photo.jpg")
    for write, given in ((ids, IDS), (scores, SCORES)):
        litdata.optimize(write, [0, 1], output_dir=write.__name__, chunk_bytes="1MB", num_workers=1)
        read = [sample["tensor"] for sample in litdata.StreamingDataset(write.__name__)]
        print("given", [(tensor.dtype, tensor.tolist()) for tensor in given], "read", [(tensor.dtype, tensor.tolist()) for tensor in read])
        assert read[0].equal(given[0]) and read[1].dtype == given[0].dtype != given[1].dtype
        assert read[1].equal(given[1].view(given[0].dtype)) and read[1].tolist() != given[1].tolist()
    litdata.optimize(edited, [0], output_dir="pictures", chunk_bytes="1MB", num_workers=1)
    (chunk,) = Path("pictures").glob("*.bin")
    assert edited(0)["image"].size == (150, 100)
    print("the file before it was edited is in the chunk:", Path("photo.jpg").read_bytes() in chunk.read_bytes())
    assert Path("photo.jpg").read_bytes() in chunk.read_bytes()
P
env/bin/python first.py
