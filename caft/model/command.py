"""The command `caft`: see where sentences look in a picture, search a folder, look at models and captions."""

import argparse
import errno
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from caft.captions.chunking import caption_chunks
from caft.captions.tokenizer import CONTEXT, encode
from caft.captions.words import require_words
from caft.digests import file_digest
from caft.errors import CaftError, CheckpointError, DataError, exits_with_message
from caft.eval.place import load_model
from caft.model import maps
from caft.model.card import ModelCard
from caft.model.card_page import SCORES, render
from caft.model.command_line import parser
from caft.model.drawing import panels
from caft.model.drawing.figures import fit, fit_width
from caft.model.gallery import read_gallery
from caft.model.model import Model
from caft.model.output import check_output
from caft.pictures.reading import path_problem
from caft.storage import disk_error, read_json
from caft.transforms import open_image
from caft.weights.files import read_card, save_model
from caft.weights.load import load

# How `caft chunk` reads a caption when no model is named.
_PLAIN_READING = ModelCard(splitter="dreamlip", chunks=4, balanced_rule="paper")
SIDE = 288  # pixels of a picture's longer side on a sheet
_MOST_PIXELS = 64_000_000  # of a sheet: more takes gigabytes, and few viewers open it
_IN_A_ROW = 3  # small pictures of what was found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code, 2 for an error that the user can act on."""
    with exits_with_message():
        chosen = parser(COMMANDS).parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        with exits_with_message():
            _run(chosen)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _run(chosen: argparse.Namespace) -> None:
    try:
        chosen.run(chosen)
    except CaftError:
        raise
    except Exception as error:
        if (found := disk_error(error)) is None:
            raise
        code, problem = found
        full = code in (errno.ENOSPC, errno.EDQUOT)
        advice = "free some space there, or give" if full else "check the name and its permissions, or give"
        raise CaftError(f"{problem}; {advice} another place, and run the command again") from error


def _say(line: object) -> None:
    try:
        print(line)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CaftError(f"standard output cannot be written ({error.strerror}); send it elsewhere") from error


# ---------------------------------------------------------------------- commands


def ground(arguments: argparse.Namespace) -> None:
    """Draws where each sentence of a text looks in a picture, how well it matches, and the mask it finds."""
    output = _drawing(arguments, "ground")
    require_words(arguments.text)
    references = None if arguments.reference is None else _lines(arguments.reference)
    image = open_image(arguments.picture)
    model = _loaded(arguments.model)
    texts = model.sentences(arguments.text)
    shown = _shown(image, arguments.width)
    if (pixels := 3 * len(texts) * shown.width * shown.height) > _MOST_PIXELS:
        raise CaftError(
            f"{len(texts)} sentences, each three times at {shown.width} x {shown.height}, are {pixels / 1e6:.0f} million "
            f"pixels, expected at most {_MOST_PIXELS / 1e6:.0f}; give fewer sentences, or a smaller --width"
        )
    matches = model.match(image, texts, references)
    found = model.ground(image, texts, size=shown.size[::-1])  # at the size drawn: a photograph's fills the memory
    for path in panels.write(panels.looks(shown, matches, list(found)), 1, output):
        _say(path)
    for match in matches:
        print(f'"{" ".join(match.text.split())}": {panels.score_line(match)}', file=sys.stderr)


def segment(arguments: argparse.Namespace) -> None:
    """Draws the superpixels of a picture and the segments they are grouped into, level by level."""
    output = _drawing(arguments, "segments")
    image = open_image(arguments.picture)
    model = _loaded(arguments.model)
    levels = maps.label_maps(model.network, image)
    for path in panels.write([panels.segments(_shown(image, arguments.width), levels)], 1, output):
        _say(path)


def search(arguments: argparse.Namespace) -> None:
    """Lists the pictures of a folder that fit a long description best."""
    if arguments.output is not None:
        check_output(arguments.output)
    require_words(arguments.text)
    model = _loaded(arguments.model)
    query = model.encode_captions(arguments.text)
    gallery = read_gallery(model.network, file_digest(Path(arguments.model)), arguments.folder)
    found = model.retrieve(query, gallery.encoded, arguments.number, arguments.part_weight)
    for match in found:
        name = str(gallery.files[match.image]).replace("\n", "\\n").replace("\r", "\\r")  # a result is one line
        _say(f"{match.score:8.3f}  {name}")
    if arguments.output is not None:
        blocks: list[panels.Block] = []
        for place, match in enumerate(found, start=1):
            path = gallery.files[match.image]
            picture = _shown(open_image(path), arguments.width)
            blocks.append(("", [(picture, f"{place}: score {match.score:.3f}\n{path.relative_to(arguments.folder)}")]))
        panels.write(blocks, _IN_A_ROW, arguments.output, arguments.text)
        print(arguments.output, file=sys.stderr)


