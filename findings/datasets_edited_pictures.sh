#!/usr/bin/env bash
# datasets 5.2.0, Pillow 12.0.0 on Python 3.11.
# Guess: a picture that was opened, painted over and made smaller in place (`paste`, `thumbnail`) is stored as it then is.
# Seen:  what Pillow opened still carries its file's name, and datasets takes a picture with a name for that file: the data set holds
#        the original, in full size and with what was painted over, by `from_list`, `map` and `from_generator` alike, and so does the
#        Parquet file that is published of it. A `copy()` has no name and is stored as it is. (Seen too: mosaicml-streaming 0.13.0 and
#        litdata 0.2.76 do so with JPEG; webdataset 1.0.2 stores what it is given.)
# Here:  exported pictures are the bytes that were fetched, or a PNG of what the model sees (caft/data/export/pictures.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet datasets==5.2.0 Pillow==12.0.0
export HF_HOME=$work/home HF_HUB_OFFLINE=1
cd "$work"
cat > edited.py <<'P'
import datasets
from PIL import Image

datasets.disable_progress_bars()
datasets.logging.set_verbosity_error()
Image.new("RGB", (300, 200), "white").save("photo.jpg")


def edited(path):
    """The picture without its left half, 150 x 100."""
    image = Image.open(path)
    image.paste("black", (0, 0, 150, 200))
    image.thumbnail((150, 100))
    return image


def generated():
    yield {"image": edited("photo.jpg")}


given = edited("photo.jpg")
assert given.size == (150, 100) and given.getpixel((10, 10)) == (0, 0, 0)
with_image = datasets.Features({"image": datasets.Image()})
sets = {
    "from_list": datasets.Dataset.from_list([{"image": edited("photo.jpg")}]),
    "map": datasets.Dataset.from_list([{"path": "photo.jpg"}]).map(lambda row: {"image": edited(row["path"])}),
    "from_generator": datasets.Dataset.from_generator(generated, features=with_image, cache_dir="cache"),
    "from_list, copied": datasets.Dataset.from_list([{"image": edited("photo.jpg").copy()}]),
}
for how, data in sets.items():
    data.to_parquet("published.parquet")
    published = datasets.Dataset.from_parquet("published.parquet", cache_dir=how)
    for image in (data[0]["image"], published[0]["image"]):
        whole = image.size == (300, 200) and min(image.convert("RGB").getpixel((10, 10))) > 250
        assert whole == (how != "from_list, copied")
    print(f"given {given.size}, black on the left; {how}: {image.size}, {image.convert('RGB').getpixel((10, 10))} on the left")
P
env/bin/python edited.py
