"""Cell by cell: the paper's value, ours, and a verdict by a stated rule."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from caft.eval.paper.models import PaperModel
from caft.eval.paper.targets import Row, Source, Table, Targets

Status = Literal["match", "differs", "partial data", "not run", "quoted"]

ENOUGH = 0.95  # of the paper's images, training or evaluation; below, a number is shown and not judged
_HOURS = 0.1  # part by which hours may be off: they are of the machine, not of the method
_STATISTICS = 0.025  # DreamLIP's splitting, which the paper names, gives its means up to 2 %
_QUOTED = "of another paper; shown, not judged"
_SHARE = f"at least {ENOUGH:.0%} of the paper's images"


@dataclass(frozen=True)
class Cell:
    """One number of the paper, and ours beside it."""

    table: str  # such as "Table 1"
    row: str  # as printed
    column: str  # key of the score
    paper: float | str
    ours: float | str | None = None
    status: Status = "not run"
    rule: str = ""  # what decided the status
    reason: str = ""  # why it is not run, or only partial
    images: int | None = None  # that the model was trained on, where known
    evaluated: int | None = None  # pairs, expressions or boxes that were scored
    tags: Mapping[str, str | None] = field(default_factory=dict)  # fingerprint, recipe, code and MLflow run of ours

    def record(self) -> dict[str, Any]:
        """The cell as a flat row of paper.json."""
        content = {key: value for key, value in asdict(self).items() if key != "tags"}
        return {
            **content,
            **dict.fromkeys(("weights", "fingerprint", "recipe", "commit", "changes", "mlflow_run")),
            **self.tags,
        }


@dataclass(frozen=True)
class _Found:
    """A value of ours with what judges it; without a value, the reason."""

    value: float | str | None = None  # in the paper's unit
    reason: str = ""  # why it is missing
    items: int | None = None  # that it is a mean over
    full: int | None = None  # items of the whole set
    is_share: bool = True  # each item counts as 0 or 1
    key: str = ""  # of the score in MLflow


def compare(targets: Targets, scored: Sequence[PaperModel], statistics: Mapping[str, Mapping[str, Any]]) -> list[Cell]:
    """Returns a verdict for every cell that the paper prints.

    Given weights match within one item of the set and the paper's rounding. A retrained model matches where the paper's
    value lies in the 95 % interval of ours under resampling of the pairs, widened by the deviation over seeds where it is
    known. Hits are 0 or 1, so the resampled recall follows a binomial distribution, exactly: no list of hits is needed.
    Of IoUs only the mean is known, and the interval is the widest that the mean allows.

    Args:
        targets: What the paper prints.
        scored: Models with scores; the first that fits a row fills it.
        statistics: Of the evaluation sets that are there: images, texts, sub_captions and tokens; or not_run.
    """
    return [
        cell for table in targets.tables for row in table.rows for cell in _row(targets, table, row, scored, statistics)
    ]


def _row(
    targets: Targets, table: Table, row: Row, scored: Sequence[PaperModel], statistics: Mapping[str, Any]
) -> Iterator[Cell]:
    model = next((one for one in scored if one.reason is None and _fits(one, row)), None)
    for number, (column, paper) in enumerate(zip(table.columns, row.values, strict=True)):
        if paper is None:
            continue
        cell = Cell(table.id, row.name, column, paper)
        if table.source == "statistics":
            yield _of_set(cell, row, statistics.get(row.score), targets)
            continue
        if model is None:
            yield _without_model(cell, row, scored)
            continue
        found = _find(targets, table, row, column, model)
        base = max(v for r in table.rows if r.quoted and isinstance(v := r.values[number], float)) if row.gain else 0.0
        rounding = 0.5 * 10 ** -table.decimals[number] * (2 if row.gain else 1)
        partial = _partial(found, model, targets)
        yield _judged(cell, table.source, row.quoted, found, model, rounding, base, partial)


def _fits(model: PaperModel, row: Row) -> bool:
    return row.method is not None and model.method == row.method and row.size in (None, model.size)


def _without_model(cell: Cell, row: Row, scored: Sequence[PaperModel]) -> Cell:
    if row.quoted:
        return replace(cell, status="quoted", rule=_QUOTED)
    reasons = [model.reason for model in scored if model.reason]
    data = f" trained on {row.size}" if row.size else ""
    have = ", ".join(f"{model.name} ({model.method or 'no row of the paper'}, {model.size})" for model in scored)
    return replace(cell, reason=reasons[0] if reasons else f"needs {row.method}{data}; scored was {have or 'nothing'}")


def _find(targets: Targets, table: Table, row: Row, column: str, model: PaperModel) -> _Found:
    """Our value of a cell, from the scores of the model that fills the row."""
    if table.source in ("training", "settings"):
        values = model.training if table.source == "training" else model.settings
        if not model.retrained:
            return _Found(reason="the weights were given; nothing was trained here")
        return _Found(values.get(column), "the run did not use GPUs" if column not in values else "")
    name, key = column.split(".", 1)
    entry = getattr(model, table.source).get(name)
    if entry is None:
        return _Found(reason=f"params.yaml has no benchmark {name}, or the scores are older than it")
    if "not_run" in entry:
        return _Found(reason=entry["not_run"])
    full = targets.sets[name]
    if table.source == "retrieval":
        recalls, items = entry.get(row.score), entry["pairs"]
        if recalls is None:
            lacks = "the model has no part level" if row.score == "part" or "part" in entry else ""
            return _Found(reason=lacks or f"no score {row.score}; see evaluation.blend")
        return _Found(recalls[key], "", items, full["items"], key=f"retrieval/{name}/{row.score}/{key}")
    if table.source == "grounding":
        return _Found(entry[key], "", entry["expressions"], full["items"], False, f"grounding/{name}/{key}")
    if key not in entry:
        return _Found(reason=entry.get("skipped", {}).get(key, f"no boxes of {key}"))
    boxes = round(full[key] * entry["rows"] / full["items"])  # the file has the boxes of all four levels together
    boxes = entry.get(f"{key}_rows", boxes)  # and in a set that is not whole also of each
    return _Found(entry[key], "", boxes, full[key], key=f"regions/{name}/{key}")


def _judged(
    cell: Cell,
    source: Source,
    quoted: bool,
    found: _Found,
    model: PaperModel,
    rounding: float,
    base: float,
    partial: str,
) -> Cell:
    """The verdict on a value; a cell that is a difference is judged by the score, `base` being what is taken off."""
    if found.value is None:
        empty = replace(cell, status="quoted", rule=_QUOTED) if quoted else cell
        return replace(empty, reason=found.reason)
    value = round(found.value - base, 4) if isinstance(found.value, float) else found.value
    tags = {"weights": model.name, **model.tags}
    shown = replace(cell, ours=value, images=model.images, evaluated=found.items, tags=tags)
    if quoted:
        return replace(shown, status="quoted", rule=_QUOTED)
    if partial:
        return replace(shown, status="partial data", rule=_SHARE, reason=partial)
    # Of masks, the publishers give no certain count of expressions.
    if found.is_share and found.full is not None and found.items is not None and found.items > found.full:
        return replace(cell, reason=f"the set has {found.items:,} items, the paper's {found.full:,}: it is another")
    if source == "training" and cell.column == "images_millions":
        return replace(shown, status="match", rule=_SHARE)
    if source == "settings" or isinstance(cell.paper, str) or isinstance(found.value, str):
        return replace(shown, status=_verdict(found.value == cell.paper), rule="equal")
    if source == "training":
        near = abs(found.value / cell.paper - 1) <= _HOURS
        return replace(shown, status=_verdict(near), rule=f"within {_HOURS:.0%}; hours are of the machine")
    assert found.items is not None
    paper = cell.paper + base
    if model.retrained:
        spread = model.deviations.get(found.key, 0.0)
        low, high = interval(found, spread)
        kind = "resampled items" if found.is_share else "resampled items, at the widest that the mean allows"
        rule = f"in the 95 % interval of {kind}, {low - base:.2f} to {high - base:.2f}"
        rule += f", widened by the seeds' deviation, {spread:.2f}" if spread else ""
        return replace(shown, status=_verdict(low - rounding <= paper <= high + rounding), rule=rule)
    step = 100 / found.items
    near = abs(found.value - paper) <= step + rounding + 1e-6
    rule = f"within one item ({step:.2g}) and the paper's rounding ({rounding:g})"
    return replace(shown, status=_verdict(near), rule=rule)


def interval(found: _Found, spread: float) -> tuple[float, float]:
    """95 % interval of a mean over items under resampling them, in percent, widened on both sides by `spread`."""
    from scipy.stats import binom, norm  # takes a second to import, and the default run's numbers are not judged

    assert isinstance(found.value, int | float) and found.items is not None
    items, value = found.items, float(found.value)
    mean = min(max(value / 100, 0.0), 1.0)
    if found.is_share:
        share = round(mean * items) / items
        low, high = (100 * float(binom.ppf(q, items, share)) / items for q in (0.025, 0.975))
    else:
        width = 100 * float(norm.ppf(0.975)) * (mean * (1 - mean) / items) ** 0.5
        low, high = value - width, value + width
    return low - spread, high + spread


def _partial(found: _Found, model: PaperModel, targets: Targets) -> str:
    """What is lacking of the paper's images, if it is too much."""
    if found.full is not None and found.items is not None and found.items < ENOUGH * found.full:
        return f"scored on {found.items:,} of {found.full:,} items"
    if model.images is not None and model.size and (share := model.images / targets.images[model.size]) < ENOUGH:
        return f"trained on {share:.1%} of the paper's images"
    return ""


def _of_set(cell: Cell, row: Row, found: Mapping[str, Any] | None, targets: Targets) -> Cell:
    """A cell of the table of evaluation sets, which no model has a part in."""
    if found is None or "not_run" in found:
        missing = f"params.yaml has no benchmark {row.score}"
        return replace(cell, reason=found["not_run"] if found else missing)
    assert isinstance(cell.paper, int | float)
    images, full = found["images"], targets.sets[row.score]["items"]
    value = found[cell.column]
    cell = replace(cell, ours=round(value, 2) if isinstance(value, float) else value, evaluated=images)
    if images < ENOUGH * full:
        return replace(cell, status="partial data", rule=_SHARE, reason=f"{images:,} of {full:,} items are there")
    if isinstance(value, int):
        return replace(cell, status=_verdict(value == cell.paper), rule="equal")
    near = abs(value / cell.paper - 1) <= _STATISTICS
    rule = f"within {_STATISTICS:.1%}; the splitting that the paper names gives its means up to 2 %"
    return replace(cell, status=_verdict(near), rule=rule)


def _verdict(matches: bool) -> Status:
    return "match" if matches else "differs"
