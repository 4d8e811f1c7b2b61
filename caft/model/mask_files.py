"""Masks of sentences as files that other tools read: pictures, an array, or COCO's run lengths.

The name says which: one that ends in `.npy` or `.json` is that file, any other a folder of PNG files. Each is complete, or
what was there before.
"""

import json
import os
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from caft.data.run_lengths import compressed, run_lengths
from caft.errors import DataError
from caft.model.output import check_folder, check_output
from caft.storage import replacing

OPTION = "--masks"
_ARRAY, _RUNS = ".npy", ".json"
_OURS = re.compile(r"mask-[0-9]+\.png")


def check_masks(masks: Path, drawing: Path, read: Iterable[Path]) -> None:
    """Makes sure that masks can be written, and would replace nothing but masks.

    Args:
        masks: Where they go.
        drawing: Where the drawing goes, a file or folder.
        read: Files that the command reads.

    Raises:
        DataError: The name has another ending, something is in the way, or nothing may be written there.
    """
    if _is_folder(masks):
        _check_folder(masks)
    else:
        check_output(masks, masks.suffix.lower(), option=OPTION)
    replaced = Path(os.path.realpath(masks))
    for path in read:
        if Path(os.path.realpath(path)).is_relative_to(replaced):
            raise DataError(f"{path}: is read, and masks would take its place; give another name with {OPTION}")
    if Path(os.path.realpath(drawing)).is_relative_to(replaced):
        raise DataError(
            f"{drawing}: lies in {masks}, which is replaced as a whole; give another place with -o or {OPTION}"
        )


def _check_folder(masks: Path) -> None:
    if masks.suffix and not masks.is_dir():
        raise DataError(
            f"{masks}: expected a name without ending, for a folder of PNG files, or one that ends in {_ARRAY} or {_RUNS}"
        )
    if masks.name in ("", ".."):
        raise DataError(
            f"{masks}: the folder of the masks is replaced as a whole; give the name of a new one with {OPTION}"
        )
    check_folder(masks, OPTION)
    if masks.is_dir() and (other := sorted(path.name for path in masks.iterdir() if not _is_ours(path))):
        raise DataError(
            f"{masks}: holds {other[0]}, which is no mask that this command writes, and the folder is replaced as a whole; "
            f"give a new folder with {OPTION}"
        )


def _is_ours(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and _OURS.fullmatch(path.name) is not None


def write_masks(found: Iterable[NDArray[np.bool_]], texts: Sequence[str], output: Path) -> list[Path]:
    """Writes the masks of some texts, of which it holds one at a time unless they go into a file of run lengths.

    Args:
        found: A mask (height, width) for each text, true in what the text means.
        texts: Sentences, at least one.
        output: A name ending in `.npy`: one array of booleans (texts, height, width). In `.json`: a list of `{"text",
            "segmentation"}`, the latter as COCO's API decodes it. Any other: a folder of PNG files in grey, 255 inside
            and 0 outside, `mask-0.png` for the first text, and so on, in place of what the folder held.

    Returns:
        The files.
    """
    masks = iter(found)
    with replacing(output) as temporary:
        if _is_folder(output):
            temporary.mkdir()
            for number, mask in enumerate(masks):
                Image.fromarray(mask.astype(np.uint8) * 255).save(temporary / f"mask-{number}.png")
        elif output.suffix.lower() == _ARRAY:
            first = next(masks)
            head = {"descr": "|b1", "fortran_order": False, "shape": (len(texts), *first.shape)}
            with temporary.open("wb") as file:  # mapped into memory, a full disk would end the process without a word
                np.lib.format.write_array_header_1_0(file, head)
                for mask in chain([first], masks):
                    file.write(np.ascontiguousarray(mask, dtype=np.bool_).data)
        else:
            entries = [
                {"text": text, "segmentation": _segmentation(mask)} for text, mask in zip(texts, masks, strict=True)
            ]
            temporary.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return [output / f"mask-{number}.png" for number in range(len(texts))] if _is_folder(output) else [output]


def _is_folder(output: Path) -> bool:
    return output.suffix.lower() not in (_ARRAY, _RUNS)


def _segmentation(mask: NDArray[np.bool_]) -> dict[str, object]:
    return {"size": list(mask.shape), "counts": compressed(run_lengths(mask))}
