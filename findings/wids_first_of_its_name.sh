#!/usr/bin/env bash
# wids 0.1.11, torch 2.13.0 (build for CPUs) on Python 3.11. (Pillow is imported by wids, though not asked for by it.)
# Guess: two data sets whose shards have the same names (cc3m/00000.tar, cc12m/00000.tar), as img2dataset's always have, are kept apart in
#        one cache folder.
# Seen:  in a `cache_dir` that is given a shard is known by the last part of its address alone, so the second set gives the first one's
#        samples, under the second one's `__shard__`; and so does one list of both corpora. What was there yesterday counts, too. A folder
#        for each set mends it; the folder that wids takes where none is given has the whole address in a file's name.
# Here:  a shard is known by its corpus and its name (caft/data/training/reader.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu numpy==2.4.6 Pillow==12.0.0 wids==0.1.11
cat > "$work/names.py" <<'P'
import io
import sys
import tarfile
from pathlib import Path

import wids

work = Path(sys.argv[1])
lists = {}
for corpus in ("cc3m", "cc12m"):
    shard = work / corpus / "00000.tar"
    shard.parent.mkdir()
    with tarfile.open(shard, "w") as tar:
        for number in range(2):
            text = f"caption {number} of {corpus}".encode()
            member = tarfile.TarInfo(f"{number:09}.txt")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    lists[corpus] = [{"url": str(shard), "nsamples": 2}]


def texts(shards, **options):
    samples = wids.ShardListDataset(shards, **options)
    return [samples[number][".txt"] for number in range(len(samples))]


right = {corpus: [f"caption {number} of {corpus}" for number in range(2)] for corpus in lists}
shared = {corpus: texts(shards, cache_dir=str(work / "cache")) for corpus, shards in lists.items()}
joined = texts(lists["cc3m"] + lists["cc12m"], cache_dir=str(work / "other"))
own = {corpus: texts(shards, cache_dir=str(work / f"cache of {corpus}")) for corpus, shards in lists.items()}
print("one cache:", shared, "one list:", joined, "a cache for each:", own, sep="\n")
assert shared == {"cc3m": right["cc3m"], "cc12m": right["cc3m"]} and joined == right["cc3m"] * 2
assert own == right
P
"$work/env/bin/python" "$work/names.py" "$work"
