"""Line charts as inline SVG by matplotlib: no script, no request, colours from the page's style sheet."""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

Span = Literal["free", "zero", "close"]
# Drawn colours, and the variables of style.css that take their place, so that charts follow the reader's dark mode.
_LINES = {"#0b6e8a": "c0", "#d1495b": "c1", "#b8860b": "c2", "#5b5ea6": "c3", "#2e8b57": "c4"}
_SOFT, _RULE = "#5d6b7a", "#dfe5ec"
_VARIABLES = {**_LINES, _SOFT: "soft", _RULE: "rule"}
_COLOURS = list(_LINES)
_LEAST = 5.0  # points of percent that an axis spans, so that differences of a query or two do not look large
_SETTINGS: dict[Any, object] = {
    "svg.fonttype": "none",  # text stays text: smaller, and in the page's font
    "svg.hashsalt": "caft",  # equal charts give equal bytes
    "font.size": 10,
    "text.color": _SOFT,
    "axes.labelcolor": _SOFT,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
}
_NOTHING = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # no metadata: they hold the time and the version


@dataclass(frozen=True)
class Series:
    """One line."""

    name: str
    points: Sequence[tuple[float, float]]  # x and y, in order of x
    colour: int  # number of a colour of the style sheet
    dashed: bool = False
    band: Sequence[tuple[float, float, float]] = ()  # x, lowest and highest y: an area behind the line


@dataclass(frozen=True)
class Chart:
    """A drawn chart: its title, its unit or what is to be known of its axis, and an SVG element."""

    title: str
    unit: str
    svg: Markup


def line_chart(
    title: str,
    series: Sequence[Series],
    x_label: str,
    unit: str,
    span: Span = "free",
    log: bool = False,
) -> Chart | None:
    """Draws a chart with its legend; series without points are left out. Without any series, returns None.

    The y axis, in `unit`, begins at `zero`, or is `close`: of percent, it spans what is drawn, at least five points, and
    says so. With `log` the x axis is logarithmic, with a tick at each x.
    """
    series = [line for line in series if line.points]
    if not series:
        return None
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(5.2, 2.9), layout="constrained", facecolor="none")
        axes = figure.add_subplot(facecolor="none")
        axes.spines[:].set_visible(False)
        axes.grid(axis="y", color=_RULE, linewidth=0.8, clip_on=False)
        axes.tick_params(length=0, pad=6)
        axes.margins(x=0)
        axes.set_xlabel(x_label, loc="right")
        for line in series:
            colour, (x, y) = _COLOURS[line.colour], zip(*line.points, strict=True)
            # Nothing is clipped: that needs url(), which the page has none of.
            dashes = (0, (4, 3)) if line.dashed else "-"
            axes.plot(x, y, color=colour, linestyle=dashes, label=line.name, clip_on=False)
            if line.band:
                places, low, high = zip(*line.band, strict=True)
                axes.fill_between(places, low, high, color=colour, alpha=0.18, linewidth=0, clip_on=False)
        if log:
            ticks = sorted({x for line in series for x, _ in line.points})
            axes.set_xscale("log")
            axes.set_xticks(ticks, [f"{tick:,g}" if tick < 1000 else f"{tick:,.0f}" for tick in ticks])
            axes.minorticks_off()
        if span == "zero":
            axes.set_ylim(bottom=min(0.0, *(y for line in series for _, y in line.points)))
        if span == "close":
            ends = close_range(series)
            axes.set_ylim(*ends)
            axes.set_ylabel(unit)
            unit = f"axis from {ends[0]:g} to {ends[1]:g}"
        figure.legend(loc="outside lower left", ncols=2, frameon=False)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata=_NOTHING)
    return Chart(title, unit, _inline(file.getvalue(), title))


def close_range(series: Sequence[Series]) -> tuple[float, float]:
    """Returns ends of a percent axis that spans lines and bands with a little room, in whole numbers inside 0 to 100."""
    drawn = [y for line in series for _, y in line.points]
    drawn += [y for line in series for _, *ends in line.band for y in ends]
    low, high = min(drawn), max(drawn)
    room = max(0.05 * (high - low), (_LEAST - (high - low)) / 2)
    low, high = math.floor(max(0.0, low - room)), math.ceil(min(100.0, high + room))
    return float(low), float(high)


def _inline(document: str, title: str) -> Markup:
    """The SVG element of a file, named for readers that see no picture, without ids that a second chart
    would repeat.
    """
    element = document[document.index("<svg") :]
    element = re.sub(r' id="[\w.]+_\d+"| (?:width|height)="[\d.]+pt"| font-family: [^;]+;', "", element)
    for colour, variable in _VARIABLES.items():
        element = element.replace(colour, f"var(--{variable})")
    label = Markup(' role="img" aria-label="{}"').format(title)
    return Markup(element.replace("<svg", f"<svg{label}", 1))
