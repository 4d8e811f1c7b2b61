"""Captioned pictures in rows as one image file, for pages and papers."""

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_GAP, _MARGIN = 8, 12
_INK, _PAPER = (29, 39, 51), (255, 255, 255)
_SIZE, _LINE = 14, 18


def sheet(blocks: Sequence[tuple[str, Sequence[tuple[Image.Image, str]]]], columns: int = 1) -> Image.Image:
    """Returns blocks of pictures beside each other, each under its heading, with a caption below each picture.

    Args:
        blocks: Heading, and pictures with their captions; an empty caption takes no room if all of its row are empty.
        columns: Blocks in a row.
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
