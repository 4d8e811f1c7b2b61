"""The command `caft`: see where sentences look in a picture, search a folder, look at models and captions."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from caft.captions.chunking import caption_chunks
from caft.captions.sentences import SPLITTERS
from caft.captions.tokenizer import CONTEXT, encode
from caft.digests import file_digest
from caft.errors import CaftError, CheckpointError
from caft.eval.place import load_model
from caft.model.card import ModelCard
from caft.model.card_page import render
from caft.model.drawing import panels
from caft.model.gallery import read_gallery
from caft.storage import disk_problem, read_json
from caft.transforms import open_image
from caft.weights.files import read_card, save_model
from caft.weights.load import load

MODEL = "models/caft.safetensors"
# How `caft chunk` reads a caption when no model is named.
_PLAIN_READING = ModelCard(splitter="dreamlip", chunks=4, balanced_rule="paper")
SIDE = 288  # pixels of a picture's longer side on a sheet

_ABOUT = f"""\
Use a trained CAFT model on your own pictures and texts.

  caft ground photo.jpg "A cat on a chair. A red lamp." -o out.png
  caft segment photo.jpg -o segments.png
  caft search photos/ "A cat sleeps on a wooden chair. A red lamp stands behind it."
  caft chunk "A cat. It sleeps. The chair is red."
  caft info models/caft.safetensors
  caft convert release.pt -o release.safetensors

A model is a .safetensors file with its .json beside it, or the authors' checkpoint. {MODEL} is what
`dvc repro` trains. Results go to standard output, all else to standard error; errors that you can fix exit with code 2.
`caft COMMAND --help` says more of each."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code, 2 for an error that the user can act on."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        chosen.run(chosen)
    except CaftError as error:
        message = str(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if (problem := disk_problem(error)) is None:
            raise
        message = problem
    else:
        return 0
    print(f"error: {message}", file=sys.stderr)
    return 2


# ---------------------------------------------------------------------- commands


def ground(arguments: argparse.Namespace) -> None:
    """Draws where each sentence of a text looks in a picture, and the mask it finds."""
    image, model = open_image(arguments.picture), load_model(arguments.model)
    texts = model.sentences(arguments.text)
    _draw(panels.looks(image, texts, list(model.ground(image, texts)), SIDE), arguments, "ground")


def segment(arguments: argparse.Namespace) -> None:
    """Draws the superpixels of a picture and the segments they are grouped into, level by level."""
    image, model = open_image(arguments.picture), load_model(arguments.model)
    _draw([panels.segments(image, model.segment(image), SIDE)], arguments, "segments")


def search(arguments: argparse.Namespace) -> None:
    """Lists the pictures of a folder that fit a long description best."""
    model = load_model(arguments.model)
    query = model.encode_captions(arguments.text)
    gallery = read_gallery(model.network, file_digest(Path(arguments.model)), arguments.folder)
    for match in model.retrieve(query, gallery.encoded, arguments.number, arguments.part_weight):
        print(f"{match.score:8.3f}  {gallery.files[match.image]}")


def chunk(arguments: argparse.Namespace) -> None:
    """Shows how a caption is split into sentences and grouped into the sub-captions that the model reads."""
    card = read_card(Path(arguments.model)) if arguments.model else _PLAIN_READING
    try:
        chunks = caption_chunks(arguments.text, arguments.splitter or card.splitter, card.chunks, card.balanced_rule)
    except ValueError as error:
        raise CaftError(f"{error}; give a text of at least one word") from None
    for number, text in enumerate(chunks, start=1):
        tokens = len(encode(text)) + 2
        cut = f", cut after {CONTEXT}" if tokens > CONTEXT else ""
        print(f"{number}  {text}  [{tokens} tokens{cut}]")


def info(arguments: argparse.Namespace) -> None:
    """Prints a model's card, and what its file holds."""
    model = load(arguments.model)
    metrics = {}
    if arguments.metrics:
        metrics = {path.stem: read_json(path, "evaluate") for path in sorted(arguments.metrics.glob("*.json"))}
        if not metrics:
            raise CaftError(f"{arguments.metrics}: no .json file there; give the folder that the stages write, metrics")
        trained, own = metrics.get("train", {}).get("settings_digest"), model.card.fingerprint
        if trained not in (None, own):
            raise CaftError(f"{arguments.metrics}: scores of the model {trained}, not of {own}; run `dvc repro` again")
    print(render(model.card, metrics))
    print("## Weights\n")
    network = model.network
    groups = {"superpixels (frozen)": network.superpixels, "image tower": network.vision, "text pooling": network.pool}
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in groups.items() if module}
    total = sum(p.numel() for p in network.parameters())
    counts["text tower, norms and projections"] = total - sum(counts.values())
    for name, count in {**counts, "all": total}.items():
        print(f"- {name}: {count:,}")
    for level, (log_scale, bias) in network.temperatures.items():
        print(f"- {level} level: scale {log_scale.detach().exp():.2f}, bias {bias.detach():.2f}")


