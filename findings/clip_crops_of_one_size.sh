#!/usr/bin/env bash
# transformers 5.24.0, torchvision 0.28.0, torch 2.13.0 (build for CPUs), Pillow 13.0.0, numpy 2.4.6 on Python 3.11.
# Guess: `CLIPImageProcessor` gives the pixels of CLIP's own transform, as open_clip has it (torchvision's `Resize`, `CenterCrop`), to
#        within a level or two: both take the middle of the same resized picture.
# Seen:  for most sizes they do, with `CLIPImageProcessorPil` to the last level. But where an odd number of rows is left over, half a row
#        is rounded to an even number by torchvision and down by transformers: of 640 x 427, the size of COCO's pictures of 3 to 2, the
#        crop lies one pixel further left, and each pixel is its neighbour. The same weights see other pictures in the two.
# Here:  pixels are made by one transform of ours; where its crop differs from torchvision's, docs/peers.md says it.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu numpy==2.4.6 \
  pillow==13.0.0 transformers==5.24.0
"$work/env/bin/pip" install --quiet --no-deps torchvision==0.28.0
cat > "$work/crops.py" <<'P'
import numpy as np
import torch
from PIL import Image

if torch.version.cuda is None:  # torchvision's wheel on PyPI is for CUDA: beside this torch it needs the names of operators, not called here
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import torchvision
import transformers
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

clip = Compose([Resize(224, interpolation=InterpolationMode.BICUBIC), CenterCrop(224)])
processor = CLIPImageProcessorPil(do_rescale=False, do_normalize=False)
rng, differ = np.random.default_rng(0), {}
for size in ((640, 480), (500, 375), (500, 333), (640, 427), (427, 640)):
    picture = Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    theirs = np.asarray(processor(picture, return_tensors="np")["pixel_values"][0]).transpose(1, 2, 0)
    ours = np.asarray(clip(picture))
    moved = max((0, -1, 1), key=lambda step: (np.roll(theirs, step, 1 if size[0] > size[1] else 0)[2:-2, 2:-2] == ours[2:-2, 2:-2]).mean())
    differ[size] = f"{np.mean(theirs != ours):.0%}", moved
print(f"transformers {transformers.__version__}, torchvision {torchvision.__version__}: pixels that differ, and the step that makes them equal:")
print(differ)
assert all(differ[size] == ("0%", 0) for size in ((640, 480), (500, 375), (500, 333)))
assert all(differ[size][1] == -1 and differ[size][0] != "0%" for size in ((640, 427), (427, 640)))
P
HF_HUB_OFFLINE=1 "$work/env/bin/python" "$work/crops.py"
