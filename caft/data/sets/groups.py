"""Look-alikes of a retrieval set: which pairs belong together, and what the pairs of each group differ in.

A file of our own beside a set in any layout, whose published files stay as they are.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caft.data.sets.files import read_text
from caft.errors import DataError

FILE = "groups.csv"
COLUMNS = ("id", "group", "kind")


@dataclass(frozen=True)
class Group:
    """Pairs of a retrieval set that differ in one thing: its kind, and their places in the set, two at the least."""

    kind: str
    members: tuple[int, ...]


def read_groups(folder: Path, ids: Sequence[str], partial: bool = False) -> tuple[Group, ...]:
    """Reads the groups of a set with one caption an image; none where the folder has no such file.

    Pairs that no line names are in no group. Of a partial set, lines may name pairs that are not there.

    Args:
        folder: That of the set.
        ids: What the set calls its pairs, each once.
        partial: Whether pairs may be missing; a group of which a single one is there is none.

    Raises:
        DataError: The file is of another form, or names pairs that the set does not have.
    """
    path = folder / FILE
    if not path.exists():
        return ()
    rows = csv.DictReader(io.StringIO(read_text(path)))
    if lacking := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
        raise DataError(f"{path}: expected the columns {', '.join(COLUMNS)}, found no {lacking[0]}")
    places = {identity: place for place, identity in enumerate(ids)}
    kinds: dict[str, str] = {}
    members: dict[str, list[int]] = {}
    seen: set[str] = set()
    for row in rows:
        identity, group, kind = (row[name] or "" for name in COLUMNS)
        where = f"{path}, line {rows.line_num}"
        if not (identity and group and kind):
            raise DataError(f"{where}: expected a value for each of {', '.join(COLUMNS)}")
        if identity in seen:
            raise DataError(f"{where}: {identity} is there for a second time; a pair is in one group")
        seen.add(identity)
        if kinds.setdefault(group, kind) != kind:
            raise DataError(
                f"{where}: group {group} is of kind {kind}, and before of {kinds[group]}; expected one kind"
            )
        if identity in places:
            members.setdefault(group, []).append(places[identity])
        elif not partial:
            raise DataError(f"{where}: the set has no pair {identity}; take the file that belongs to it, or remove it")
    alone = [name for name, mine in members.items() if len(mine) < 2]
    if alone and not partial:
        raise DataError(f"{path}: group {alone[0]} has a single pair; expected two or more")
    return tuple(Group(kinds[name], tuple(mine)) for name, mine in members.items() if name not in alone)
