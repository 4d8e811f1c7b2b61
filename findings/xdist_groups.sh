#!/usr/bin/env bash
# pytest-xdist 3.8.0 with pytest 9.2.0 on Python 3.11.
# Guess: with `--dist loadgroup`, tests marked `xdist_group("one")` all run in the same process.
# Seen:  they are spread over the processes, without a word: pytest 9.2 makes a test's id anew where xdist has written the
#        group into it, so no group is found. Fixtures that a group shares are made once in every process.
#        With pytest 8.4.2 the marks work.
# Here:  tests/conftest.py has a scheduler of its own (`pytest_xdist_make_scheduler`). Before, the run that the end-to-end tests
#        share was made twice, four minutes each.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cat > "$work/test_group.py" <<'P'
import os
import time

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(8))
def test_of_the_group(number):
    time.sleep(0.3)
    with open("processes.txt", "a") as file:
        file.write(os.environ["PYTEST_XDIST_WORKER"] + "\n")
P
for version in 8.4.2 9.2.0; do
  python3 -m venv --clear "$work/env"
  "$work/env/bin/pip" install --quiet "pytest==$version" pytest-xdist==3.8.0
  (cd "$work" && rm -f processes.txt && env/bin/python -m pytest -q -p no:cacheprovider -n 2 --dist loadgroup test_group.py >/dev/null)
  count=$(sort -u "$work/processes.txt" | wc -l)
  echo "pytest $version: the group ran in $count process(es)"
  expected=$([[ $version == 9.* ]] && echo 2 || echo 1)
  [[ $count == "$expected" ]] || { echo "this finding no longer holds" >&2; exit 1; }
done
