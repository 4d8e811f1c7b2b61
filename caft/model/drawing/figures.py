"""Pictures that show what a model sees: attention over images, masks, nested segments in colours."""

import colorsys
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from caft.transforms import nearest_pixels

# Anchors of a colour scale from dark to bright, of even steps in lightness.
_HEAT = np.array(
    [(0, 0, 4), (59, 15, 112), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191)], np.float64
)
TRUTH, PREDICTION, LINE = (46, 204, 113), (255, 64, 129), (255, 255, 255)
# Turns of the colour wheel by the golden section: neighbours in number are far apart in hue.
_GOLDEN = 0.618034


# Colours of the masks of several sentences, told apart also by those who do not see red and green (Okabe and Ito, 2008).
SENTENCES = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
_STRETCH = 3  # how much longer than asked for a thin picture may become
_TALLEST = 4  # height over width of a picture that is drawn at a given width; a strip is shown narrower


def fit(image: Image.Image, side: int, least: int = 1) -> Image.Image:
    """Returns the image scaled so that its longer side is `side` pixels.

    It is larger, up to three times, where the shorter side would have fewer than `least` pixels, as that of a panorama.
    """
    longer, shorter = max(image.size), min(image.size)
    return _scaled(image, max(side / longer, min(least / shorter, _STRETCH * side / longer)))


def fit_width(image: Image.Image, width: int) -> Image.Image:
    """Returns the image scaled to a width in pixels; one more than four times as high is four times as high as that."""
    return _scaled(image, min(width / image.width, _TALLEST * width / image.height))


