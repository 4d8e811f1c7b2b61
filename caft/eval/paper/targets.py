"""The paper's numbers, read from targets.yaml beside this file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

Source = Literal["retrieval", "grounding", "regions", "training", "statistics", "settings"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(_Part):
    """A row of a table."""

    name: str  # as the paper prints it
    values: list[int | float | str | None]  # one for each column; None where the paper has a dash
    quoted: bool = False  # the paper took it from another one
    method: str | None = None  # how the model that fills it is built; None if no model here can
    size: Literal["3M", "12M", "15M", "30M"] | None = None  # of its training data; None: any
    score: str = ""  # where its number lies: a score of retrieval, or the set of a row of statistics
    gain: bool = False  # the numbers are a difference to the best row above


class Table(_Part):
    """A table, or the legible points of a figure."""

    id: str  # such as "Table 1"
    title: str
    source: Source
    decimals: list[int]  # of each column, as printed; one number in the file stands for all columns
    columns: list[str]  # keys of the scores
    rows: list[Row]

    @model_validator(mode="before")
    @classmethod
    def _decimals_of_each_column(cls, content: dict[str, Any]) -> dict[str, Any]:
        decimals = content["decimals"]
        return content if isinstance(decimals, list) else {**content, "decimals": [decimals] * len(content["columns"])}

    @model_validator(mode="after")
    def _as_wide_as_its_columns(self) -> "Table":
        for row in self.rows:
            if not len(row.values) == len(self.decimals) == len(self.columns):
                raise ValueError(f"{self.id}, {row.name}: expected {len(self.columns)} values, found {row.values}")
        return self


class Targets(_Part):
    """Everything that the paper prints, in its order."""

    # By the benchmark's entry: `name` in the paper, and `items`, the pairs or expressions of the whole set.
    sets: Mapping[str, Mapping[str, Any]]
    images: Mapping[str, int]  # of the training data, by its size as in Figure 5
    tables: list[Table]


def load_targets() -> Targets:
    """Reads the file."""
    return Targets.model_validate(yaml.safe_load(Path(__file__).with_name("targets.yaml").read_text(encoding="utf-8")))
