"""Caption tables as they are published: DreamLIP's columns, about 2 KB a row, and the flaws that such files have.

python -m tests.data.published 100000 list.csv
"""

import csv
import io
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from caft.data.tables.schema import CSV_COLUMNS

# How many of 10,000 rows have each flaw, and the reason that it is left out for; None: it is kept.
FLAWS: dict[str, tuple[int, str | None]] = {
    "null_url": (20, "null_url"),
    "word_for_null": (10, "null_url"),
    "no_caption": (15, "no_caption"),
    "duplicate": (60, "duplicate_url"),
    "latin_1": (5, "bad_record"),
    "missing_fields": (5, "bad_record"),
    "extra_field": (5, "bad_record"),
    "open_quote": (1, "bad_record"),
    "missing_some": (300, None),
    "spaces_round_url": (50, None),
    "null_words": (20, None),
}
# Sentences in each caption: raw, then short and long by annotator.
SENTENCES = (1, 1, (3, 6), 1, (9, 13), 1, (4, 8))
_SYLLABLES = "ba ce di fo gu la me ni po ru sa te vi wo ki nu ar en il or ust ing ell and osh".split()
_ODD = (
    "café",
    "naïve",
    "3.5",
    "St.",
    "Dr.",
    "e.g.",
    "12,000",
    '"stop"',
    "(left)",
    "“red”",
    "No. 5",
    "猫",
    "it's",
    "x-ray",
)


def _phrases(rng: np.random.Generator, count: int = 40_000, words: int = 20_000) -> list[str]:
    """Pieces of four to nine words, whose frequencies follow Zipf's law."""
    vocabulary = [
        "".join(_SYLLABLES[i] for i in rng.integers(len(_SYLLABLES), size=rng.integers(1, 5))) for _ in range(words)
    ]
    weights = 1 / np.arange(1, words + 1)
    drawn = rng.choice(words, size=(count, 9), p=weights / weights.sum())
    lengths = rng.integers(4, 10, size=count)
    phrases = [
        " ".join(vocabulary[i] for i in row[:length]) for row, length in zip(drawn.tolist(), lengths, strict=True)
    ]
    odd = rng.random(count) < 0.03
    return [f"{phrase} {_ODD[place % len(_ODD)]}" if odd[place] else phrase for place, phrase in enumerate(phrases)]


def _rows(count: int, seed: int) -> Iterator[list[str]]:
    """Seven captions a row."""
    rng = np.random.default_rng(seed)
    phrases = _phrases(rng)
    per_row = 64
    for first in range(0, count, 1000):
        picks = rng.integers(len(phrases), size=(1000, 2 * per_row))
        counts = [
            [1] * 1000 if isinstance(limits, int) else rng.integers(*limits, size=1000).tolist() for limits in SENTENCES
        ]
        breaks = rng.random((1000, len(SENTENCES))) < 0.05
        for place, drawn in enumerate(picks[: min(1000, count - first)].tolist()):
            at, captions = 0, []
            for field, sizes in enumerate(counts):
                size = sizes[place]
                pairs = zip(drawn[at : at + 2 * size : 2], drawn[at + 1 : at + 2 * size : 2], strict=True)
                sentences = [f"{phrases[a][0].upper()}{phrases[a][1:]}, {phrases[b]}." for a, b in pairs]
                captions.append(("\n" if breaks[place, field] else " ").join(sentences))
                at += 2 * size
            yield captions


def write_table(
    path: Path, count: int, seed: int = 0, address: Callable[[int], str] = "https://host/{}.jpg".format
) -> dict[str, int]:
    """Writes a CSV with flaws.

    Args:
        path: Where to.
        count: Records.
        seed: Of texts and flaws.
        address: Of each row.

    Returns:
        How many records must be left out, by reason.
    """
    rng = np.random.default_rng([seed, 1])
    names = list(FLAWS)
    shares = np.array([share for share, _ in FLAWS.values()]) / 10_000
    flaws = rng.choice(len(names) + 1, size=count, p=[*shares, 1 - shares.sum()])
    flaws[:2] = len(names)  # a first row that can be repeated
    dropped: Counter[str] = Counter()
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    with path.open("wb") as file:
        file.write((",".join(CSV_COLUMNS) + "\n").encode())
        for number, captions in enumerate(_rows(count, seed)):
            flaw = names[flaws[number]] if flaws[number] < len(names) else ""
            url = address(number)
            if flaw == "null_url":
                url = ""
            elif flaw == "word_for_null":
                url = "None"
            elif flaw == "no_caption":
                captions = [" "] * len(captions)
            elif flaw == "duplicate":
                url = address(0)
            elif flaw == "missing_some":
                captions[2] = captions[5] = ""
            elif flaw == "spaces_round_url":
                url = f" {url} "
            elif flaw == "null_words":
                captions[0], captions[1] = "None", "NA"
            elif flaw == "missing_fields":
                captions = captions[:3]
            elif flaw == "extra_field":
                captions = [*captions, "one more"]
            writer.writerow([url, *captions])
            line = buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
            if flaw == "latin_1":
                file.write(f"{url},caf".encode() + b"\xe9,,,,,,\n")
            elif flaw == "open_quote":
                file.write(f'{url},"a quote that is never closed,,,,,,\n'.encode())
            else:
                file.write(line.encode())
            reason = FLAWS[flaw][1] if flaw else None
            if reason:
                dropped[reason] += 1
    return dict(sorted(dropped.items()))


if __name__ == "__main__":
    print(write_table(Path(sys.argv[2]), int(sys.argv[1])))
