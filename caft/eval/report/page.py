"""The frame of the report: style sheet, tables, pictures as data URIs; one file without any request."""

import base64
import html
from collections.abc import Mapping, Sequence

from PIL import Image

from caft.model.drawing.figures import webp

_STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1d2733; --soft: #5d6b7a; --paper: #fbfcfd; --card: #fff; --rule: #dfe5ec;
  --accent: #0b6e8a; --good: #1e8449; --bad: #b03a2e;
  --c0: #0b6e8a; --c1: #d1495b; --c2: #b8860b; --c3: #5b5ea6; --c4: #2e8b57;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6ebf1; --soft: #9aa8b7; --paper: #12171d; --card: #1a2129; --rule: #2d3742;
    --accent: #59c3dd; --good: #58d68d; --bad: #ec7063;
    --c0: #59c3dd; --c1: #ff8a98; --c2: #f0c04a; --c3: #a3a6f0; --c4: #6fd39a;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 32px 24px 80px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; }
h2 { font-size: 22px; margin: 52px 0 8px; }
h3 { font-size: 16px; margin: 26px 0 6px; }
p { max-width: 75ch; margin: 6px 0 12px; }
figure { margin: 0; }
.soft, small { color: var(--soft); }
nav { margin: 14px 0 22px; }
nav a { margin-right: 16px; color: var(--accent); text-decoration: none; }

.tile, .chart, .case { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 14px 16px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 14px; }
.tile b { display: block; font-size: 30px; line-height: 1.2; }
.tile span { display: block; color: var(--soft); font-size: 14px; }

.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 8px 0 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 20px 5px 0; text-align: right; border-bottom: 1px solid var(--rule); vertical-align: top; }
th { font-weight: 600; color: var(--soft); font-size: 14px; }
th:first-child, td:first-child, details td, details th { text-align: left; }
tr.control td { color: var(--soft); font-style: italic; }
tr.head td { font-weight: 600; padding-top: 14px; }
details { margin: 10px 0; }
summary { cursor: pointer; color: var(--accent); }

.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 16px; margin: 12px 0; }
.chart figcaption { font-weight: 600; margin-bottom: 6px; }
.chart small { font-weight: 400; }
.chart svg { width: 100%; display: block; }
.chart text { fill: var(--soft); font: 12px system-ui, sans-serif; }
.grid { stroke: var(--rule); }
.band { stroke: none; opacity: 0.18; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.line.dashed { stroke-dasharray: 5 4; }
.legend { font-size: 13px; color: var(--soft); }
.legend span { margin-right: 16px; white-space: nowrap; }
.key { display: inline-block; width: 20px; border-top: 3px solid; margin-right: 6px; vertical-align: middle; }
.key.dashed { border-top-style: dashed; }
.c0 { stroke: var(--c0); border-color: var(--c0); }
.band.c0 { fill: var(--c0); }
.c1 { stroke: var(--c1); border-color: var(--c1); }
.band.c1 { fill: var(--c1); }
.c2 { stroke: var(--c2); border-color: var(--c2); }
.band.c2 { fill: var(--c2); }
.c3 { stroke: var(--c3); border-color: var(--c3); }
.band.c3 { fill: var(--c3); }
.c4 { stroke: var(--c4); border-color: var(--c4); }
.band.c4 { fill: var(--c4); }

.case { margin: 12px 0; }
.case > p { margin: 0 0 10px; max-width: none; }
.row { display: flex; flex-wrap: wrap; gap: 14px; }
.row figure { width: 140px; }
.row.small { gap: 8px; }
.row.small figure { width: 92px; }
.pair { display: flex; gap: 6px; padding-right: 12px; }
.halves { display: grid; grid-template-columns: 1fr 1fr; gap: 20px; flex: 1; }
.cards { display: grid; grid-template-columns: repeat(3, 1fr); gap: 14px; margin: 12px 0; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 12px; display: flex; gap: 12px; }
.card figure { flex: 0 0 104px; }
.card img { width: 100%; display: block; border-radius: 4px; }
.card figcaption { font-size: 12px; color: var(--soft); margin-top: 4px; }
.card p { font-size: 12.5px; line-height: 1.4; margin: 0 0 8px; overflow-wrap: anywhere; }
.columns { display: flex; flex-wrap: wrap; gap: 8px 20px; align-items: flex-start; font-size: 14px; }
.kind { background: var(--rule); border-radius: 4px; padding: 2px 8px; margin-right: 6px; font-size: 13px; font-weight: 600; }
dl { max-width: 85ch; }
dt { font-weight: 600; }
dd { margin: 0 0 8px; color: var(--soft); }
h4 { font-size: 14px; margin: 0 0 8px; }
.case img { width: 100%; display: block; border-radius: 4px; }
.case figcaption { font-size: 13px; line-height: 1.35; color: var(--soft); margin-top: 6px; overflow-wrap: anywhere; }
figure.truth img { outline: 4px solid var(--good); }
figure.truth figcaption, li.truth { color: var(--good); font-weight: 600; }
.answers { display: flex; gap: 18px; }
.answers figure { flex: 0 0 150px; }
.answers ol { margin: 0; padding-left: 28px; font-size: 14px; }
.answers li { margin-bottom: 5px; }
.hit { color: var(--good); font-weight: 600; }
.miss { color: var(--bad); font-weight: 600; }
"""


def page(title: str, body: str) -> str:
    """Returns a whole HTML document."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{safe(title)}</title>\n<link rel="icon" href="data:,">\n<style>{_STYLE}</style>\n</head>\n'
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[object]], kinds: Sequence[str] | None = None) -> str:
    """Returns a table.

    Args:
        header: Column names.
        rows: Cells; floats get one decimal, None a dash.
        kinds: Class of each row: "", "control" or "head".
    """
    kinds = kinds or [""] * len(rows)
    head = "".join(f"<th>{safe(name)}</th>" for name in header)
    body = "".join(
        f'<tr class="{kind}">' + "".join(f"<td>{cell(value)}</td>" for value in row) + "</tr>\n"
        for row, kind in zip(rows, kinds, strict=True)
    )
    return f'<div class="scroll"><table>\n<tr>{head}</tr>\n{body}</table></div>\n'


def terms(meanings: Mapping[str, str]) -> str:
    """Returns a list of terms, each with what it means."""
    return (
        "<dl>" + "".join(f"<dt>{safe(term)}</dt><dd>{safe(text)}</dd>" for term, text in meanings.items()) + "</dl>\n"
    )


def cell(value: object) -> str:
    """Returns a value as text of a table's cell."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else safe(str(value))


def picture(image: Image.Image, alt: str) -> str:
    """Returns an image element that carries its file."""
    data = base64.b64encode(webp(image)).decode("ascii")
    return f'<img alt="{safe(alt)}" src="data:image/webp;base64,{data}">'


def captioned(image: Image.Image, caption: str, kind: str = "") -> str:
    """Returns an image with a line below; `kind` "truth" frames it."""
    return f'<figure class="{kind}">{picture(image, caption)}<figcaption>{safe(caption)}</figcaption></figure>'


def safe(text: str) -> str:
    """Returns text with HTML's special characters escaped."""
    return html.escape(text, quote=True)
