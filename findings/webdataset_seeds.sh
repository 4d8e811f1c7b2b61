#!/usr/bin/env bash
# webdataset 1.0.2, numpy 2.3.5 on Python 3.11.
# Guess: `WebDataset(tar, seed=5).shuffle(100)` gives the samples in the same order in each run; or at least it follows the seeds of
#        Python and numpy.
# Seen:  `seed=` reaches the order of shards alone, and the shuffle of samples takes its seed from clock and process: no two runs are
#        alike, whatever else is seeded. `shuffle(100, seed=5)` is alike in each run.
# Here:  the order of rows is drawn from seed and epoch (caft/data/training/batch.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet webdataset==1.0.2 numpy==2.3.5
cat > "$work/order.py" <<'P'
import random
import sys
from pathlib import Path

import numpy as np
import webdataset

tar = str(Path(sys.argv[1]) / "a.tar")
names = [f"{number:03}" for number in range(50)]
with webdataset.TarWriter(tar) as writer:
    for name in names:
        writer.write({"__key__": name, "txt": "a caption"})


def alike(of_set, of_shuffle):
    """Whether two data sets, made and read in the same way, give one order."""
    orders = []
    for _ in range(2):
        random.seed(0)
        np.random.seed(0)
        samples = webdataset.WebDataset(tar, shardshuffle=False, **of_set).shuffle(100, **of_shuffle)
        orders.append([sample["__key__"] for sample in samples])
    assert all(sorted(order) == names for order in orders)
    return orders[0] == orders[1]


found = {"seeds of Python and numpy": alike({}, {}), "WebDataset(seed=5)": alike({"seed": 5}, {}), "shuffle(seed=5)": alike({}, {"seed": 5})}
print(webdataset.__version__, "one order twice:", found)
assert list(found.values()) == [False, False, True]
P
"$work/env/bin/python" "$work/order.py" "$work"
