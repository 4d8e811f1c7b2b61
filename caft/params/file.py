"""Reads settings files as DVC does, and what is done with tables of nested keys: merge, flatten, look up."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from caft.errors import ParamsError


def read(path: Path) -> dict[str, Any]:
    """Returns the content of a settings file.

    Raises:
        ParamsError: The file is missing, no valid YAML, gives a key twice, or is not a table of keys.
    """
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        content = _parsed(path.read_text(encoding="utf-8"))
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
        content = _parsed(value)
    except YAMLError as error:
        raise ParamsError(f"--set {text}: the value is no valid YAML: {error}") from None
    for part in reversed(key.split(".")):
        content = {part: content}
    return dict(content)


def gives(content: dict[str, Any], location: tuple[Any, ...]) -> bool:
    """Tells whether a file's content sets the value at a location, or a part of it."""
    value: Any = content
    for part in location:
        if not isinstance(value, dict):
            return True  # this file replaced the whole value that the location lies in
        if part not in value:
            return False
        value = value[part]
    return True


def _parsed(text: str) -> Any:
    """Returns the value of YAML 1.2, by the library that DVC reads and writes the file with."""
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(text)
