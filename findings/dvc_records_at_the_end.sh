#!/usr/bin/env bash
# DVC 3.67.1 on Python 3.11, git 2.
# Guess: `dvc.lock` says of a stage what its code and settings were when it began, and out of which its outs were made.
# Seen:  DVC takes digests of dependencies and values of settings when the command has ended. A setting or a script that is
#        edited while a stage of hours runs is recorded as what made the result, and `dvc status` finds all up to date. Here
#        the stage wrote 1, by an older script, and dvc.lock says 2 and the newer script's digest.
# Here:  `pipelines/recorded.py`: a stage compares, when it ends, what it lists with what stood there when it began, and fails.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet dvc==3.67.1
export PATH="$work/env/bin:$PATH" DVC_NO_ANALYTICS=1
mkdir "$work/project"; cd "$work/project"
git init --quiet; dvc init --quiet
cat > train.py <<'P'
import time
from pathlib import Path

rate = Path("params.yaml").read_text().split()[1]
Path("begun").touch()
while not Path("go").exists():
    time.sleep(0.1)
Path("out").write_text(rate)
P
cat > dvc.yaml <<'Y'
stages:
  train:
    cmd: python train.py
    deps: [train.py]
    params: [rate]
    outs: [out]
Y
echo "rate: 1" > params.yaml
dvc repro > log 2>&1 & running=$!
until [ -e begun ]; do sleep 0.1; kill -0 $running; done
echo "rate: 2" > params.yaml; echo "# edited" >> train.py
touch go; wait $running
dvc --version; echo "the stage worked with $(cat out)"; cat dvc.lock; dvc status
[ "$(cat out)" = 1 ]
grep -q "rate: 2" dvc.lock
grep -q "$(md5sum < train.py | cut -d' ' -f1)" dvc.lock
dvc status | grep -q "up to date"
