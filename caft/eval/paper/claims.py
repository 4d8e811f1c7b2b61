"""The ledger of the paper's claims: docs/claims.yaml, filled with measured numbers, as a page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from caft.errors import DataError

Status = Literal["seen on scenes", "counted", "not run"]
STATUSES: tuple[Status, ...] = get_args(Status)
_HEAD = """# The paper's claims

Made by `python -m pipelines.claims` from [claims.yaml](claims.yaml), `metrics/` and counts: what the paper says in prose, the
command that would show it, and what was seen here. *Seen on scenes* is the default run on rendered pictures, which says
nothing of photographs. The paper's numbers, cell by cell, are in the report ([score.md](score.md)).
"""


class Claim(BaseModel):
    """What the paper says and where, what would show it, how far that was tried here, and what was found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    claim: str
    section: str
    command: str
    status: Status
    seen: str  # names in braces stand for measured numbers


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


def claims_page(claims: Sequence[Claim], numbers: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the page; `numbers` are by file what the braces of `seen` name.

    Raises:
        DataError: A claim names a number that was not measured.
    """
    page = _HEAD
    for status in STATUSES:
        chosen = [claim for claim in claims if claim.status == status]
        if chosen:
            page += f"\n## {status.capitalize()}\n"
        for claim in chosen:
            try:
                seen = claim.seen.format(**numbers)
            except (KeyError, IndexError, ValueError, TypeError) as error:
                raise DataError(f"claims: {claim.claim!r} names a number that was not measured: {error}") from None
            page += f"\n**{claim.claim}** [{claim.section}]. {seen}\n\n    {claim.command}\n"
    return page
