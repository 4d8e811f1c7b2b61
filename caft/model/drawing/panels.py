"""Sheets of what a model sees in a picture: where sentences look and the masks they find, nested segments."""

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from caft import storage
from caft.errors import DataError
from caft.model.drawing.figures import PREDICTION, borders, cut_out, fit, outline, overlay, segmentations
from caft.model.otsu import otsu_mask

# A heading, and pictures with their captions.
Block = tuple[str, list[tuple[Image.Image, str]]]
_GAP, _MARGIN = 8, 12
_INK, _PAPER = (29, 39, 51), (255, 255, 255)
_SIZE, _LINE = 14, 18


def looks(image: Image.Image, texts: Sequence[str], maps: Sequence[NDArray[np.float32]], side: int) -> list[Block]:
    """Picture, attention and mask of each text, by maps (height, width); `side` pixels is the longer side."""
    shown = fit(image, side)
    blocks: list[Block] = []
    for text, values in zip(texts, maps, strict=True):
        mask = masked(shown, otsu_mask(values))
        blocks.append((text, [(shown, "picture"), (overlay(shown, values), "attention"), (mask, "mask")]))
    return blocks


def segments(image: Image.Image, levels: Sequence[NDArray[np.integer]], side: int) -> Block:
    """Superpixels and their groups, fine to coarse, as a picture each; a flat tower has its patches alone."""
    shown = fit(image, side)
    first, *counts = (len(np.unique(labels)) for labels in levels)
    pictures = [(borders(shown, levels[0]), f"{first} superpixels")]
    for picture, count in zip(segmentations(shown, levels[1:]), counts, strict=True):
        pictures.append((picture, f"{count} segments"))
    return "from superpixels to segments", pictures


def masked(image: Image.Image, mask: NDArray[np.bool_]) -> Image.Image:
    """What a mask leaves of an image, outlined, since the object itself may be dark."""
    return outline(cut_out(image, mask), mask, PREDICTION)


def write(blocks: Sequence[Block], columns: int, output: Path) -> list[Path]:
    """Writes one sheet, or each picture into a folder; returns the files.

    Raises:
        DataError: The file's name has an ending other than .png.
    """
    if output.suffix and output.suffix != ".png":
        raise DataError(f"{output}: expected a name that ends in .png, or a folder without an ending")
    if output.suffix:
        with storage.replacing(output) as temporary:
            picture = sheet(blocks, columns)
            # Rendered scenes have few colours; a palette makes the file a third.
            (picture.quantize(256) if columns > 1 else picture).save(temporary, "PNG", optimize=True)
        return [output]
    output.mkdir(parents=True, exist_ok=True)
    files = []
    for number, (_, pictures) in enumerate(blocks):
        for picture, caption in pictures:
            name = "-".join(re.findall(r"\w+", caption))
            files.append(output / f"{number}-{name}.png")
            picture.save(files[-1], "PNG", optimize=True)
    return files


def sheet(blocks: Sequence[tuple[str, Sequence[tuple[Image.Image, str]]]], columns: int = 1) -> Image.Image:
    """Returns blocks in rows of `columns`: pictures beside each other under a heading, a caption below each picture.

    An empty caption takes no room if all of its row are empty.
    """
    drawn = [_block(heading, pictures) for heading, pictures in blocks]
    rows = [drawn[first : first + columns] for first in range(0, len(drawn), columns)]
    widths = [max(row[column].width for row in rows if column < len(row)) for column in range(min(columns, len(drawn)))]
    width = sum(widths) + 2 * _GAP * (len(widths) - 1) + 2 * _MARGIN
    height = sum(max(block.height for block in row) for row in rows) + 2 * _GAP * (len(rows) - 1) + 2 * _MARGIN
    canvas = Image.new("RGB", (width, height), _PAPER)
    y = _MARGIN
    for row in rows:
        x = _MARGIN
        for block, room in zip(row, widths, strict=False):
            canvas.paste(block, (x, y))
            x += room + 2 * _GAP
        y += max(block.height for block in row) + 2 * _GAP
    return canvas


def _block(heading: str, pictures: Sequence[tuple[Image.Image, str]]) -> Image.Image:
    font = ImageFont.load_default(_SIZE)
    width = sum(picture.width for picture, _ in pictures) + _GAP * (len(pictures) - 1)
    above = _wrapped(heading, width, font)
    below = [_wrapped(caption, picture.width, font) for picture, caption in pictures]
    top = _LINE * len(above) + (4 if above else 0)
    tall = max(picture.height for picture, _ in pictures)
    canvas = Image.new("RGB", (width, top + tall + 4 + _LINE * max(map(len, below))), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(above):
        draw.text((0, number * _LINE), line, _INK, font)
    x = 0
    for (picture, _), lines in zip(pictures, below, strict=True):
        canvas.paste(picture, (x, top))
        for number, line in enumerate(lines):
            draw.text((x, top + tall + 2 + number * _LINE), line, _INK, font)
        x += picture.width + _GAP
    return canvas


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Lines that fit the width, by the mean width of a letter."""
    letter = font.getlength("the quick brown fox jumps over the lazy dog") / 43
    return textwrap.wrap(text, max(8, int(width / letter)))
