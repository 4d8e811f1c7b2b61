"""Sheets of what a model sees in a picture: where sentences look and the masks they find, nested segments."""

import re
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from caft import storage
from caft.model.drawing.figures import (
    PREDICTION,
    SENTENCES,
    borders,
    colour_bar,
    cut_out,
    outline,
    overlay,
    segmentations,
    tinted,
)
from caft.model.drawing.lettering import Font, font_of, line_height, text_width, wrapped, write_line
from caft.model.match import SentenceMatch
from caft.model.otsu import otsu_mask

_GAP, _MARGIN = 8, 12
_INK, _MUTED, _PAPER = (29, 39, 51), (96, 105, 117), (255, 255, 255)
_GREYED = (150, 150, 150)
_WIDE = 3  # width over height from which pictures stand below each other
_NARROWEST = 140  # pixels that a caption or a scale has at least, if it needs them
NOT_BORNE_OUT = "not borne out by the picture"


class Panel(NamedTuple):
    """A picture of a sheet; also a plain pair of picture and caption.

    Attributes:
        picture: RGB.
        caption: Below it.
        scale: Least and largest value of a map, shown as a bar of colours.
        name: Of its file, without ending, if pictures are written one by one; None makes one of number and caption.
    """

    picture: Image.Image
    caption: str
    scale: tuple[float, float] | None = None
    name: str | None = None


# A heading, whose further lines are set in grey, and pictures.
Block = tuple[str, Sequence[Panel | tuple[Image.Image, str]]]


def looks(shown: Image.Image, matches: Sequence[SentenceMatch], maps: Sequence[NDArray[np.float32]]) -> list[Block]:
    """Picture, attention and mask of each sentence by maps (height, width), then the masks of several in one picture.

    The mask of a sentence that the picture does not bear out is grey.
    """
    blocks: list[Block] = []
    masks = [otsu_mask(values) for values in maps]
    for number, (match, values, mask) in enumerate(zip(matches, maps, masks, strict=True)):
        if match.borne_out:
            drawn, said = masked(shown, mask), "mask"
        else:
            grey = shown.convert("L").convert("RGB")
            drawn, said = outline(cut_out(grey, mask), mask, _GREYED), f"mask, grey: {NOT_BORNE_OUT}"
        scale = float(values.min()), float(values.max())
        panels = [
            Panel(shown, "picture", name=f"{number}-picture"),
            Panel(overlay(shown, values), "attention", scale, f"{number}-attention"),
            Panel(drawn, said, name=f"{number}-mask"),
        ]
        blocks.append((f"{match.text}\n{score_line(match)}", panels))
    if len(matches) > 1:
        groups = range(0, len(matches), len(SENTENCES))  # each colour once in a picture
        for number, first in enumerate(groups):
            some = slice(first, first + len(SENTENCES))
            all_of_them = len(groups) == 1
            title = "All sentences" if all_of_them else f"Sentences {first + 1} to {min(some.stop, len(matches))}"
            together = _together(shown, matches[some], masks[some], "" if all_of_them else f"-{number}")
            blocks.append((title, together))
    return blocks


def score_line(match: SentenceMatch) -> str:
    """What a match is, in words."""
    line = f"match {_percent(match.probability)}, above {match.percentile:.0f} % of the reference sentences"
    return line if match.borne_out else f"{line}: {NOT_BORNE_OUT}"


def _percent(share: float) -> str:
    """A probability, never rounded to the certainty that it is not."""
    percent = 100 * share
    return "under 1 %" if percent < 1 else "over 99 %" if percent > 99 else f"{percent:.0f} %"


