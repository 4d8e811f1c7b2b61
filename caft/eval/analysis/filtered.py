"""What an audit caught of the sentences that were made false, and how much of what they cost training without it regains."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from caft.data.scenes.false_sentences import KINDS
from caft.errors import DataError
from caft.eval.analysis.matching import auroc

_RECALLS = ("t2i_r1", "i2t_r1")


def caught(tables: Sequence[Path], truth: Path) -> dict[str, Any]:
    """Compares tables of support (`caft.data.tables.support_table`) with what was made false.

    Args:
        tables: Of all shards of a corpus.
        truth: What `caft.data.scenes.false_sentences.write_truth` wrote.

    Returns:
        `flagged`, `false`, `both` in sentences, and by kind, and for "all", `sentences` and in percent `auroc` among all true
        sentences and `flagged`.

    Raises:
        DataError: A sentence that was made false stands otherwise in the tables.
    """
    with truth.open(encoding="utf-8", newline="") as file:
        planted = {(int(row["row"]), row["caption"], int(row["sentence"])): row for row in csv.DictReader(file)}
    kinds: list[str] = []
    support: list[float] = []
    flagged: list[bool] = []
    for path in tables:
        for row in pq.read_table(path).to_pylist():
            false = planted.get((row["row_id"], row["caption"], row["number"]))
            if false is not None and false["false"] != row["sentence"]:
                raise DataError(
                    f"{path}: sentence {row['number']} of {row['caption']} in row {row['row_id']} is {row['sentence']!r}, and "
                    f"{false['false']!r} in {truth}; they are of other captions: audit these again"
                )
            if row["support"] is not None:
                kinds.append("" if false is None else false["kind"])
                support.append(row["support"])
                flagged.append(row["flagged"])
    of, values, flags = np.array(kinds), np.array(support), np.array(flagged)
    true = of == ""
    found: dict[str, Any] = {
        "flagged": int(flags.sum()), "false": int((~true).sum()), "both": int((flags & ~true).sum()), "kinds": {},
    }  # fmt: skip
    for kind in ("all", *KINDS):
        false = ~true if kind == "all" else of == kind
        if false.any() and true.any():
            found["kinds"][kind] = {
                "sentences": int(false.sum()),
                "auroc": round(100 * auroc(values[true], values[false]), 2),
                "flagged": round(100 * float(flags[false].mean()), 2),
            }
    return found


def regained(scores: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, dict[str, float | None]]]:
    """How much of what false sentences cost is regained: (filtered - dirty) / (clean - dirty), of means over the seeds.

    Args:
        scores: Content of metrics/retrieval.json by arm ("clean", "dirty", "filtered") and seed.

    Returns:
        By set and score, such as "whole": `clean`, `dirty`, `filtered` as the mean of both directions' R@1 in percent, and
        `regained`, None where dirt cost nothing.
    """
    result: dict[str, dict[str, dict[str, float | None]]] = {}
    first = next(iter(scores["clean"].values()))
    for name, entry in first.items():
        for score, values in entry.items():
            if not isinstance(values, Mapping) or not set(_RECALLS) <= set(values):
                continue
            means = {
                arm: float(np.mean([run[name][score][recall] for run in runs.values() for recall in _RECALLS]))
                for arm, runs in scores.items()
            }
            cost = means["clean"] - means["dirty"]
            share = (means["filtered"] - means["dirty"]) / cost if cost > 0 else None
            rounded = {arm: round(mean, 2) for arm, mean in means.items()}
            result.setdefault(name, {})[score] = {**rounded, "regained": None if share is None else round(share, 3)}
    return result
