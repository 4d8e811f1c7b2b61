"""Text on sheets: lines that fit a width, in letters that grow with the pictures.

Pillow's own font has ASCII and little else. Other letters are drawn in a font of the system if it has one that Pillow
finds; else without their accents, and what is left as a question mark, never as an empty box.
"""

import unicodedata
from functools import cache

from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_SMALLEST, _LARGEST = 14, 96
_OF_SYSTEMS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "arial.ttf")
_NO_CHARACTER = "\uffff"  # drawn as what a font shows for a letter that it lacks


@cache
def font_of(width: int) -> Font:
    """The font for pictures of a width, so that a sheet shown small, as on a phone, can be read like a small sheet."""
    return ImageFont.load_default(min(max(_SMALLEST, round(0.07 * width)), _LARGEST))


def line_height(font: Font) -> int:
    """Pixels from one line to the next."""
    return round(1.3 * getattr(font, "size", 11))


def wrapped(text: str, width: int, font: Font) -> list[str]:
    """Lines of a text, none wider than `width` pixels; a word that is wider is broken, line ends are kept."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}" if line else word
            if text_width(longer, font) <= width:
                line = longer
                continue
            if line:
                lines.append(line)
            while text_width(word, font) > width and len(word) > 1:
                fits = next((n for n in range(len(word) - 1, 1, -1) if text_width(word[:n], font) <= width), 1)
                lines.append(word[:fits])
                word = word[fits:]
            line = word
        if line:
            lines.append(line)
    return lines


def write_line(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], line: str, ink: tuple[int, ...], font: Font
) -> None:
    """Draws a line of text, its upper left corner at `place`."""
    known, chosen = drawable(line, font)
    draw.text(place, known, ink, chosen)


def text_width(text: str, font: Font) -> float:
    """Width in pixels of a text as `write_line` draws it."""
    known, chosen = drawable(text, font)
    return chosen.getlength(known)


def drawable(text: str, font: Font) -> tuple[str, Font]:
    """A text as it can be drawn, and the font that can: the given one wherever it has all letters."""
    if text.isascii():
        return text, font
    other = _of_system(round(getattr(font, "size", 11)))
    chosen = other if other is not None and _lacking(text, font) else font
    missing = _lacking(text, chosen)
    return "".join(_plain(letter) if letter in missing else letter for letter in text), chosen


def _lacking(text: str, font: Font) -> set[str]:
    return {letter for letter in set(text) if not letter.isascii() and not _has(font, letter)}


@cache
def _has(font: Font, letter: str) -> bool:
    if not isinstance(font, ImageFont.FreeTypeFont) or unicodedata.category(letter) in ("Cs", "Cn", "Co"):
        return False
    return bytes(font.getmask(letter)) != bytes(font.getmask(_NO_CHARACTER))


def _plain(letter: str) -> str:
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return {"ß": "ss", "æ": "ae", "ø": "o", "œ": "oe"}.get(letter, plain) or "?"


@cache
def _of_system(size: int) -> Font | None:
    for name in _OF_SYSTEMS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return None