def _together(
    shown: Image.Image, matches: Sequence[SentenceMatch], masks: Sequence[NDArray[np.bool_]], ending: str
) -> list[Panel]:
    """The masks of sentences that a picture bears out in one, and a legend as wide as what stands there in other rows."""
    colours = SENTENCES[: len(matches)]
    found = [number for number, match in enumerate(matches) if match.borne_out]
    picture = tinted(shown, [masks[number] for number in found], [colours[number] for number in found])
    font = _font(shown)
    line = line_height(font)
    width = shown.width if _is_wide(shown) else max(2 * shown.width + _GAP, 2 * _NARROWEST)
    square = line - 6
    rows: list[tuple[tuple[int, int, int] | None, list[str]]] = [
        (colour if match.borne_out else None, wrapped(match.text, width - _GAP - square, font))
        for match, colour in zip(matches, colours, strict=True)
    ]
    note = wrapped(f"empty square: {NOT_BORNE_OUT}", width, font) if len(found) < len(matches) else []
    overlap = len(found) > 1 and np.sum([masks[number] for number in found], axis=0).max() > 1
    note += wrapped("stripes: pixels of several sentences", width, font) if overlap else []
    legend = Image.new("RGB", (width, sum(line * len(lines) + 6 for _, lines in rows) + line * len(note)), _PAPER)
    draw = ImageDraw.Draw(legend)
    y = 0
    for swatch, lines in rows:
        draw.rectangle((0, y + 3, square, y + 3 + square), fill=swatch or _PAPER, outline=swatch or _GREYED, width=2)
        for text in lines:
            write_line(draw, (square + _GAP, y), text, _INK if swatch else _MUTED, font)
            y += line
        y += 6
    for text in note:
        write_line(draw, (0, y), text, _MUTED, font)
        y += line
    return [Panel(picture, "", name=f"all{ending}"), Panel(legend, "", name=f"legend{ending}")]


def segments(shown: Image.Image, levels: Sequence[NDArray[np.integer]]) -> Block:
    """Superpixels and their groups, fine to coarse and of any size, as a picture each; a flat tower has patches alone."""
    first, *counts = (len(np.unique(labels)) for labels in levels)
    pictures = [(borders(shown, levels[0]), f"{first} superpixels")]
    for picture, count in zip(segmentations(shown, levels[1:]), counts, strict=True):
        pictures.append((picture, f"{count} segments"))
    return "from superpixels to segments", pictures


def masked(image: Image.Image, mask: NDArray[np.bool_]) -> Image.Image:
    """What a mask leaves of an image, outlined, since the object itself may be dark."""
    return outline(cut_out(image, mask), mask, PREDICTION)


def write(blocks: Sequence[Block], columns: int, output: Path, title: str = "", palette: bool = False) -> list[Path]:
    """Writes one sheet, or each picture into a folder; returns the files.

    The output is one that `caft.model.output.check_output` takes. A palette makes the sheet's file a third, and
    is for pictures of few colours, such as rendered scenes; it is packed as small as it can be. Of a photograph that would
    take three times as long for the last fiftieth.
    """
    if output.suffix and not output.is_dir():
        with storage.replacing(output) as temporary:
            picture = sheet(blocks, columns, title)
            (picture.quantize(256) if palette else picture).save(temporary, "PNG", optimize=palette)
        return [output]
    output.mkdir(parents=True, exist_ok=True)
    files = []
    for number, (_, pictures) in enumerate(blocks):
        for panel in (Panel(*entry) for entry in pictures):
            files.append(output / f"{panel.name or _name(number, panel.caption)}.png")
            with storage.replacing(files[-1]) as temporary:
                panel.picture.save(temporary, "PNG")
    return files


def _name(number: int, caption: str) -> str:
    return "-".join([str(number), *re.findall(r"\w+", caption)])


def sheet(blocks: Sequence[Block], columns: int = 1, title: str = "") -> Image.Image:
    """Returns blocks in rows of `columns`: pictures beside each other under a heading, a caption below each picture.

    An empty caption takes no room if all of its row are empty.
    """
    drawn = [_block(heading, [Panel(*entry) for entry in pictures]) for heading, pictures in blocks]
    rows = [drawn[first : first + columns] for first in range(0, len(drawn), columns)]
    widths = [max(row[column].width for row in rows if column < len(row)) for column in range(min(columns, len(drawn)))]
    width = sum(widths) + 2 * _GAP * (len(widths) - 1) + 2 * _MARGIN
    font = _font(max((panel[0] for _, pictures in blocks for panel in pictures[:1]), key=lambda first: first.width))
    line = line_height(font)
    above = wrapped(title, width - 2 * _MARGIN, font)
    top = _MARGIN + (line * len(above) + _GAP if above else 0)
    height = sum(max(block.height for block in row) for row in rows) + 2 * _GAP * (len(rows) - 1) + top + _MARGIN
    canvas = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, text in enumerate(above):
        write_line(draw, (_MARGIN, _MARGIN + number * line), text, _INK, font)
    y = top
    for row in rows:
        x = _MARGIN
        for block, room in zip(row, widths, strict=False):
            canvas.paste(block, (x, y))
            x += room + 2 * _GAP
        y += max(block.height for block in row) + 2 * _GAP
    return canvas


