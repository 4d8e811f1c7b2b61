"""The ledger of the paper's claims: docs/claims.yaml, filled with measured numbers, as a page."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from caft.errors import DataError

STATUSES = ("seen on scenes", "counted", "not run")
_KEYS = {"claim", "section", "command", "status", "seen"}
_HEAD = """# The paper's claims

Made by `python -m pipelines.claims` from [claims.yaml](claims.yaml), `metrics/` and counts: what the paper says in prose, the
command that would show it, and what was seen here. *Seen on scenes* is the default run on rendered pictures, which says
nothing of photographs. The paper's numbers, cell by cell, are in the report ([score.md](score.md)).
"""


def read_claims(path: Path) -> list[dict[str, str]]:
    """The claims of a file.

    Raises:
        DataError: It is missing, an entry lacks a key or has another, or a status is none of `STATUSES`.
    """
    try:
        claims = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read: {error}; restore it from git") from None
    for number, claim in enumerate(claims, start=1):
        if set(claim) != _KEYS or not all(isinstance(value, str) for value in claim.values()):
            raise DataError(f"{path}: claim {number}: expected texts under {', '.join(sorted(_KEYS))}; found {claim}")
        if claim["status"] not in STATUSES:
            raise DataError(
                f"{path}: claim {number}: status is {claim['status']}, expected one of {', '.join(STATUSES)}"
            )
    return claims


def render(claims: list[dict[str, str]], numbers: Mapping[str, Mapping[str, Any]]) -> str:
    """The page.

    Args:
        claims: As `read_claims` gives them.
        numbers: By file, what the braces of `seen` name.

    Raises:
        DataError: A claim names a number that is not there.
    """
    return _HEAD + "".join(_sections(claims, numbers))


def _sections(claims: list[dict[str, str]], numbers: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for status in STATUSES:
        chosen = [claim for claim in claims if claim["status"] == status]
        if chosen:
            yield f"\n## {status.capitalize()}\n"
        for claim in chosen:
            try:
                seen = claim["seen"].format(**numbers)
            except (KeyError, IndexError, ValueError, TypeError) as error:
                raise DataError(f"claims: {claim['claim']!r} names a number that is not there: {error}") from None
            yield f"\n**{claim['claim']}** [{claim['section']}]. {seen}\n\n    {claim['command']}\n"
