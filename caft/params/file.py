"""Reads YAML as DVC does (version 1.2), and merges overlays over the settings."""

import re
from pathlib import Path
from typing import Any

import yaml

from caft.errors import ParamsError


def read(path: Path) -> dict[str, Any]:
    """Returns the content of a settings file.

    Raises:
        ParamsError: The file is missing, no valid YAML, gives a key twice, or is not a table of keys.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise ParamsError(f"{path}: not found; run from the project's folder, or give --params FILE") from None
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ParamsError(
            f"{path}: is no UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}"
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ParamsError(f"{path}{place}: {error.problem or 'is no valid YAML'}") from None
    except yaml.YAMLError as error:
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


def assigned(text: str) -> dict[str, Any]:
    """Returns the content of a file that sets one value: of `train.batch=96`, `{"train": {"batch": 96}}`.

    Raises:
        ParamsError: It is not a dotted key and a YAML value, joined by an equals sign.
    """
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise ParamsError(f"--set {text}: expected KEY=VALUE with a dotted key, as train.batch=96")
    try:
        content: Any = yaml.load(value, Loader=_Loader)
    except yaml.YAMLError as error:
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


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain values, and no key twice.

    PyYAML follows version 1.1, where 5e-4 is text, `on` is true and 010 is eight; DVC, which writes the file for
    `dvc exp run -S`, follows 1.2. Both must see the same values.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuses a repeated key, of which PyYAML would silently keep the last."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} must be text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), None)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:~|null|Null|NULL|)\Z"), None)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]+\Z"), None)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(rf"(?:{_FLOAT})\Z"), None)


def _whole_number(loader: yaml.SafeLoader, node: yaml.Node) -> int:
    assert isinstance(node, yaml.ScalarNode)
    return int(node.value)


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)