def _font(picture: Image.Image) -> Font:
    """The font beside a picture, and beside the two that stand next to it unless these are below it."""
    return font_of(picture.width // 3 if _is_wide(picture) else picture.width)


def _is_wide(picture: Image.Image) -> bool:
    """Whether pictures of its shape stand below each other, as panoramas."""
    return picture.width > _WIDE * picture.height


def _block(heading: str, panels: Sequence[Panel]) -> Image.Image:
    """A heading and its pictures: beside each other, or panoramas below each other."""
    font = _font(panels[0].picture)
    line = line_height(font)
    rows = [[panel] for panel in panels] if _is_wide(panels[0].picture) else [panels]
    drawn = [_row(row, font) for row in rows]
    width = max(row.width for row in drawn)
    title, *more = heading.split("\n")
    above = [(text, _INK) for text in wrapped(title, width, font)]
    above += [(text, _MUTED) for text in wrapped("\n".join(more), width, font)]
    y = line * len(above) + (4 if above else 0)
    canvas = Image.new("RGB", (width, y + sum(row.height for row in drawn)), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, (text, ink) in enumerate(above):
        write_line(draw, (0, number * line), text, ink, font)
    for row in drawn:
        canvas.paste(row, (0, y))
        y += row.height
    return canvas


def _row(panels: Sequence[Panel], font: Font) -> Image.Image:
    """Pictures beside each other, their captions below; a picture that is narrower than its caption has room for that."""
    line = line_height(font)
    widths = [max(panel.picture.width, _needed(panel, font)) for panel in panels]
    below = [wrapped(panel.caption, width, font) for panel, width in zip(panels, widths, strict=True)]
    bar = line + 4 if any(panel.scale for panel in panels) else 0
    tall = max(panel.picture.height for panel in panels)
    size = (sum(widths) + _GAP * (len(panels) - 1), tall + 4 + bar + line * max(map(len, below)))
    canvas = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(canvas)
    x = 0
    for panel, width, lines in zip(panels, widths, below, strict=True):
        canvas.paste(panel.picture, (x, 0))
        y = tall + 2
        for text in lines:
            write_line(draw, (x, y), text, _INK, font)
            y += line
        if panel.scale is not None:
            _draw_scale(canvas, (x, y), width, panel.scale, font)
        x += width + _GAP
    return canvas


def _needed(panel: Panel, font: Font) -> int:
    """Pixels of width that a scale, or a caption in lines of a readable width, takes."""
    lines = wrapped(panel.caption, _NARROWEST, font)
    return _NARROWEST if panel.scale else ceil(max((text_width(line, font) for line in lines), default=0))


def _draw_scale(
    canvas: Image.Image, place: tuple[int, int], width: int, scale: tuple[float, float], font: Font
) -> None:
    """A bar of colours between its least and its largest value."""
    draw, (x, y) = ImageDraw.Draw(canvas), place
    low, high = ("0" if value < 0.005 * scale[1] else f"{value:.2g}" for value in scale)
    before, after = (round(text_width(text, font)) + _GAP for text in (low, high))
    bar = colour_bar(max(1, width - before - after), max(1, line_height(font) - 8))
    write_line(draw, (x, y), low, _MUTED, font)
    canvas.paste(bar, (x + before, y + 4))
    write_line(draw, (x + before + bar.width + _GAP, y), high, _MUTED, font)
