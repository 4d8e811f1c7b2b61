"""The ledger of the paper's claims: docs/claims.yaml, each with a status that a rule computes from measured intervals."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from caft.errors import DataError

Status = Literal["supported", "not supported", "not run yet with this code", "cannot be tested here"]
STATUSES: tuple[Status, ...] = get_args(Status)
_HEAD = """# The paper's claims

Made by `python -m pipelines.claims` from [claims.yaml](claims.yaml), `metrics/` and counts: what the paper says in prose, the
command that shows it, and what was found here, on rendered pictures, which says nothing of photographs. The status follows from
the figures: a claim is *supported* if every interval (95 %, for other seeds and other queries or pictures at once) lies on the
claimed side, and else *not supported*, which includes that nothing was separated. Each interval stands for itself. The paper's
numbers, cell by cell, are in the report ([score.md](score.md)).
"""


class Need(BaseModel):
    """Intervals that must all lie where a claim has them.

    Attributes:
        file: A file of metrics/, or `text`, ratios of benchmarks.text_length.
        entries: Key of the file, a list of entries with `value`, `low` and `high`; or names of numbers.
        where: Keys and values of the entries that count; of several values, any.
        lies: above or below zero, or within so many points of zero, both ends; of `entries` that are names, above: the
            first is above the second, by the intervals of the file; below: each number is below one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    entries: str | list[str]
    where: dict[str, str | int | list[str]] = {}
    lies: Literal["above", "below"] | float


class Claim(BaseModel):
    """What the paper says and where, what shows it, and what must hold for it; without `needs` it cannot be tested here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    claim: str
    section: str
    command: str
    needs: list[Need] = []
    seen: str = ""  # names in braces stand for measured numbers


def read_claims(path: Path) -> list[Claim]:
    """Returns the claims of a file.

    Raises:
        DataError: It is missing, or an entry is not a `Claim`.
    """
    try:
        return TypeAdapter(list[Claim]).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read: {error}; restore it from git") from None
    except ValidationError as error:
        number, key = (*error.errors()[0]["loc"], "", "")[:2]
        where = f"claim {int(number) + 1}: {key}" if isinstance(number, int) else "the file"
        raise DataError(f"{path}: {where}: {error.errors()[0]['msg']}; see the other entries") from None


def judge(claim: Claim, numbers: Mapping[str, Mapping[str, Any]]) -> tuple[Status, list[str]]:
    """The status of a claim by measured numbers, and the figures that it follows from.

    Raises:
        DataError: A file has the list that a rule asks for, but no entry of it that the rule names.
    """
    if not claim.needs:
        return "cannot be tested here", []
    held, figures = True, []
    for need in claim.needs:
        content = numbers.get(need.file, {})
        keys = [need.entries] if isinstance(need.entries, str) else need.entries
        if any(key not in content for key in keys) or _rows(need) - set(content.get("rows", _rows(need))):
            return "not run yet with this code", []
        found = list(_found(need, content))
        if not found:
            raise DataError(f"claims: {claim.claim!r}: {need.file} {need.entries} has no entry where {need.where}")
        held = held and all(_lies(low, high, need.lies) for _, low, high in found)
        figures += [text for text, _, _ in found]
    return "supported" if held else "not supported", figures


def _rows(need: Need) -> set[str]:
    """Rows of a study that a rule names; some may not have been trained yet."""
    named = (need.where.get(key, []) for key in ("row", "first", "second"))
    return {str(row) for value in named for row in (value if isinstance(value, list) else [value])}


def _found(need: Need, content: Mapping[str, Any]) -> Iterator[tuple[str, float | None, float | None]]:
    """Each figure as text, and the ends of its interval about zero."""
    if isinstance(need.entries, str):
        for entry in content[need.entries]:
            if all(
                entry.get(key) in (value if isinstance(value, list) else [value]) for key, value in need.where.items()
            ):
                low, high = entry["low"], entry["high"]
                ends = "one seed" if low is None else f"{low:.1f} to {high:.1f}"
                yield f"{_label(entry)} {entry['value']:.1f} ({ends})", low, high
    elif "intervals" in content:
        first, second = need.entries
        one, other = (content["intervals"][name] for name in (first, second))
        text = " and ".join(
            f"{name} {content[name]:.1f} ({ends['low']:.1f} to {ends['high']:.1f})"
            for name, ends in ((first, one), (second, other))
        )
        yield text, one["low"] - other["high"], one["high"] - other["low"]
    else:
        for name in need.entries:
            yield f"{name} {content[name]:.2f} times", content[name] - 1, content[name] - 1


def _label(entry: Mapping[str, Any]) -> str:
    """What an entry is a figure of."""
    rows = (
        f"`{entry['first']}` minus `{entry['second']}`"
        if "first" in entry
        else f"`{entry['row']}`"
        if "row" in entry
        else ""
    )
    words = [f"batch {entry['batch']}"] if "batch" in entry else []
    words += [str(entry[key]) for key in ("curve", "of", "score") if entry.get(key)]
    direction = str(entry.get("direction") or "").upper()
    return " ".join(filter(None, [rows, ", ".join(words), direction, f"on {entry['set']}"]))


def _lies(low: float | None, high: float | None, where: str | float) -> bool:
    if low is None or high is None:
        return False
    if where == "above":
        return low > 0
    if where == "below":
        return high < 0
    return -float(where) <= low and high <= float(where)


def claims_page(claims: Sequence[Claim], numbers: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the page; `numbers` are by file what rules and the braces of `seen` name.

    Raises:
        DataError: A claim names a number that was not measured.
    """
    judged = [(claim, *judge(claim, numbers)) for claim in claims]
    page = _HEAD
    for status in STATUSES:
        chosen = [(claim, figures) for claim, found, figures in judged if found == status]
        if chosen:
            page += f"\n## {status.capitalize()}\n"
        for claim, figures in chosen:
            try:
                seen = claim.seen.format(**numbers)
            except (KeyError, IndexError, ValueError, TypeError) as error:
                raise DataError(f"claims: {claim.claim!r} names a number that was not measured: {error}") from None
            text = " ".join(filter(None, [f"{'; '.join(figures)}." if figures else "", seen]))
            page += f"\n**{claim.claim}** [{claim.section}].{' ' if text else ''}{text}\n\n    {claim.command}\n"
    return page
