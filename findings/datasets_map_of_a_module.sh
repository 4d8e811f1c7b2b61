#!/usr/bin/env bash
# datasets 5.2.0 on Python 3.11.
# Guess: `map` finds a result in its cache only if the function is the same: its hash, which datasets calls a fingerprint, covers the
#        code that is called.
# Seen:  of a function in a module it covers the name alone. After the module is edited (here: words are counted in the place of
#        characters) a new process takes the old numbers, without a word; so too for a lambda in the script that calls the module. If
#        the function stands in the script itself, an edit is seen. `load_from_cache_file=False` computes. (Open since 2021:
#        github.com/huggingface/datasets/issues/3297.)
# Here:  what is kept is named by digests of the code of all modules that are imported (caft/digests.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet datasets==5.2.0
export HF_HOME=$work/home HF_HUB_OFFLINE=1 PYTHONDONTWRITEBYTECODE=1
cd "$work"
cat > run.py <<'P'

import datasets
import features

datasets.disable_progress_bars()


def here(row):
    return {"length": len(row["caption"])}


captions = datasets.load_dataset("csv", data_files="captions.csv", split="train")
functions = {"module": features.length, "lambda": lambda row: features.length(row), "script": here}
lengths = [captions.map(function)[0]["length"] for function in functions.values()]
print(*lengths, captions.map(features.length, load_from_cache_file=False)[0]["length"])
P
printf 'caption\na dog runs\n' > captions.csv
printf 'def length(row):\n    return {"length": len(row["caption"])}\n' > features.py
env/bin/python run.py | tee first
sed -i 's/len(row\["caption"\])/len(row["caption"].split())/' features.py run.py
grep -q split features.py; grep -q split run.py
env/bin/python run.py | tee second
[ "$(cat first)" = "10 10 10 10" ]   # characters: of the module, by the lambda, of the script, without the cache
[ "$(cat second)" = "10 10 3 3" ]    # words, where the edit was seen
