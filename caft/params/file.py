"""Reads settings files as DVC does; merges and flattens their nested keys, and fills entries from their bases.

An entry of some tables may take the values that it does not give from another entry, which it names by `base`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from caft.errors import ParamsError

# The tables whose entries may have a base. In others, a stage of DVC depends on the selected entry alone.
TABLES = ("recipes", "launchers", "benchmarks")
# A stage that reads the selected recipe depends on it and on this one (dvc.yaml), so a recipe can have no other base.
_OF_RECIPES = "paper"
# What the stage train depends on, of the selected launcher's own entry; DVC ends where one is absent.
_OF_TRAIN = ("nodes", "tasks_per_node", "ranks_of_run", "micro_batch", "compile")

Location = tuple[str | int, ...]


def read(path: Path) -> dict[str, Any]:
    """Returns the content of a settings file.

    Raises:
        ParamsError: The file is missing, no valid YAML, gives a key twice, or is not a table of keys.
    """
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        content = parsed(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path}: not found; run from the project's folder, or give --params FILE") from None
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ParamsError(
            f"{path}: is no UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}"
        ) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ParamsError(f"{path}{place}: {error.problem or 'is no valid YAML'}") from None
    except YAMLError as error:
        raise ParamsError(f"{path}: is no valid YAML: {error}") from None
    if not isinstance(content, dict):
        found = "nothing" if content is None else f"a {type(content).__name__}"
        raise ParamsError(f"{path}: must be a table of keys and values; found {found}")
    return content


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Returns `base` with the values of `over`; tables are merged key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = merge(base[key], value) if both else value
    return merged


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted keys and values of nested tables, in their order."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def assigned(text: str) -> dict[str, Any]:
    """Returns the content of a file that sets one value: of `train.batch=96`, `{"train": {"batch": 96}}`.

    Raises:
        ParamsError: It is not a dotted key and a YAML value, joined by an equals sign.
    """
    from ruamel.yaml.error import YAMLError

    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise ParamsError(f"--set {text}: expected KEY=VALUE with a dotted key, as train.batch=96")
    try:
        content = parsed(value)
    except YAMLError as error:
        raise ParamsError(f"--set {text}: the value is no valid YAML: {error}") from None
    for part in reversed(key.split(".")):
        content = {part: content}
    return dict(content)


def gives(content: dict[str, Any], location: Location) -> bool:
    """Tells whether a file's content sets the value at a location, or a part of it."""
    value: Any = content
    for part in location:
        if not isinstance(value, dict):
            return True  # this file replaced the whole value that the location lies in
        if part not in value:
            return False
        value = value[part]
    return True


def parsed(text: str) -> Any:
    """Returns the value of YAML 1.2, by the library that DVC reads and writes the file with."""
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(text)


# ---- bases


def resolve(content: dict[str, Any]) -> dict[str, Any]:
    """Returns settings in which each entry also holds the values of its base that it does not replace.

    `base_problems` must have found nothing in them.
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


def base_problems(content: dict[str, Any]) -> Iterator[tuple[Location, str, str]]:
    """Yields what is wrong with bases, and keys that DVC needs: location, reason and value as it is shown."""
    for table, name, entry in _with_base(content):
        base, location = entry["base"], (table, name, "base")
        roots = [key for key, other in content[table].items() if isinstance(other, dict) and "base" not in other]
        if base not in roots:
            yield location, f"must be an entry of {table} without a base: {', '.join(map(str, roots))}", str(base)
        elif table == "recipes" and base != _OF_RECIPES:
            yield location, f"must be {_OF_RECIPES}, on which stages depend beside the selected recipe (dvc.yaml)", base
        elif table == "recipes" and "splitter" not in entry:
            yield location[:2], "give splitter beside base: the stage index depends on this key of a recipe alone", ""
        elif table == "launchers" and "arithmetic" not in entry:
            yield location[:2], "give arithmetic beside base: stages depend on this key of a launcher alone", ""
    launchers, launch = content.get("launchers"), content.get("launch")
    selected = launchers.get(launch) if isinstance(launchers, dict) and isinstance(launch, str) else None
    if isinstance(selected, dict) and (absent := [key for key in _OF_TRAIN if key not in selected]):
        wanted = f"give {', '.join(absent)}: of the selected launcher, DVC wants each key to be there"
        yield ("launchers", str(launch)), wanted, ""


def _with_base(content: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields table, name and content of each entry that names a base."""
    for table in TABLES:
        entries = content.get(table)
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            if isinstance(entry, dict) and "base" in entry:
                yield table, name, entry
