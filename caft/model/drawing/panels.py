"""Sheets of what a model sees in a picture: where sentences look and the masks they find, nested segments."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from caft import storage
from caft.errors import DataError
from caft.model.drawing.figures import PREDICTION, borders, cut_out, fit, outline, overlay, segmentations
from caft.model.drawing.sheet import sheet
from caft.model.otsu import otsu_mask

# A heading, and pictures with their captions.
Block = tuple[str, list[tuple[Image.Image, str]]]


def looks(image: Image.Image, texts: Sequence[str], maps: Sequence[NDArray[np.float32]], side: int) -> list[Block]:
    """Picture, attention and mask of each text.

    Args:
        image: RGB.
        texts: What was asked.
        maps: Where each looks, (height, width).
        side: Of the shown pictures' longer side, in pixels.
    """
    shown = fit(image, side)
    return [
        (
            text,
            [(shown, "picture"), (overlay(shown, values), "attention"), (masked(shown, otsu_mask(values)), "mask")],
        )
        for text, values in zip(texts, maps, strict=True)
    ]


def segments(image: Image.Image, levels: Sequence[NDArray[np.integer]], side: int) -> Block:
    """Superpixels and their groups, fine to coarse, as a picture each; a flat tower has its patches alone."""
    shown = fit(image, side)
    pictures = [(borders(shown, levels[0]), f"{_count(levels[0])} superpixels")]
    groups = levels[1:]
    pictures += [
        (picture, f"{_count(labels)} segments")
        for picture, labels in zip(segmentations(shown, groups), groups, strict=True)
    ]
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


def _count(labels: NDArray[np.integer]) -> int:
    return len(np.unique(labels))
