#!/usr/bin/env bash
# dvc 3.67.1 on Python 3.11.
# Guess: `dvc exp run -S launchers.a.slurm.partition=gpu` changes that value; where `launchers.b` shares the table by a
#        YAML anchor, at worst both change.
# Seen:  neither does. The experiment ends well, and params.yaml still says null: DVC writes the alias' own copy after the
#        changed one.
# Here:  params.yaml has no anchors; entries inherit by a key `base` (caft/params/file.py), and a test sets every key by
#        `-S` and reads it back.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet dvc==3.67.1
export PATH="$work/env/bin:$PATH" DVC_NO_ANALYTICS=1
mkdir "$work/project" && cd "$work/project"
git init --quiet . && git config user.name someone && git config user.email someone@example.org
dvc init --quiet
cat > params.yaml <<'Y'
launchers:
  a:
    slurm: &slurm
      partition: null
      hours: 4
  b:
    slurm: *slurm
Y
cat > dvc.yaml <<'Y'
stages:
  show:
    cmd: grep -A3 "  a:" params.yaml > seen.txt
    params: [launchers]
    outs:
      - seen.txt:
          cache: false
Y
git add -A && git commit --quiet -m start
dvc exp run --quiet -S launchers.a.slurm.partition=gpu
cat params.yaml
if grep -q gpu params.yaml; then echo "the value was written: this finding no longer holds" >&2; exit 1; fi
echo "partition was set to gpu, and is in no place of params.yaml"
