#!/usr/bin/env bash
# scikit-learn 1.9.1, numpy 2.3.5 on Python 3.11.
# Guess: `top_k_accuracy_score` with k = 1 is `accuracy_score` of the argmax; a tie goes to the lowest class in both.
# Seen:  a tie goes to the highest class. Where two classes have one name (as in ImageNet's names) or a batch of scores is constant,
#        top-1 is another number than the accuracy of the argmax, and of a constant model the last k classes are all right.
# Here:  classes of one name are ranked in their order, all other ties count against the truth (caft/eval/scores/zero_shot.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet scikit-learn==1.9.1 numpy==2.3.5
cat > "$work/ties.py" <<'P'
import numpy as np
import sklearn
from sklearn.metrics import accuracy_score, top_k_accuracy_score

# Classes 1 and 2 have one name, so one text and one score; the pictures are of class 1.
scores, truth, classes = np.tile([0.1, 0.9, 0.9, 0.2], (10, 1)), np.ones(10, int), np.arange(4)
top, argmax = top_k_accuracy_score(truth, scores, k=1, labels=classes), accuracy_score(truth, scores.argmax(1))
constant = [c for c in range(100) if top_k_accuracy_score([c], np.zeros((1, 100)), k=5, labels=np.arange(100))]
print(f"{sklearn.__version__}: top-1 {top:.0%}, accuracy of the argmax {argmax:.0%}; of a constant model right in 5: {constant}")
assert (top, argmax) == (0, 1) and constant == [95, 96, 97, 98, 99]
P
"$work/env/bin/python" "$work/ties.py"
