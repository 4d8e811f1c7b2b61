"""ShareGPT4V's captions: the first rows of a JSON file of 1.5 GB, read no further than that."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from caft.data.sets.captions import Item
from caft.data.sets.files import first_present
from caft.errors import DataError
from caft.params import BenchmarkParams

ORIGINAL = "share-captioner_coco_lcs_sam_1246k_1107.json"
RESAVED = "share4v_sam_10k.json"  # its first 10,000 rows as LoTLIP and FLAIR keep them, with other paths of pictures
_START = 1024  # bytes in which a list begins


def sharegpt4v(folder: Path, benchmark: BenchmarkParams) -> Iterator[Item]:
    """The first rows of the published file, or of LoTLIP's; a caption is the second turn of a conversation.

    A picture is looked for by its path as given (`sam/images/sa_1.jpg`), by the path without the folder `images`, and
    by its name alone in `images/`.
    """
    file = first_present(folder / ORIGINAL, folder / RESAVED)
    for number, row in enumerate(head(file, benchmark.first or 0)):
        try:
            identity, given, (_, answer, *_) = str(row["id"]), Path(row["image"]), row["conversations"]
            speaker, caption = answer["from"], answer["value"].strip()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{file}: row {number}: expected id, image and two conversations; {error!r}") from None
        if speaker != "gpt":
            raise DataError(f"{file}: row {number}: expected the second turn to be of 'gpt', found {speaker!r}")
        short = Path(*(part for part in given.parts[:-1] if part != "images"), given.name)
        places = (folder / given, folder / short, folder / "images" / given.name)
        yield Item([identity], next((place for place in places if place.is_file()), places[0]), [caption])


def head(path: Path, count: int) -> Iterator[Any]:
    """The first objects of a JSON file that is a list of objects; the file is read no further than they reach.

    Raises:
        DataError: It is no list, or ends inside an object.
    """
    import ijson  # of the pipeline's packages, not of the core

    with path.open("rb") as file:
        start = file.read(_START).lstrip()
        if not start.startswith(b"["):  # of anything else ijson gives no item, and no error
            raise DataError(f"{path}: expected a JSON list, found {start[:20]!r}; download it again")
        file.seek(0)
        try:
            yield from itertools.islice(ijson.items(file, "item", use_float=True), count)
        except (ijson.JSONError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())[:100]
            raise DataError(f"{path}: is no whole JSON list ({reason}); download it again") from None
