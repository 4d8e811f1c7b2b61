"""The report's templates: jinja2 with automatic escaping, tables, pictures as data URIs; one file without any request."""

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from caft.eval.analysis.curves import Interval
from caft.model.drawing.figures import webp


def render(template: str, **values: Any) -> str:
    """Returns a template of the folder `templates` filled with values."""
    return _TEMPLATES.get_template(template).render(**values)


def cell(value: object) -> object:
    """Returns a value as a table shows it: floats with one decimal, None as a dash, thousands separated, ends of intervals."""
    if value is None:
        return "–"
    if isinstance(value, Interval):
        known = ends(value)
        shown = Markup('<small class="interval">{}</small>').format(known) if known else ""
        return Markup("{:.1f}{}").format(value.value, shown)
    if isinstance(value, float):
        return f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else value


def ends(interval: Interval) -> str:
    """Returns the ends of an interval, `76.9–86.2`; a value of a single seed has none."""
    return "" if interval.low is None or interval.high is None else f"{interval.low:.1f}–{interval.high:.1f}"


def breakable(name: str) -> Markup:
    """Returns a name that may be broken behind an underscore or a slash."""
    return Markup(re.sub("([_/])", r"\1<wbr>", str(escape(name))))


def data_uri(image: Image.Image) -> str:
    """Returns an image as an address that holds its file."""
    return f"data:image/webp;base64,{base64.b64encode(webp(image)).decode('ascii')}"


def pick(values: Mapping[str, Any], keys: Sequence[str]) -> list[Any]:
    """Returns the values of some keys, in their order."""
    return [values[key] for key in keys]


def origin(tags: Mapping[str, str | None]) -> str:
    """Returns where a cell's value comes from, shortened: fingerprint, recipe, commit, changes and MLflow run."""
    known = (tags.get(key) for key in ("fingerprint", "recipe", "commit", "changes", "mlflow_run"))
    return " ".join(tag[:12] for tag in known if tag)


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters |= {
    "breakable": breakable,
    "cell": cell,
    "data_uri": data_uri,
    "ends": ends,
    "origin": origin,
    "pick": pick,
}
