"""Entries of params.yaml that are written as their differences from another entry, which they name by `base`."""

from collections.abc import Iterator
from typing import Any

from caft.params.file import gives, merge

# The tables whose entries may have a base. In others, a stage of DVC depends on the selected entry alone.
TABLES = ("recipes", "launchers", "benchmarks")
# A stage that reads the selected recipe depends on it and on this one (dvc.yaml), so a recipe can have no other base.
_OF_RECIPES = "paper"

Location = tuple[str | int, ...]


def resolve(content: dict[str, Any]) -> dict[str, Any]:
    """Returns settings in which each entry holds the values of its base too, where it does not replace them.

    Args:
        content: Settings in whose bases `problems` finds nothing wrong.
    """
    resolved = dict(content)
    for table, name, entry in _with_base(content):
        own = {key: value for key, value in entry.items() if key != "base"}
        resolved[table] = resolved[table] | {name: merge(content[table][entry["base"]], own)}
    return resolved


def giver(content: dict[str, Any], location: Location) -> Location:
    """Returns where a value of the resolved settings is written: in its entry, or in that entry's base."""
    for table, name, entry in _with_base(content):
        if location[:2] == (table, name) and len(location) > 2 and not gives(entry, location[2:]):
            return (table, entry["base"], *location[2:])
    return location


def problems(content: dict[str, Any]) -> Iterator[tuple[Location, str, str]]:
    """Yields what is wrong with bases: location, reason and value as it is shown."""
    for table, name, entry in _with_base(content):
        base, location = entry["base"], (table, name, "base")
        roots = [key for key, other in content[table].items() if isinstance(other, dict) and "base" not in other]
        if base not in roots:
            yield location, f"must be an entry of {table} without a base: {', '.join(map(str, roots))}", str(base)
        elif table == "recipes" and base != _OF_RECIPES:
            yield location, f"must be {_OF_RECIPES}, on which stages depend beside the selected recipe (dvc.yaml)", base
        elif table == "recipes" and "splitter" not in entry:
            yield location[:2], "give splitter beside base: the stage index depends on this key of a recipe alone", ""


def _with_base(content: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields table, name and content of each entry that names a base."""
    for table in TABLES:
        entries = content.get(table)
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            if isinstance(entry, dict) and "base" in entry:
                yield table, name, entry
