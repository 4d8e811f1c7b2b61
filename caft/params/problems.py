"""What is wrong with the settings: one line for each problem, with its key, value and reason."""

import difflib
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from caft.errors import ParamsError
from caft.params.file import TABLES, Location, giver, gives


@dataclass(frozen=True)
class Problem:
    """One thing to change."""

    location: Location  # keys from the top of the file to the value; numbers are places in a list
    reason: str
    value: str = ""  # as it is shown

    def __str__(self) -> str:
        key = ".".join(map(str, self.location))
        return f"{key} = {self.value}: {self.reason}" if self.value else f"{key}: {self.reason}"


def explain(root: type[BaseModel], content: dict[str, Any], error: ValidationError) -> Iterator[Problem]:
    """Yields pydantic's problems with `content`, which was to become a `root`."""
    for problem in error.errors(include_url=False):
        location, value = _in_file(content, problem["loc"]), problem["input"]
        reason = problem["msg"][0].lower() + problem["msg"][1:]
        if problem["type"] == "rule":
            yield Problem(problem["loc"], reason, show(value))
        elif problem["type"] == "extra_forbidden":
            yield Problem(location, f"unknown key{_nearest_key(root, problem['loc'], location)}")
        elif problem["type"] == "missing":
            yield Problem((*location, problem["loc"][-1]), reason)
        else:
            yield Problem(location, reason, "" if isinstance(value, dict) else show(value))


def report(
    path: str, overlays: Iterable[tuple[str, dict[str, Any]]], content: dict[str, Any], problems: Iterable[Problem]
) -> ParamsError:
    """Returns the error that lists problems in the file's order, each once, with the overlay that set it, if one did.

    The content is the file with its overlays, before entries take what they do not give from their bases. Problems are of
    the resolved settings; what an entry has from its base is the base's problem.
    """
    overlays = list(overlays)
    lines = {}
    for problem in problems:
        written = Problem(giver(content, problem.location), problem.reason, problem.value)
        setters = [name for name, overlay in overlays if gives(overlay, written.location)]
        lines[f"  {written}" + (f" (set in {setters[-1]})" if setters else "")] = _position(content, written.location)
    names = " with ".join([path, *(name for name, _ in overlays)])
    count = f"{len(lines)} problem" + "s" * (len(lines) > 1)
    return ParamsError("\n".join([f"{names}: {count}", *sorted(lines, key=lines.__getitem__)]))


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns a suggestion for a name that is not in a table."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


def show(value: Any) -> str:
    """Returns a value as it is written in the file, cut when long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(show, value))}]"
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _in_file(content: Any, location: Location) -> Location:
    """Drops what is no key of the file: the kind in a union of types, and a key that is missing."""
    kept = []
    for part in location:
        if part in (content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()):
            kept.append(part)
            content = content[part]
    return tuple(kept)


def _position(content: Any, location: Location) -> tuple[int, ...]:
    """Places of the keys of a location among their siblings, for sorting."""
    position = []
    for part in location:
        siblings = list(content) if isinstance(content, dict) else []
        position.append(siblings.index(part) if part in siblings else len(siblings))
        content = content.get(part) if isinstance(content, dict) else None
    return tuple(position)


def _nearest_key(root: type[BaseModel], location: Location, place: Location) -> str:
    """Suggests a key for an unknown one: a sibling, else one that is called alike in another part of the file.

    `location` is the unknown key's as pydantic gives it, `place` as the file has it.
    """
    name, siblings = str(place[-1]), _keys(root, location[:-1])
    if close := difflib.get_close_matches(name, siblings, n=1):
        return f"; did you mean {'.'.join([*map(str, place[:-1]), close[0]])}?"
    parts = [part for part, field in root.model_fields.items() if isinstance(field.annotation, type)]
    elsewhere = {key: f"{part}.{key}" for part in reversed(parts) for key in _keys(root, (part,))}
    if close := difflib.get_close_matches(name, elsewhere, n=1):
        return f"; did you mean {elsewhere[close[0]]}?"
    return f"; known are {', '.join(siblings)}"


def _keys(root: type[BaseModel], location: Location) -> list[str]:
    """The keys that the types know at a location, in which pydantic names the kind where a table has several."""
    models = [root]
    for part in location:
        fields = [model.model_fields[str(part)] for model in models if part in model.model_fields]
        kinds = [model for model in models if "kind" in model.model_fields and _is_of(model, part)]
        models = kinds or [model for field in fields for model in _models(field.annotation)] or models
    own = ["base"] if location[0:1] and location[0] in TABLES and len(location) == 2 else []
    return own + [key for model in models for key in model.model_fields]


def _is_of(model: type[BaseModel], kind: str | int) -> bool:
    return kind in typing.get_args(model.model_fields["kind"].annotation)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections in a type: of `dict[str, ModelParams]`, of a section or null, of several kinds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)
