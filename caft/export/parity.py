"""How far the forms of a model are from the network: on random batches and lengths, and as a table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from caft.export.graphs import chunks_of
from caft.export.running import Arrays, Form, Network

_NUMBERS = (1, 2, 5)  # of pictures and captions in a batch
_LENGTHS = (3, 8, 29)  # of texts, and the longest that the model takes
_CHOICES = ("labels", "picks")


@dataclass(frozen=True)
class Case:
    """What a graph is given, and what the network makes of it."""

    graph: str
    inputs: Mapping[str, NDArray[Any]]
    wanted: Arrays


@dataclass(frozen=True)
class Difference:
    """How a form differs from the network.

    Attributes:
        largest: Largest absolute difference of each output, by `graph.output`: of pictures only where the same segments
            were chosen, and absent if there is none.
        scale: Largest absolute value of each output, at least one.
        pictures: Number of pictures.
        same: How many of them have every label and every pick as in the network.
    """

    largest: dict[str, float]
    scale: dict[str, float]
    pictures: int
    same: int

    @property
    def worst(self) -> float:
        """The largest difference of all, as a share of the output's scale; infinite where a value is no number."""
        return max((self.share(name) for name in self.largest), default=0.0)

    def share(self, name: str) -> float:
        """The largest difference of an output as a share of its scale."""
        value = self.largest[name] / self.scale[name]
        return math.inf if math.isnan(value) else value


def cases(network: Network, seed: int = 0) -> list[Case]:
    """Batches of several numbers and lengths, each graph's inputs as the graphs before it give them."""
    rng = np.random.default_rng(seed)
    config, found = network.network.config, list[Case]()

    def add(graph: str, **inputs: NDArray[Any]) -> Arrays:
        found.append(Case(graph, inputs, network.run(graph, inputs)))
        return found[-1].wanted

    chunks = chunks_of(network.network)
    for number in _NUMBERS:
        pictures = add("image", pixels=np.stack([_picture(rng, config.image_size) for _ in range(number)]))
        for length in (*_LENGTHS, config.text.context):
            rows = [_text(rng, length, config.text.vocabulary) for _ in range(number * chunks)]
            texts = add("text", tokens=np.stack(rows))
            add("caption", features=texts["features"].reshape(number, chunks, -1))
            if "texts" in texts:
                add("score", segments=pictures["segments"], texts=texts["texts"])
    return found


def compare(form: Form, given: Sequence[Case]) -> Difference:
    """Runs a form on cases."""
    largest, scale = dict[str, float](), dict[str, float]()
    pictures = same = 0
    for case in given:
        found = form.run(case.graph, case.inputs)
        kept = np.ones(len(next(iter(case.wanted.values()))), bool)
        if case.graph == "image":
            for name in case.wanted:
                if name.startswith(_CHOICES):
                    kept &= (found[name] == case.wanted[name]).reshape(len(kept), -1).all(1)
            pictures, same = pictures + len(kept), same + int(kept.sum())
        for name, wanted in case.wanted.items():
            if not name.startswith(_CHOICES):
                key = f"{case.graph}.{name}"
                if kept.any():
                    apart = np.abs(found[name][kept] - wanted[kept]).max()
                    largest[key] = float(np.maximum(largest.get(key, 0.0), apart))  # which keeps what is no number
                scale[key] = max(scale.get(key, 1.0), float(np.abs(wanted).max()))
    return Difference(largest, scale, pictures, same)


def table(differences: Mapping[str, Difference], scores: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The parity table, Markdown.

    Args:
        differences: By form.
        scores: By form, the network among them, and evaluation set: values in percent by name.
    """
    columns = [(name, key) for name, found in scores.get("network", {}).items() for key in found]
    header = [
        "form",
        "largest difference",
        "pictures with the same segments",
        *(f"{key}, `{name}`" for name, key in columns),
    ]
    rows = []
    for form in ("network", *differences):
        one = differences.get(form)
        apart = ["-", "-"] if one is None else [f"{max(one.largest.values()):.1e}", f"{one.same} of {one.pictures}"]
        rows.append([form, *apart, *(f"{scores[form][name][key]:.2f}" for name, key in columns)])
    detail = [
        [f"`{name}`", *(f"{one.largest[name]:.1e}" if name in one.largest else "-" for one in differences.values())]
        for name in next(iter(differences.values())).scale
    ]
    return "\n\n".join([_table(header, rows), _table(["largest difference of", *differences], detail)]) + "\n"


def _picture(rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """Random colours on a random grid, enlarged to a picture (3, S, S)."""
    cells = int(rng.integers(2, side + 1))
    coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).transpose(2, 0, 1)


def _text(rng: np.random.Generator, length: int, vocabulary: int) -> NDArray[np.int64]:
    """A row of ids with start and end, and padding after an end that comes at any place."""
    row = np.zeros(length, np.int64)
    end = int(rng.integers(1, length))
    row[:end] = rng.integers(0, vocabulary - 2, end)
    row[0], row[end] = vocabulary - 2, vocabulary - 1
    return row


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows))
