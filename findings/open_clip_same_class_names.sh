#!/usr/bin/env bash
# open_clip_torch 3.3.0 on Python 3.11.
# Guess: the 1,000 class names that zero-shot ImageNet is scored with (`IMAGENET_CLASSNAMES`) are different, so each image can be right.
# Seen:  two names stand there twice: missile (657 and 744) and sunglasses (836 and 837). Such classes have one text feature,
#        so of their images at most one class's can be right: a classifier that never errs reaches 99.8 % top-1, and which 0.2 %
#        it loses depends on how ties are ranked. With ties counted against the truth all four classes are lost.
# Here:  `caft.eval.scores.zero_shot` ranks classes of one name in their order, says how many there are, and a test has the case.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --no-deps open_clip_torch==3.3.0
cat > "$work/names.py" <<'P'
import ast
import sys
from pathlib import Path

# The file is read, not imported: the package imports torchvision.
[path] = Path(sys.prefix).glob("lib/python*/site-packages/open_clip/zero_shot_metadata.py")
[names] = [
    ast.literal_eval(node.value)
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.Assign) and node.targets[0].id == "IMAGENET_CLASSNAMES"
]
twice = {name: [place for place, other in enumerate(names) if other == name] for name in names if names.count(name) > 1}
print(len(names), "names, of which these stand there more than once:", twice)
assert len(names) == 1000 and twice == {"missile": [657, 744], "sunglasses": [836, 837]}
P
"$work/env/bin/python" "$work/names.py"
