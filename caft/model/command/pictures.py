"""The commands that look at pictures: `caft ground`, `caft segment` and `caft search`.

Pictures are decoded, and made as small as they are needed, before torch is imported: together they would fill the memory.
"""

import argparse
import json
from pathlib import Path

from PIL import Image

from caft.captions.words import require_words
from caft.digests import file_digest
from caft.errors import CaftError, DataError
from caft.model.command.common import loaded, one_line, remark, say
from caft.model.drawing.figures import fit, fit_width
from caft.model.interrupts import importing
from caft.model.mask_files import check_masks, write_masks
from caft.model.output import check_output
from caft.pictures.reading import path_problem, read_rgb

SIDE = 288  # pixels of a picture's longer side on a sheet
_MOST_PIXELS = 64_000_000  # of a sheet: more takes gigabytes, and few viewers open it
_IN_A_ROW = 3  # small pictures of what was found


def ground(arguments: argparse.Namespace) -> None:
    """Draws where each sentence of a text looks in a picture, how well it matches, and the mask it finds."""
    output = _drawing(arguments, "ground")
    if arguments.masks is not None:
        weights = Path(arguments.model)
        read = [arguments.picture, weights, weights.with_suffix(".json"), *filter(None, [arguments.reference])]
        check_masks(arguments.masks, output, read)
    require_words(arguments.text)
    references = None if arguments.reference is None else _lines(arguments.reference)
    shown, seen, size = _picture(arguments)
    model = loaded(arguments.model)
    texts = model.sentences(arguments.text)
    if (pixels := 3 * len(texts) * shown.width * shown.height) > _MOST_PIXELS:
        raise CaftError(
            f"{len(texts)} sentences, each three times at {shown.width} x {shown.height}, are {pixels / 1e6:.0f} million "
            f"pixels, expected at most {_MOST_PIXELS / 1e6:.0f}; give fewer sentences, or a smaller --width"
        )
    matches, found = model.look(seen, texts, references, shown.size[::-1])
    with importing():
        from caft.model.drawing import panels
        from caft.model.maps import one_by_one
        from caft.model.otsu import otsu_mask
    masks: list[Path] = []
    if arguments.masks is not None:
        each = map(otsu_mask, one_by_one(model.network, seen, texts, size))
        masks = write_masks(each, texts, arguments.masks)
    drawings = panels.write(panels.looks(shown, matches, list(found)), 1, output)
    if arguments.json:
        sentences = [{**match._asdict(), "borne_out": match.borne_out} for match in matches]
        files = {"masks": list(map(str, masks)), "drawings": list(map(str, drawings))}
        say(json.dumps({"picture": str(arguments.picture), "sentences": sentences, **files}, indent=1))
        return
    for path in [*drawings, *masks]:
        say(one_line(path))
    for match in matches:
        remark(f'"{" ".join(match.text.split())}": {panels.score_line(match)}')


def segment(arguments: argparse.Namespace) -> None:
    """Draws the superpixels of a picture and the segments they are grouped into, level by level."""
    output = _drawing(arguments, "segments")
    shown, seen, _ = _picture(arguments)
    model = loaded(arguments.model)
    with importing():
        from caft.model import maps
        from caft.model.drawing import panels
    levels = maps.label_maps(model.network, seen)
    for path in panels.write([panels.segments(shown, levels)], 1, output):
        say(one_line(path))


def search(arguments: argparse.Namespace) -> None:
    """Lists the pictures of a folder that fit a long description best."""
    if arguments.output is not None:
        check_output(arguments.output)
    require_words(arguments.text)
    model = loaded(arguments.model)
    with importing():
        from caft.model.gallery import Gallery, read_gallery
        from caft.model.model import Match
    query = model.encode_captions(arguments.text)

    def looked() -> tuple[Gallery, list[Match]]:
        gallery = read_gallery(model.network, file_digest(Path(arguments.model)), arguments.folder)
        return gallery, model.retrieve(query, gallery.features, arguments.number, arguments.part_weight)

    try:
        gallery, found = looked()
    except DataError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        gallery, found = looked()  # another search has put the features together with new ones meanwhile
    for match in found:
        say(f"{match.score:8.3f}  {one_line(gallery.files[match.image])}")
    if arguments.output is not None:
        with importing():
            from caft.model.drawing import panels
        blocks: list[panels.Block] = []
        for place, match in enumerate(found, start=1):
            path = gallery.files[match.image]
            picture = _shown(read_rgb(path, upright=True), arguments.width)
            blocks.append(("", [(picture, f"{place}: score {match.score:.3f}\n{path.relative_to(arguments.folder)}")]))
        panels.write(blocks, _IN_A_ROW, arguments.output, arguments.text)
        remark(arguments.output)


# ---------------------------------------------------------------------- what several of them do


def _drawing(arguments: argparse.Namespace, ending: str) -> Path:
    """Where a drawing goes, found out before the work."""
    output: Path = arguments.output or Path(f"{arguments.picture.stem}.{ending}.png")
    check_output(output, folder=True)
    if arguments.picture.is_dir():
        raise DataError(f"{arguments.picture}: is a folder; give one picture (`caft search` looks through a folder)")
    return output


def _picture(arguments: argparse.Namespace) -> tuple[Image.Image, Image.Image, tuple[int, int]]:
    """The picture as it is drawn, and as the model is to see it; and its own height and width."""
    picture = read_rgb(arguments.picture, upright=True)
    shown, size = _shown(picture, arguments.width), picture.size[::-1]
    if side := _side(Path(arguments.model)):
        picture = picture.resize((side, side), Image.Resampling.BICUBIC)  # as `caft.transforms.squash` would
    return shown, picture, size


def _side(model: Path) -> int | None:
    """Side of the pictures that a model takes, where its card says it; what is wrong with a card, `loaded` tells."""
    if model.suffix != ".safetensors":  # of other files, the card may not be read
        return None
    try:
        side = json.loads(model.with_suffix(".json").read_text(encoding="utf-8-sig"))["model"]["image_size"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return side if isinstance(side, int) and 0 < side <= 4096 else None


def _shown(image: Image.Image, width: int | None) -> Image.Image:
    return fit(image, SIDE, SIDE // 4) if width is None else fit_width(image, width)


def _lines(path: Path) -> list[str]:
    """Lines of a file that are not empty, as UTF-8."""
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; give a text file with one sentence a line") from None
    except OSError as error:
        raise DataError(path_problem(path, error)) from None
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as a text in UTF-8 ({error}); give one sentence a line") from None
    if not found:
        raise DataError(f"{path}: has no sentence; give at least one, each on a line of its own")
    return found