def _scaled(image: Image.Image, scale: float) -> Image.Image:
    width, height = (max(1, round(length * scale)) for length in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def overlay(image: Image.Image, values: NDArray[np.floating]) -> Image.Image:
    """Returns the image in grey with a map of any size over it, dark at its least and bright at its largest value."""
    low, high = float(values.min()), float(values.max())
    scaled = (np.asarray(values, np.float64) - low) / (high - low) if high > low else np.zeros(values.shape)
    map_image = Image.fromarray((scaled * 255).round().astype(np.uint8)).resize(image.size, Image.Resampling.BILINEAR)
    colour = _heat(np.asarray(map_image, np.float64) / 255)
    grey = np.asarray(image.convert("L"), np.float64)[..., None]
    return Image.fromarray((0.4 * grey + 0.6 * colour).round().clip(0, 255).astype(np.uint8))


def colour_bar(width: int, height: int) -> Image.Image:
    """Returns the scale of `overlay`, its least value at the left."""
    row = _heat(np.linspace(0, 1, width)).round().astype(np.uint8)
    return Image.fromarray(np.repeat(row[None], height, axis=0))


def _heat(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    places = np.linspace(0, 1, len(_HEAT))
    return np.stack([np.interp(shares, places, channel) for channel in _HEAT.T], axis=-1)


def tinted(
    image: Image.Image, masks: Sequence[NDArray[np.bool_]], colours: Sequence[tuple[int, int, int]]
) -> Image.Image:
    """Returns the image in grey with a tint and a line of each mask's colour; masks are of any size.

    Where masks, or their lines, lie over each other, stripes of all their colours take turns.
    """
    grey = image.convert("L").convert("RGB")
    if not masks:
        return grey
    areas, lines = np.stack([_at_size(mask, image) for mask in masks]), np.stack([_line(mask, image) for mask in masks])
    hue = np.array(colours, np.uint8)
    flat = Image.blend(grey, Image.fromarray(hue[_in_turn(areas)]), 0.45)
    pixels = np.array(Image.composite(flat, grey, Image.fromarray(np.asarray(areas.any(0)))))
    edge = np.asarray(lines.any(0))
    pixels[edge] = hue[_in_turn(lines)[edge]]
    return Image.fromarray(pixels)


def _in_turn(masks: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Which of the masks (n, height, width) a pixel shows: of several that have it, each in stripes of its own."""
    height, width = masks.shape[1:]
    rows, columns = np.arange(height, dtype=np.int32), np.arange(width, dtype=np.int32)
    stripe = np.add.outer(rows, columns) // max(4, min(height, width) // 36)
    count = masks.sum(0, dtype=np.uint8)
    nth = np.cumsum(masks, 0, dtype=np.uint8)  # of a mask among those that have the pixel, from 1
    chosen: NDArray[np.intp] = (masks & (nth == stripe % np.maximum(count, 1) + 1)).argmax(0)
    return chosen


def cut_out(image: Image.Image, mask: NDArray[np.bool_]) -> Image.Image:
    """Returns the image with what lies outside a mask, of any size, dark and grey."""
    scaled = Image.fromarray(_at_size(mask, image))
    dim = Image.fromarray((np.asarray(image.convert("L"), np.float64) * 0.25).astype(np.uint8)).convert("RGB")
    return Image.composite(image.convert("RGB"), dim, scaled)


def lit(image: Image.Image, mask: NDArray[np.bool_]) -> Image.Image:
    """Returns the image in its colours inside a mask of any size; outside, they are faint and light."""
    colours = image.convert("RGB")
    grey = Image.blend(colours.convert("L").convert("RGB"), Image.new("RGB", image.size, "white"), 0.35)
    return Image.composite(colours, Image.blend(colours, grey, 0.7), Image.fromarray(_at_size(mask, image)))


def outline(image: Image.Image, mask: NDArray[np.bool_], colour: tuple[int, int, int], reach: int = 1) -> Image.Image:
    """Returns the image with a line around a mask of any size, of `reach` pixels at either side of its edge."""
    pixels = np.array(image.convert("RGB"))
    pixels[_line(mask, image, reach)] = colour
    return Image.fromarray(pixels)


def _line(mask: NDArray[np.bool_], image: Image.Image, reach: int = 1) -> NDArray[np.bool_]:
    """Pixels of an image, (height, width), that lie at both sides of a mask's edge, up to `reach` away."""
    scaled, size = Image.fromarray(_at_size(mask, image)).convert("L"), 2 * reach + 1
    grown, shrunk = (np.asarray(scaled.filter(kind(size))) for kind in (ImageFilter.MaxFilter, ImageFilter.MinFilter))
    edge: NDArray[np.bool_] = grown != shrunk
    return edge


def _at_size(mask: NDArray[np.bool_], image: Image.Image) -> NDArray[np.bool_]:
    scaled = Image.fromarray(mask.astype(np.uint8) * 255).resize(image.size, Image.Resampling.NEAREST)
    return np.asarray(scaled) > 0


def borders(image: Image.Image, labels: NDArray[np.integer]) -> Image.Image:
    """Returns the image with lines between segments; labels (h, w) of any size."""
    pixels = np.array(image.convert("RGB"))
    pixels[_edges(nearest_pixels(labels, image.height, image.width))] = LINE
    return Image.fromarray(pixels)


def segmentations(image: Image.Image, levels: Sequence[NDArray[np.integer]]) -> list[Image.Image]:
    """Returns a picture of each level of nested segments: one hue for each coarsest segment, shades of it inside.

    The image's brightness shows through. Levels are label maps of any one size, fine to coarse; every segment lies in one
    of the next level.
    """
    grey = np.asarray(image.convert("L"), np.float64)[..., None]
    shown: list[Image.Image] = []
    parents = colours = None
    for labels in reversed(levels):
        names, first, segments = np.unique(labels, return_index=True, return_inverse=True)
        if parents is None or colours is None:
            colours = np.array([_hue(number * _GOLDEN) for number in range(len(names))])
        else:
            parent = parents.ravel()[first]
            # Children of one parent are told apart by their share of white or black, which take turns.
            place = np.array([np.count_nonzero(parent[:number] == parent[number]) for number in range(len(names))])
            towards = np.where(place % 2 == 1, 255.0, 0.0)[:, None]
            share = np.minimum(0.22 * ((place + 1) // 2), 0.66)[:, None]
            colours = colours[parent] * (1 - share) + towards * share
        parents = segments.reshape(labels.shape)
        flat = colours[nearest_pixels(parents, image.height, image.width)]
        blended = Image.fromarray((0.3 * grey + 0.7 * flat).round().clip(0, 255).astype(np.uint8))
        shown.append(borders(blended, parents))
    return shown[::-1]


def webp(image: Image.Image) -> bytes:
    """Returns the image as a WebP file; equal images give equal bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=90, method=4)
    return buffer.getvalue()


def _edges(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels whose left or upper neighbour has another label."""
    edge = np.zeros(labels.shape, bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    return edge


def _hue(turn: float) -> tuple[float, float, float]:
    red, green, blue = colorsys.hsv_to_rgb(turn % 1, 0.75, 0.95)
    return 255 * red, 255 * green, 255 * blue
