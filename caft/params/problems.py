"""What is wrong with the settings, in words: one line a problem, with its key, value, reason and cure."""

import difflib
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from caft.errors import ParamsError
from caft.params import file
from caft.params.tables import Section, TrainOverrides, Unit

if TYPE_CHECKING:
    from caft.params import Params

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing to change.

    Attributes:
        location: Keys from the top of the file to the value; numbers are places in a list.
        text: The line for the user, which starts with the dotted key.
    """

    location: Location
    text: str


def explain(root: type[Section], content: dict[str, Any], error: ValidationError) -> list[Problem]:
    """Returns a line for each of pydantic's problems with `content`, which was to become a `root`."""
    return [_explain(root, content, problem) for problem in _as_dicts(error)]


def report(
    path: str,
    overlays: Iterable[tuple[str, dict[str, Any]]],
    content: dict[str, Any],
    problems: list[Problem],
) -> ParamsError:
    """Returns the error that lists the problems in the file's order, with the overlay that set each, if one did."""
    overlays = list(overlays)
    lines = []
    for problem in sorted(problems, key=lambda problem: _position(content, problem.location)):
        setters = [name for name, overlay in overlays if file.gives(overlay, problem.location)]
        lines.append(f"  {problem.text}" + (f" (set in {setters[-1]})" if setters else ""))
    names = " with ".join([path, *(name for name, _ in overlays)])
    count = f"{len(lines)} problem" + "s" * (len(lines) > 1)
    return ParamsError("\n".join([f"{names}: {count}", *lines]))


def _position(content: Any, location: Location) -> tuple[int, ...]:
    """Places of the keys of a location among their siblings, for sorting."""
    position = []
    for part in location:
        siblings = list(content) if isinstance(content, dict) else []
        position.append(siblings.index(part) if part in siblings else len(siblings))
        content = content.get(part) if isinstance(content, dict) else None
    return tuple(position)


def valid_parts(root: type["Params"], content: dict[str, Any], error: ValidationError) -> "Params":
    """Returns settings made of what is valid by itself, so that no problem hides another.

    A bad table entry is left out, a bad override or an unknown key counts as not given, bad corpora are none,
    any other bad part is absent.
    """
    kept = dict(content)
    for problem in _as_dicts(error):
        location = _in_file(problem["loc"])
        if problem["type"] != "extra_forbidden" and location[0] != "train":
            location = (
                location[:2]
                if location[0] in ("models", "recipes", "corpus", "launchers", "benchmarks")
                else location[:1]
            )
        kept = _without(kept, location)
    parts: dict[str, Any] = {
        "corpora": (),
        "train": TrainOverrides(),
        **{name: {} for name in ("models", "recipes", "corpus", "launchers")},
    }
    for name, field in root.model_fields.items():
        if name in kept:
            annotated: Any = typing.Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
            parts[name] = TypeAdapter(annotated).validate_python(kept[name])
    return root.model_construct(**parts)


def _explain(root: type[Section], content: dict[str, Any], problem: dict[str, Any]) -> Problem:
    location = _in_file(problem["loc"])
    key = ".".join(map(str, location))
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return Problem(location, f"{key}: unknown key{_nearest_key(root, content, location)}")
    if kind == "missing" and isinstance(location[-1], int):
        return Problem(location[:-1], f"{'.'.join(map(str, location[:-1]))}: has too few values")
    if kind == "missing":
        return Problem(location[:-1], f"{key}: missing")
    if kind == "union_tag_not_found":
        return Problem(location, f"{key}.kind: missing; must be recaption, custom or scenes")
    if kind == "union_tag_invalid":
        allowed = str(context["expected_tags"]).replace("'", "")
        return Problem((*location, "kind"), f"{key}.kind = {context['tag']}: must be one of {allowed}")
    unit = _unit(_annotation(root, content, location))
    words = {
        "int_type": "must be a whole number",
        "int_from_float": "must be a whole number",
        "int_parsing": "must be a whole number",
        "float_type": "must be a number",
        "finite_number": "must be a finite number",
        "string_type": "must be text",
        "bool_type": "must be true or false",
        "tuple_type": "must be a list",
        "dict_type": "must be a table of keys and values",
        "model_type": "must be a table of keys and values",
        "model_attributes_type": "must be a table of keys and values",
        "greater_than": "must be above {gt:g}",
        "greater_than_equal": "must be at least {ge:g}",
        "less_than": "must be below {lt:g}",
        "less_than_equal": "must be at most {le:g}",
        "multiple_of": "must be a multiple of {multiple_of}",
        "too_short": "needs at least {min_length} values",
        "too_long": "must have {max_length} values, not {actual_length}",
        "literal_error": "must be one of {expected}",
    }
    message = words[kind].format(**context) if kind in words else problem["msg"]
    if kind == "literal_error":
        message = message.replace("'", "").replace(" or ", ", ")
    elif unit and isinstance(problem["input"], int | float):
        message += f" {unit}"
    return Problem(location, f"{key} = {show(problem['input'])}: {message}")