def convert(arguments: argparse.Namespace) -> None:
    """Turns the authors' checkpoint into this project's two files, weights and card."""
    output: Path = arguments.output
    if output.suffix != ".safetensors":
        raise CheckpointError(f"{output}: expected a name that ends in .safetensors")
    if arguments.checkpoint.suffix == ".safetensors":
        raise CheckpointError(f"{arguments.checkpoint}: is in this project's form already; caft.load reads it")
    model = load(arguments.checkpoint)
    save_model(model.network, output, model.card)
    print(output, output.with_suffix(".json"), sep="\n")


def _draw(blocks: list[panels.Block], arguments: argparse.Namespace, ending: str) -> None:
    for path in panels.write(blocks, 1, arguments.output or Path(f"{arguments.picture.stem}.{ending}.png")):
        print(path)


# ---------------------------------------------------------------------- the command line


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="caft", description=_ABOUT, formatter_class=raw)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(run: object, more: str) -> argparse.ArgumentParser:
        about = (run.__doc__ or "").strip()
        name = run.__name__  # type: ignore[attr-defined]
        one = commands.add_parser(name, help=about, description=f"{about}\n\n{more}", formatter_class=raw)
        one.set_defaults(run=run)
        return one

    one = add(
        ground,
        "Each sentence asks alone. Bright is where it looks; the mask is what Otsu's threshold leaves of that map.\n"
        'example: caft ground photo.jpg "A striped red star left of the heart." -o out.png',
    )
    _drawn(one, "ground")
    one.add_argument("text", help="one or more sentences")

    one = add(segment, "Colours of a level keep to those of the next: segments are nested.")
    _drawn(one, "segments")

    one = add(
        search,
        "Prints score and file, best first. Folders in the folder are searched too. Pictures are encoded once and kept\n"
        "in ~/.cache/caft (XDG_CACHE_HOME moves it): the next search encodes only what came or changed.\n"
        'example: caft search photos/ "A cat sleeps on a wooden chair. A red lamp stands behind it." -k 3',
    )
    one.add_argument("folder", type=Path, help="folder of pictures")
    one.add_argument("text", help="a description, as long as you like")
    one.add_argument("-k", dest="number", type=_positive, default=5, help="how many (5)")
    one.add_argument(
        "--part-weight",
        type=_share,
        default=0.3,
        metavar="W",
        help="score = (1 - W) whole picture + W parts, CAFT++; 0 for a model without parts (0.3)",
    )
    _model(one)

    one = add(
        chunk,
        "Without a model: as the paper's authors read captions, split at every full stop, four balanced chunks.\n"
        'example: caft chunk "A cat. It sleeps. The chair is red. A lamp stands behind it. It is on."',
    )
    one.add_argument("text", help="a caption")
    one.add_argument("--splitter", choices=SPLITTERS, help="how sentences are found")
    one.add_argument("--model", metavar="FILE", help="read the caption as this model does")

    one = add(
        info,
        "The card is Markdown: sizes, training data, recipe, how captions are read, scores, use and limits.\n"
        "example: caft info models/caft.safetensors --metrics metrics > MODEL_CARD.md",
    )
    one.add_argument("model", nargs="?", default=MODEL, help=f"weights ({MODEL})")
    one.add_argument("--metrics", type=Path, metavar="FOLDER", help="with the scores of this folder's files")

    one = add(
        convert,
        "Every name and shape is checked. The two files load faster, and hold nothing that could be executed.\n"
        "example: caft convert release.pt -o release.safetensors",
    )
    one.add_argument("checkpoint", type=Path, help="the authors' file")
    one.add_argument("-o", "--output", type=Path, required=True, help="a .safetensors file; the card goes beside it")
    return parser


def _drawn(parser: argparse.ArgumentParser, ending: str) -> None:
    parser.add_argument("picture", type=Path, help="picture file of any kind that Pillow reads")
    _model(parser)
    form = (
        f"a .png file for one sheet, or a name without ending: a folder for the single pictures (PICTURE.{ending}.png)"
    )
    parser.add_argument("-o", "--output", type=Path, help=form)


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=MODEL, metavar="FILE", help=f"weights ({MODEL})")


def _positive(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {word!r}")
    return int(word)


def _share(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, found {word!r}")
    return value
