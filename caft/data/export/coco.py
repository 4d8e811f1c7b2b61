"""A retrieval set in the form of MS-COCO's captions, which clip-benchmark, torchvision and pycocotools read.

clip-benchmark's own form, webdataset, has one caption a line (`str.splitlines`), so a caption with a line break becomes two
that each count. This form keeps captions to the letter.
"""

from __future__ import annotations

from pathlib import Path

from caft.data.export.pictures import plain
from caft.data.sets.files import open_file
from caft.data.sets.retrieval import RetrievalSet
from caft.errors import DataError
from caft.progress import track
from caft.storage import replacing, write_json

# Where clip-benchmark looks for the test split of its data set `mscoco_captions`.
IMAGES, ANNOTATIONS = "val2014", "coco_test_karpathy.json"


def export_coco(benchmark: RetrievalSet, folder: Path) -> int:
    """Writes pictures and captions of a retrieval set.

    Args:
        benchmark: The set.
        folder: Where to; it must not exist, or be empty.

    Returns:
        How many pictures were written anew, since other programs would show them otherwise.

    Raises:
        DataError: The folder is not empty, or a picture cannot be read.
    """
    folder = folder.resolve()  # a link, as to a larger disk, stays
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: is there already; give the name of a folder that is not, or remove it")
    truth = range(len(benchmark.images)) if benchmark.truth is None else benchmark.truth
    pictures, rewritten = [], 0
    with replacing(folder) as work:
        (work / IMAGES).mkdir(parents=True)
        for number, path in enumerate(track(benchmark.images, "pictures")):
            with open_file(path) as file:
                content = file.read()
            ending, picture = plain(content)
            rewritten += picture is not content
            name = f"{number:06d}.{ending}"
            (work / IMAGES / name).write_bytes(picture)
            pictures.append({"id": number, "file_name": name})
        captions = [
            {"id": number, "image_id": image, "caption": caption}
            for number, (image, caption) in enumerate(zip(truth, benchmark.captions, strict=True))
        ]
        write_json(work / ANNOTATIONS, {"images": pictures, "annotations": captions})
    return rewritten
