"""Line charts as SVG text: no script, no request, colours from the page's style sheet."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

_WIDTH, _HEIGHT = 500, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 24, 12, 42


@dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        name: In the legend.
        points: x and y, in order of x.
        colour: Number of a colour of the style sheet.
        dashed: For a second kind of line in the same colour.
        band: x, lowest and highest y, drawn as an area behind the line.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: int
    dashed: bool = False
    band: Sequence[tuple[float, float, float]] = ()


def line_chart(title: str, series: Sequence[Series], x_label: str, y_label: str, from_zero: bool = False) -> str:
    """Returns a figure with a chart and its legend; empty series are left out.

    Args:
        title: Above the chart.
        series: Lines.
        x_label: Below.
        y_label: In the title, in small type.
        from_zero: The y axis begins at zero.
    """
    series = [line for line in series if line.points]
    if not series:
        return ""
    xs = [x for line in series for x, _ in line.points]
    ys = [y for line in series for _, y in line.points]
    ys += [y for line in series for _, *ends in line.band for y in ends]
    x_ticks = _ticks(min(xs), max(xs), 6)
    y_ticks = _ticks(min(0.0, *ys) if from_zero else min(ys), max(ys), 5)
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1e-9)
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low)
        up = (y - y_low) / (y_high - y_low)
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)

    parts = []
    for y in y_ticks:
        _, height = place(x_low, y)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{height + 4:.1f}" text-anchor="end">{_number(y)}</text>')
    for x in x_ticks:
        if x_low <= x <= x_high:
            across, _ = place(x, y_low)
            parts.append(
                f'<text x="{across:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{_number(x)}</text>'
            )
    parts.append(
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end" class="label">{_safe(x_label)}</text>'
    )
    for line in series:
        if line.band:
            edge = [(x, high) for x, _, high in line.band] + [(x, low) for x, low, _ in reversed(line.band)]
            corners = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in edge)
            parts.append(f'<polygon class="band c{line.colour}" points="{corners}"/>')
    for line in series:
        points = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in line.points)
        kind = f"line c{line.colour}" + (" dashed" if line.dashed else "")
        last = line.points[-1]
        parts.append(
            f'<polyline class="{kind}" points="{points}"><title>{_safe(line.name)}: {_number(last[1])} '
            f"at {_number(last[0])}</title></polyline>"
        )
    legend = "".join(
        f'<span><i class="key c{line.colour}{" dashed" if line.dashed else ""}"></i>{_safe(line.name)}</span>'
        for line in series
    )
    return (
        f'<figure class="chart"><figcaption>{_safe(title)} <small>{_safe(y_label)}</small></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{_safe(title)}">{"".join(parts)}</svg>'
        f'<div class="legend">{legend}</div></figure>'
    )


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers that enclose the range."""
    span = high - low or abs(high) or 1.0
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if last == first:
        last += 1
    return [number * step for number in range(first, last + 1)]


def _number(value: float) -> str:
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.3g}"
    return f"{value:,.3f}".rstrip("0").rstrip(".") if abs(value) < 100 else f"{value:,.0f}"


def _safe(text: str) -> str:
    return html.escape(text, quote=True)
