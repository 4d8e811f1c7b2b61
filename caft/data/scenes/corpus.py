"""The rendered corpus as a table: the published CSV's columns, with links that work and links that do not."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from caft.data.scenes.captions import captions
from caft.data.scenes.false_sentences import Planted, Planter
from caft.data.scenes.grammar import FALSE, TRAIN, WORDS, generator, training_scene
from caft.data.tables.schema import CSV_COLUMNS
from caft.params.corpora import ScenesCorpus
from caft.progress import track
from caft.storage import replacing

WORKING = "train"


def url(port: int, kind: str, number: int) -> str:
    """Returns the address of a training picture; `kind` is "train" or a field of `caft.params.Faults`."""
    return f"http://127.0.0.1:{port}/{kind}/{number:06d}.jpg"


def links(corpus: ScenesCorpus) -> list[tuple[str, int]]:
    """Returns kind and number of the picture that each row links to, in the table's order.

    Pictures that can be fetched have the numbers from 0 to ``images`` - 1 and come in order. Faulty
    links have numbers above these and lie scattered among them, as do rows that repeat a working link.
    """
    counts = corpus.faults.model_dump()
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    rng = np.random.default_rng((corpus.seed, TRAIN))
    # The first row always works, so that a repetition always has something before it to repeat.
    order = [WORKING, *rng.permutation([WORKING] * (corpus.images - 1) + kinds).tolist()]
    rows: list[tuple[str, int]] = []
    working, faulty = 0, corpus.images
    for kind in order:
        if kind == WORKING:
            rows.append((WORKING, working))
            working += 1
        elif kind == "duplicate":
            rows.append((WORKING, int(rng.integers(working))))
        else:
            rows.append((kind, faulty))
            faulty += 1
    return rows


def write_csv(path: Path, corpus: ScenesCorpus) -> list[Planted]:
    """Writes the corpus as DreamLIP's tables are published: header, quotes, and line breaks in fields.

    Returns:
        The sentences that were made false, by row; none unless ``corpus.false_sentences`` is above 0.
    """
    planted: list[Planted] = []
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for row, (kind, number) in enumerate(track(links(corpus), "scenes described")):
            scene = training_scene(corpus.seed, number)
            words = generator(corpus.seed, TRAIN, number, WORDS)
            plant = Planter(scene, corpus.false_sentences, generator(corpus.seed, TRAIN, number, FALSE), row)
            texts = captions(scene, words, plant if corpus.false_sentences else None)
            writer.writerow([url(corpus.port, kind, number), *texts])
            planted += plant.planted
    return planted
