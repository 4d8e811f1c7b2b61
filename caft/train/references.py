"""Reference sentences of a model's card: what `Model.match` ranks a sentence among."""

from pathlib import Path

import numpy as np

from caft.data.tables.fields import FIELDS

COUNT = 200
_LONGEST = 200  # characters; the card stays small
_LONG = [number for number, field in enumerate(FIELDS) if field.startswith("long")]


def draw_references(index_folder: Path, count: int = COUNT) -> list[str]:
    """Different sentences of the long captions of a training index, the same in every run; fewer if there are fewer.

    Every caption is as likely as any other. Sentences without a letter and very long ones are passed over.
    """
    first, ends, text = (
        np.load(index_folder / f"{name}.npy", mmap_mode="r") for name in ("captions", "text_ends", "text")
    )
    images = (len(first) - 1) // len(FIELDS)
    rng = np.random.default_rng(0)
    found: dict[str, None] = {}
    for _ in range(20 * count):  # of few different sentences, most are drawn again
        caption = int(rng.integers(images)) * len(FIELDS) + _LONG[int(rng.integers(len(_LONG)))]
        start, stop = int(first[caption]), int(first[caption + 1])
        if start == stop:
            continue
        number = int(rng.integers(start, stop))
        begin = int(ends[number - 1]) if number else 0
        sentence = text[begin : int(ends[number])].tobytes().decode()
        if len(sentence) <= _LONGEST and any(map(str.isalpha, sentence)):
            found.setdefault(sentence)
        if len(found) == count:
            break
    return sorted(found)