def _as_dicts(error: ValidationError) -> list[dict[str, Any]]:
    return [dict(problem) for problem in error.errors(include_url=False)]


def _in_file(location: Location) -> Location:
    """Drops the kind that a discriminated union puts into a location: it is no key of the file."""
    return location[:2] + location[3:] if location[0] == "corpus" and len(location) > 2 else location


def _nearest_key(root: type[Section], content: dict[str, Any], location: Location) -> str:
    """Suggests a key for an unknown one: a sibling, else one that is called alike elsewhere."""
    parent, name = location[:-1], str(location[-1])
    siblings = _keys(_annotation(root, content, parent))
    close = difflib.get_close_matches(name, siblings, n=1)
    if close:
        return f"; did you mean {'.'.join([*map(str, parent), close[0]])}?"
    elsewhere = {key: f"{part}.{key}" for part in reversed(list(root.model_fields)) for key in _part_keys(root, part)}
    close = difflib.get_close_matches(name, elsewhere, n=1)
    if close:
        return f"; did you mean {elsewhere[close[0]]}?"
    return f"; known are {', '.join(siblings)}"


def _part_keys(root: type[Section], part: str) -> list[str]:
    annotation = root.model_fields[part].annotation
    return _keys(annotation) if isinstance(annotation, type) else []


def _annotation(root: type[Section], content: Any, location: Location) -> Any:
    """Follows a location through the types; None where they end."""
    annotation: Any = root
    for part in location:
        content = content.get(part) if isinstance(content, dict) else None
        model = _model(annotation)
        if model is not None:
            field = model.model_fields.get(str(part))
            if field is None:
                return None
            annotation = typing.Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        elif typing.get_origin(annotation) in (dict, tuple):
            arguments = typing.get_args(annotation)
            annotation = arguments[1] if typing.get_origin(annotation) is dict else arguments[0]
        else:
            return None
        annotation = _chosen(annotation, content)
    return annotation


def _chosen(annotation: Any, content: Any) -> Any:
    """Of a union of models that differ in `kind`, the one that the content says; of a model or null, the model."""
    models = [model for model in _alternatives(annotation) if _model(model) is not None]
    if len(models) == 1:
        return models[0]
    kind = content.get("kind") if isinstance(content, dict) else None
    for model in models:
        if kind is not None and kind in typing.get_args(model.model_fields["kind"].annotation):
            return model
    return annotation


def _alternatives(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) is typing.Annotated:
        return _alternatives(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [inner for argument in typing.get_args(annotation) for inner in _alternatives(argument)]
    return [annotation]


def _model(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _keys(annotation: Any) -> list[str]:
    model = _model(annotation)
    return list(model.model_fields) if model else []


def _unit(annotation: Any) -> str:
    """The unit in a type's annotations, at any depth; empty without one."""
    arguments = typing.get_args(annotation)
    for argument in arguments:
        if isinstance(argument, Unit):
            return argument.name
        if inner := _unit(argument):
            return inner
    return ""


def _without(content: dict[str, Any], location: Location) -> dict[str, Any]:
    """Returns the content without the value at a location, if it is there."""
    first, rest = str(location[0]), location[1:]
    if not rest:
        return {key: value for key, value in content.items() if key != first}
    inner = content.get(first)
    return {**content, first: _without(inner, rest)} if isinstance(inner, dict) else content


def show(value: Any) -> str:
    """Returns a value as it is written in the file, cut when long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(show, value))}]"
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
