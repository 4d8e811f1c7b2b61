"""Draws what a model sees: where each sentence of a text looks in a picture, the mask it finds, nested segments.

Any picture and any text:  python -m pipelines.figures photo.jpg "A cat on a chair. A red lamp." -o out.png
The README's picture:      python -m pipelines.figures --set sentence -o docs/overlay.png
"""

import argparse
import re
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from caft import storage
from caft.data.benchmarks import Missing, load_referring
from caft.errors import CaftError, DataError
from caft.eval.examples import look, nested, scored, segment, spread
from caft.eval.features import load_model
from caft.eval.figures import PREDICTION, borders, cut_out, fit, outline, overlay, segmentations
from caft.eval.referring import otsu_mask
from caft.eval.sheet import sheet
from caft.model import CAFT
from caft.params import load_params
from caft.text.sentences import split

SIDE = 224  # pixels of a picture's longer side in the file
EXAMPLES, EXAMPLE_SIDE, IMAGES = 4, 132, 128  # of --set

Block = tuple[str, list[tuple[Image.Image, str]]]


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.figures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", nargs="?", type=Path, help="picture file")
    parser.add_argument("text", nargs="?", help="one or more sentences, each of which asks the picture")
    parser.add_argument("--set", help="instead: examples of a set of referring expressions of params.yaml")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a .png file, or a folder for single pictures")
    parser.add_argument("--model", default="models/caft.safetensors", help="weights (models/caft.safetensors)")
    arguments = parser.parse_args()
    if (arguments.set is None) == (arguments.text is None):
        parser.error("give either a picture and a text, or --set")
    try:
        model = load_model(arguments.model)
        if arguments.set is not None:
            blocks, columns = of_set(model, arguments.set), 2
        else:
            blocks, columns = of_text(model, arguments.image, arguments.text), 1
        for path in write(blocks, columns, arguments.output):
            print(path)
    except CaftError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def of_text(model: CAFT, path: Path, text: str) -> list[Block]:
    """The nested segments of a picture, then map and mask of each sentence.

    Raises:
        DataError: The picture cannot be read, or the text has no sentence.
    """
    texts = split(text, model.card["splitter"])
    if not texts:
        raise DataError(f"the text {text!r} has no sentence; give words to look for")
    seen = look(model, path, texts)
    shown = fit(seen.image, SIDE)
    grouped = nested(model, [path], 1)[0]
    levels = zip(segmentations(shown, grouped.levels[1:]), grouped.levels[1:], strict=True)
    blocks: list[Block] = [
        (
            "from superpixels to segments",
            [
                (borders(shown, grouped.levels[0]), f"{len(set(grouped.levels[0].flat))} superpixels"),
                *((picture, f"{len(set(labels.flat))} segments") for picture, labels in levels),
            ],
        )
    ]
    for sentence, values in zip(seen.texts, seen.maps, strict=True):
        blocks.append(
            (
                sentence,
                [
                    (shown, "picture"),
                    (overlay(shown, values), "attention"),
                    (_masked(shown, otsu_mask(values)), "mask"),
                ],
            )
        )
    return blocks


def of_set(model: CAFT, name: str) -> list[Block]:
    """Expressions of a referring set, from the best to the worst IoU at even distances, the very ends left out.

    Raises:
        CaftError: The settings have no such set, or its files are not there.
    """
    params = load_params()
    benchmarks, membership = params.benchmarks, params.evaluation.membership
    if name not in benchmarks or benchmarks[name].kind != "referring":
        known = ", ".join(key for key, benchmark in benchmarks.items() if benchmark.kind == "referring")
        raise CaftError(f"--set {name}: params.yaml has no such set of referring expressions; known are {known}")
    loaded = load_referring(benchmarks[name])
    if isinstance(loaded, Missing):
        raise CaftError(f"--set {name}: {loaded.reason}")
    cases = sorted(scored(model, loaded, params.evaluation.batch, IMAGES, membership), key=lambda case: -case.iou)
    blocks: list[Block] = []
    for place in spread(len(cases), EXAMPLES):
        found = segment(model, "", cases[place + len(cases) // (2 * EXAMPLES)], membership)
        shown = fit(found.image, EXAMPLE_SIDE)
        mask = (_masked(shown, found.mask), f"mask, IoU {100 * found.iou:.0f}")
        blocks.append((found.text, [(shown, "picture"), (overlay(shown, found.values), "attention"), mask]))
    return blocks


def _masked(image: Image.Image, mask: NDArray[np.bool_]) -> Image.Image:
    """What a mask leaves of an image, outlined, since the object itself may be dark."""
    return outline(cut_out(image, mask), mask, PREDICTION)


def write(blocks: list[Block], columns: int, output: Path) -> list[Path]:
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


if __name__ == "__main__":
    main()
