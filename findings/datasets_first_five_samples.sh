#!/usr/bin/env bash
# datasets 5.2.0 (Pillow 12.0.0 writes the pictures) on Python 3.11.
# Guess: `load_dataset("webdataset", ...)` gives every sample of a tar as webdataset does: each member under its ending.
# Seen:  columns and types are those of the first five samples. A later picture with another ending (png among jpg) is None, without a
#        word; a caption that is null in the first five makes every later text an error that names neither; with `streaming=True` a
#        number that is whole in the first five is cut: 1.5 becomes 1. `features=` for all endings and types mends all three.
# Here:  docs/peers.md has the `features` for the tars of `export_wds`.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet datasets==5.2.0 Pillow==12.0.0
export HF_HOME=$work/home HF_HUB_OFFLINE=1
cat > "$work/five.py" <<'P'
import io
import json
import sys
import tarfile
from pathlib import Path

import datasets
from PIL import Image

datasets.disable_progress_bars()
datasets.logging.set_verbosity_error()
work = Path(sys.argv[1])


def written(name, endings, notes):
    with tarfile.open(work / name, "w") as tar:
        for number, (ending, note) in enumerate(zip(endings, notes)):
            content = io.BytesIO()
            Image.new("RGB", (8, 8)).save(content, {"jpg": "JPEG"}.get(ending, ending))
            for suffix, data in ((ending, content.getvalue()), ("json", json.dumps(note).encode())):
                member = tarfile.TarInfo(f"{number:03}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def read(name, **options):
    return list(datasets.load_dataset("webdataset", data_files=str(work / name), split="train", cache_dir=str(work / "cache"), **options))


written("endings.tar", ["jpg"] * 6 + ["png"], [{"n": 1}] * 7)
pictures = [sample["jpg"] for sample in read("endings.tar")]
print(datasets.__version__, "a png after six jpg:", pictures[6])
assert pictures[6] is None and None not in pictures[:6]
written("null.tar", ["jpg"] * 7, [{"text": None}] * 6 + [{"text": "a dog"}])
try:
    failed = str(read("null.tar"))
except Exception as error:
    failed = f"{type(error).__name__}: {error} ({error.__cause__})"
print("null six times, then a text:", failed)
assert "DatasetGenerationError" in failed
written("numbers.tar", ["jpg"] * 7, [{"n": 1}] * 6 + [{"n": 1.5}])
number = read("numbers.tar", streaming=True)[6]["json"]["n"]
print("1 six times, then 1.5, streamed:", number)
assert number == 1
picture, whole = datasets.Image(), {"n": datasets.Value("float64"), "text": datasets.Value("string")}
features = datasets.Features({"jpg": picture, "png": picture, "json": whole})
mended = [read(name, features=features)[6] for name in ("endings.tar", "null.tar", "numbers.tar")]
assert mended[0]["png"] is not None and mended[1]["json"]["text"] == "a dog" and mended[2]["json"]["n"] == 1.5
P
"$work/env/bin/python" "$work/five.py" "$work"
