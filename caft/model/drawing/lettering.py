"""Text on sheets: lines that fit a width, in letters that grow with the pictures."""

from functools import cache

from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_SMALLEST, _LARGEST = 14, 96


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
            if _width(longer, font) <= width:
                line = longer
                continue
            if line:
                lines.append(line)
            while _width(word, font) > width and len(word) > 1:
                fits = next((n for n in range(len(word) - 1, 1, -1) if _width(word[:n], font) <= width), 1)
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
    draw.text(place, _known(line, font), ink, font)


def _width(text: str, font: Font) -> float:
    return font.getlength(_known(text, font))


def _known(text: str, font: Font) -> str:
    """The text without what would stop the drawing: bytes of a name that are no text; all but Latin in a bitmap font."""
    if isinstance(font, ImageFont.FreeTypeFont):
        return text.encode("utf-8", "replace").decode()
    return text.encode("latin-1", "replace").decode("latin-1")
