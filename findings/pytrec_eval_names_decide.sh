#!/usr/bin/env bash
# pytrec-eval-terrier 0.5.11 on Python 3.11.
# Guess: scores are compared as the Python floats they are, and equal ones stand in the order given.
# Seen:  they are rounded to float32 first, so what differs by less than 6e-8 is a tie; and a tie goes to the name that is last by the
#        alphabet: "9" before "10". A match that has the highest score is not retrieved beside one whose name is later, and a model
#        that gives one score to all finds exactly the matches with the last names.
# Here:  ties count against the match, in the precision in which the scores were made (caft/eval/scores/retrieval.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet pytrec-eval-terrier==0.5.11
cat > "$work/names.py" <<'P'
from importlib.metadata import version

import pytrec_eval


def recall(match, scores):
    """R@1 of one query with one match."""
    return pytrec_eval.RelevanceEvaluator({"q": {match: 1}}, {"recall.1"}).evaluate({"q": scores})["q"]["recall_1"]


print(version("pytrec-eval-terrier"), "R@1, where the match alone has the highest score:")
highest = {step: recall("b", {"b": 0.9 + step, "c": 0.9}) for step in (1e-6, 1e-9)}
print("  by", highest)
assert highest == {1e-6: 1, 1e-9: 0} and recall("b", {"a": 0.9, "b": 0.9 + 1e-9}) == 1
names = [str(number) for number in range(20)]
found = [name for name in names if recall(name, dict.fromkeys(names, 0.5))]
print("with one score for all 20, only this match is found:", found)
assert found == ["9"] and recall("10", {"9": 0.5, "10": 0.5}) == 0
P
"$work/env/bin/python" "$work/names.py"
