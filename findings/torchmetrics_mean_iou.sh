#!/usr/bin/env bash
# torchmetrics 1.9.0, torch 2.13.0 (build for CPUs), numpy 2.4.6 on Python 3.11.
# Guess: `torchmetrics.segmentation.MeanIoU` is the mIoU of the field: intersections and unions of a class over the whole set, then the
#        mean over classes; `MulticlassJaccardIndex`, as mmsegmentation's and VOC's code, gives the same number.
# Seen:  it is a mean over all pairs of a picture and a class that is in its truth or its prediction. So one stray pixel of a third class
#        in each picture takes it to 0.66, where the field's mIoU is 0.998; the mean of its own `per_class` values is a third number,
#        0.73.
# Here:  mIoU is made of sums over the set (caft/eval/scores); tests compare with mmsegmentation and `MulticlassJaccardIndex`.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu numpy==2.4.6 torchmetrics==1.9.0
cat > "$work/mean.py" <<'P'
import torch
import torchmetrics
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.segmentation import MeanIoU

CLASSES, SIDE = 5, 32
truth = torch.empty(60, SIDE, SIDE, dtype=torch.long)
for number, picture in enumerate(truth):  # a left and a right half
    left, right = number % CLASSES, 0 if number % 2 else (number + 1) % CLASSES
    picture[:, : SIDE // 2], picture[:, SIDE // 2 :] = left, right
prediction = truth.clone()
for picture in prediction:
    picture[0, 0] = min(set(range(CLASSES)) - set(picture.unique().tolist()))  # one pixel of 1,024 is of a class that is not there
found = {}
for name, metric in {
    "MeanIoU": MeanIoU(CLASSES, input_format="index"),
    "mean of its classes": MeanIoU(CLASSES, input_format="index", per_class=True),
    "MulticlassJaccardIndex": MulticlassJaccardIndex(CLASSES),
}.items():
    for start in range(0, 60, 10):
        metric.update(prediction[start : start + 10], truth[start : start + 10])
    found[name] = round(metric.compute().mean().item(), 3)
sums = torch.stack([torch.bincount(CLASSES * truth.flatten() + prediction.flatten(), minlength=CLASSES**2)]).view(CLASSES, CLASSES)
found["by hand, over the set"] = round((sums.diag() / (sums.sum(0) + sums.sum(1) - sums.diag())).mean().item(), 3)
print(f"torchmetrics {torchmetrics.__version__}:", found)
assert found["MulticlassJaccardIndex"] == found["by hand, over the set"] > 0.95 and found["MeanIoU"] < 0.75
P
"$work/env/bin/python" "$work/mean.py"
