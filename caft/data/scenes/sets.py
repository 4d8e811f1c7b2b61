"""Writes the rendered corpus' own evaluation sets, in the layouts in which the known ones are published."""

from __future__ import annotations

import json
from pathlib import Path

from caft.data.scenes.examples import Example, look_alike_examples, random_examples
from caft.data.scenes.referring import write_referring
from caft.data.scenes.regions import write_regions
from caft.params import ScenesCorpus


def write_benchmarks(folder: Path, corpus: ScenesCorpus) -> None:
    """Writes the sets `random`, `look_alike`, `refer` and `fg_ovd` into `folder`.

    The referring expressions and the regions are on the images of `random`.

    Raises:
        ParamsError: More regions are asked for than there are objects.
    """
    random = random_examples(corpus)
    write_urban1k(folder / "random", random)
    write_docci(folder / "look_alike", look_alike_examples(corpus))
    write_referring(folder / "refer", random)
    write_regions(folder / "fg_ovd", random, corpus.regions, corpus.evaluation_seed)


def write_urban1k(folder: Path, examples: list[Example]) -> None:
    """Writes a retrieval set as Urban-1k is published: ``image/1.jpg`` and ``caption/1.txt``."""
    (folder / "image").mkdir(parents=True)
    (folder / "caption").mkdir()
    for number, example in enumerate(examples, start=1):
        (folder / "image" / f"{number}.jpg").write_bytes(example.jpeg)
        (folder / "caption" / f"{number}.txt").write_text(example.caption + "\n", encoding="utf-8")


def write_docci(folder: Path, examples: list[Example]) -> None:
    """Writes a retrieval set as DOCCI is published: ``docci_descriptions.jsonlines`` and ``images``."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for number, example in enumerate(examples):
        name = f"test_{number:05d}"
        (folder / "images" / f"{name}.jpg").write_bytes(example.jpeg)
        row = {"example_id": name, "split": "test", "image_file": f"{name}.jpg", "description": example.caption}
        rows.append(json.dumps(row) + "\n")
    (folder / "docci_descriptions.jsonlines").write_text("".join(rows), encoding="utf-8")