def chunk(arguments: argparse.Namespace) -> None:
    """Shows how a caption is split into sentences and grouped into the sub-captions that the model reads."""
    require_words(arguments.text)
    card = read_card(Path(arguments.model)) if arguments.model else _PLAIN_READING
    chunks = caption_chunks(arguments.text, arguments.splitter or card.splitter, card.chunks, card.balanced_rule)
    for number, text in enumerate(chunks, start=1):
        tokens = len(encode(text)) + 2
        cut = f", cut after {CONTEXT}" if tokens > CONTEXT else ""
        _say(f"{number}  {text}  [{tokens} tokens{cut}]")


def info(arguments: argparse.Namespace) -> None:
    """Prints a model's card, and what its file holds."""
    model = load(arguments.model)
    try:
        card = render(model.card, _metrics(arguments.metrics, model.card.fingerprint) if arguments.metrics else {})
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # JSON of another shape
        raise CaftError(
            f"{arguments.metrics}: holds files that are not as the stages write them ({error!r}); run `dvc repro` again"
        ) from None
    _say(card)
    _say("## Weights\n")
    network = model.network
    groups = {"superpixels (frozen)": network.superpixels, "image tower": network.vision, "text pooling": network.pool}
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in groups.items() if module}
    total = sum(p.numel() for p in network.parameters())
    counts["text tower, norms and projections"] = total - sum(counts.values())
    for name, count in {**counts, "all": total}.items():
        _say(f"- {name}: {count:,}")
    for level, (log_scale, bias) in network.temperatures.items():
        _say(f"- {level} level: scale {log_scale.detach().exp():.2f}, bias {bias.detach():.2f}")


def convert(arguments: argparse.Namespace) -> None:
    """Turns the authors' checkpoint into this project's two files, weights and card."""
    output: Path = arguments.output
    check_output(output, ".safetensors")
    if arguments.checkpoint.suffix == ".safetensors":
        raise CheckpointError(f"{arguments.checkpoint}: is in this project's form already; caft.load reads it")
    model = load(arguments.checkpoint)
    save_model(model.network, output, model.card)
    _say(f"{output}\n{output.with_suffix('.json')}")


COMMANDS = {run.__name__: run for run in (ground, segment, search, chunk, info, convert)}


# ---------------------------------------------------------------------- what several commands do


def _metrics(folder: Path, fingerprint: str | None) -> dict[str, Any]:
    """What the stages wrote of a model's scores, by the name of the file."""
    found = {name: read_json(path, "evaluate") for name in SCORES if (path := folder / f"{name}.json").is_file()}
    if not found:
        raise CaftError(f"{folder}: none of {', '.join(SCORES)} (.json) there; give the folder that the stages write")
    for name, scores in found.items():
        if not isinstance(scores, dict):
            raise CaftError(
                f"{folder / name}.json: expected an object of scores, found {type(scores).__name__}; "
                "give the folder that the stages write, metrics"
            )
    if (trained := found.get("train", {}).get("settings_digest")) not in (None, fingerprint):
        raise CaftError(f"{folder}: scores of the model {trained}, not of {fingerprint}; run `dvc repro` again")
    return found


def _drawing(arguments: argparse.Namespace, ending: str) -> Path:
    """Where a drawing goes, found out before the work."""
    output: Path = arguments.output or Path(f"{arguments.picture.stem}.{ending}.png")
    check_output(output, folder=True)
    if arguments.picture.is_dir():
        raise DataError(f"{arguments.picture}: is a folder; give one picture (`caft search` looks through a folder)")
    return output


def _loaded(path: str) -> Model:
    model = load_model(path)
    if model.card.is_of_rendered_shapes:
        print(
            f"{path} was trained on rendered shapes only: photographs, and texts about them, mean nothing to it",
            file=sys.stderr,
        )
    return model


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
