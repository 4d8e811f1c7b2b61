"""The paper's numbers, read from targets.yaml beside this file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

Source = Literal["retrieval", "grounding", "regions", "training", "statistics", "settings"]


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: As the paper prints it.
        values: One a column; None where the paper has a dash.
        quoted: The paper took it from another one.
        method: How the model that fills it is built; None if no model here can.
        size: Of its training data, 3M, 12M, 15M or 30M; None: any.
        score: Where its number lies: a score of retrieval, or the set of a row of statistics.
        gain: The numbers are a difference to the best row above.
    """

    name: str
    values: list[float | str | None]
    quoted: bool = False
    method: str | None = None
    size: str | None = None
    score: str = ""
    gain: bool = False


@dataclass(frozen=True)
class Table:
    """A table, or the legible points of a figure.

    Attributes:
        id: Such as "Table 1".
        title: What it shows.
        source: Kind of scores.
        decimals: Of each column, as printed.
        columns: Keys of the scores.
        rows: In the paper's order.
    """

    id: str
    title: str
    source: Source
    decimals: list[int]
    columns: list[str]
    rows: list[Row]


@dataclass(frozen=True)
class Targets:
    """Everything that the paper prints.

    Attributes:
        sets: By the benchmark's entry: `name` in the paper, and `items`, the pairs or expressions of the whole set.
        images: Of the training data, by its size as in Figure 5.
        tables: In the paper's order.
    """

    sets: Mapping[str, Mapping[str, Any]]
    images: Mapping[str, int]
    tables: list[Table]


def load_targets() -> Targets:
    """Reads the file."""
    content = yaml.safe_load(Path(__file__).with_name("targets.yaml").read_text(encoding="utf-8"))
    tables = []
    for table in content["tables"]:
        decimals = table["decimals"]
        columns = table["columns"]
        rows = [Row(**row) for row in table["rows"]]
        spread = decimals if isinstance(decimals, list) else [decimals] * len(columns)
        tables.append(Table(table["id"], table["title"], table["source"], spread, columns, rows))
    return Targets(content["sets"], content["images"], tables)
