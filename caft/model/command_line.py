"""The command line of `caft`: its commands, their arguments and their help."""

import argparse
import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from caft.captions.sentences import SPLITTERS

MODEL = "models/caft.safetensors"
WIDTHS = range(64, 2049)

_RAW = argparse.RawDescriptionHelpFormatter
_ABOUT = f"""\
Use a trained CAFT model on your own pictures and texts.

  caft ground photo.jpg "A cat on a chair. A red lamp." -o out.png
  caft segment photo.jpg -o segments.png
  caft search photos/ "A cat sleeps on a wooden chair. A red lamp stands behind it." -o found.png
  caft audit captions.csv -o audit.csv --page worst.html
  caft demo models/caft.safetensors photos/
  caft chunk "A cat. It sleeps. The chair is red."
  caft info models/caft.safetensors
  caft convert release.pt -o release.safetensors
  caft export models/caft.safetensors --onnx exported
  caft push models/caft.safetensors OWNER/NAME --dry-run

A model is a .safetensors file with its .json beside it, a torch checkpoint with this project's names and the same .json,
or the authors' checkpoint of CAFT or FLAIR; or a name on a model hub, hf:OWNER/NAME or hf:OWNER/NAME/FILE. {MODEL} is
what `dvc repro` trains. Results go to standard output, all else to standard error; errors that you can fix exit with code 2.
`caft COMMAND --help` says more of each."""


def parser() -> argparse.ArgumentParser:
    """The parser; `command` of what it finds is the command's name."""
    found = argparse.ArgumentParser(prog="caft", description=_ABOUT, formatter_class=_RAW)
    added = found.add_subparsers(required=True, metavar="COMMAND")
    for name, (describe, about, more) in _COMMANDS.items():
        one = added.add_parser(name, help=about, description=f"{about}\n\n{more}", formatter_class=_RAW)
        one.set_defaults(command=name)
        describe(one)
    return found


def _ground(one: argparse.ArgumentParser) -> None:
    _drawn(one, "ground")
    one.add_argument("text", type=_text, help="one or more sentences")
    one.add_argument(
        "--reference",
        type=_path,
        metavar="FILE",
        help="sentences to rank among, one a line (those kept with the model, or a general list)",
    )
    one.add_argument(
        "--masks",
        type=_path,
        metavar="NAME",
        help="also the masks at the picture's own size: a name without ending is a folder of PNG files, .npy an array, "
        ".json COCO's run lengths",
    )
    one.add_argument("--json", action="store_true", help="print scores and files as JSON")


def _segment(one: argparse.ArgumentParser) -> None:
    _drawn(one, "segments")


def _search(one: argparse.ArgumentParser) -> None:
    one.add_argument("folder", type=_path, help="folder of pictures")
    one.add_argument("text", type=_text, help="a description, as long as you like")
    one.add_argument("-k", dest="number", type=_positive, default=5, help="how many (5)")
    one.add_argument(
        "--part-weight",
        type=_share,
        default=0.3,
        metavar="W",
        help="score = (1 - W) whole picture + W parts, CAFT++; 0 for a model without parts (0.3)",
    )
    one.add_argument("-o", "--output", type=_path, help="also a .png file with what was found, in small pictures")
    _width(one)
    _model(one)


def _audit(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "source", type=_path, help="table with the columns image and caption, or folder of pictures and texts"
    )
    one.add_argument("-o", "--output", type=_path, help="a .csv, .json or .parquet file (NAME.audit.csv)")
    one.add_argument("--page", type=_path, help="also an .html file with the sentences that have the least support")
    one.add_argument("--share", type=_share, metavar="S", help="flag this share of the sentences (by Tukey's fence)")
    _model(one)


def _demo(one: argparse.ArgumentParser) -> None:
    one.add_argument("model", nargs="?", type=_name, default=MODEL, help=f"weights ({MODEL})")
    one.add_argument(
        "pictures", nargs="?", type=_path, help="folder of pictures to begin with (the rendered ones, if they are here)"
    )
    one.add_argument("--port", type=_port, default=0, help="of this machine alone (a free one)")
    one.add_argument("-o", "--output", type=_path, help="write an .html file instead, which needs no server")


def _chunk(one: argparse.ArgumentParser) -> None:
    one.add_argument("text", type=_text, help="a caption")
    one.add_argument("--splitter", choices=SPLITTERS, help="how sentences are found")
    one.add_argument("--model", type=_name, metavar="FILE", help="read the caption as this model does")


def _info(one: argparse.ArgumentParser) -> None:
    one.add_argument("model", nargs="?", type=_name, default=MODEL, help=f"weights ({MODEL})")
    one.add_argument("--metrics", type=_path, metavar="FOLDER", help="with the scores of this folder's files")


def _convert(one: argparse.ArgumentParser) -> None:
    one.add_argument("checkpoint", type=_name, help="the authors' file, or a name on a hub")
    one.add_argument("-o", "--output", type=_path, required=True, help="a .safetensors file; the card goes beside it")


def _export(one: argparse.ArgumentParser) -> None:
    one.add_argument("model", nargs="?", type=_name, default=MODEL, help=f"weights ({MODEL})")
    one.add_argument("--onnx", type=_path, metavar="FOLDER", help="a new folder for ONNX files")
    one.add_argument("--torch-export", type=_path, metavar="FOLDER", help="a new folder for programs of torch.export")
    one.add_argument("--int8", action="store_true", help="with --onnx: also files with weights of eight bits")
    one.add_argument(
        "--sets",
        type=_names,
        metavar="NAME,NAME",
        help="evaluation sets of params.yaml on which each form is scored (the first of retrieval and of masks)",
    )


def _push(one: argparse.ArgumentParser) -> None:
    one.add_argument("model", type=_name, help="weights")
    one.add_argument("to", metavar="OWNER/NAME", help="the repository, made if it is not there")
    one.add_argument("--license", metavar="ID", help="as the hub abbreviates it, such as mit")
    one.add_argument("--metrics", type=_path, metavar="FOLDER", help="with the scores of this folder's files")
    one.add_argument(
        "--private",
        action="store_true",
        help="a new repository is private (else public, or as its organization has it)",
    )
    one.add_argument("--dry-run", action="store_true", help="print what would be sent, and send nothing")


# What each takes, its line of help, and more of its own help.
_COMMANDS: Mapping[str, tuple[Callable[[argparse.ArgumentParser], None], str, str]] = {
    "ground": (
        _ground,
        "Draws where each sentence of a text looks in a picture, how well it matches, and the mask it finds.",
        "Each sentence asks alone. Bright is where it looks; the mask is what Otsu's threshold leaves of that map.\n"
        "Attention always looks somewhere. Whether the sentence is true of the picture, its match says: a probability,\n"
        "and the share of reference sentences that fit the picture less. Standard error has a line for each sentence;\n"
        "where the picture does not bear it out, its mask is grey. For other programs: --masks and --json.\n"
        'example: caft ground photo.jpg "A striped red star left of the heart." -o out.png',
    ),
    "segment": (
        _segment,
        "Draws the superpixels of a picture and the segments they are grouped into, level by level.",
        "Colours of a level keep to those of the next: segments are nested.\n"
        "example: caft segment photo.jpg -o segments.png",
    ),
    "search": (
        _search,
        "Lists the pictures of a folder that fit a long description best.",
        "Prints score and file, best first. Folders in the folder are searched too. Pictures are encoded once and kept\n"
        "in ~/.cache/caft (XDG_CACHE_HOME moves it): the next search encodes only what came or changed.\n"
        'example: caft search photos/ "A cat sleeps on a wooden chair. A red lamp stands behind it." -k 3',
    ),
    "audit": (
        _audit,
        "Flags the sentences of captions that no region of their picture bears out.",
        "The table: .csv, .tsv, .json, .jsonl or .parquet, paths from its own folder. The folder: a.txt beside a.jpg. Each\n"
        "sentence is compared with up to 128 of the other pictures: support is its logit less its mean over these, so 0 is\n"
        "what a picture gets that has nothing to do with it. Flagged is what lies 1.5 interquartile ranges below the lower\n"
        "quartile of all supports, or with --share the lowest share. docs/auditor.md says what this finds, and what not.\n"
        "example: caft audit captions.csv -o audit.parquet --page worst.html",
    ),
    "demo": (
        _demo,
        "Opens a model to a browser: drop a picture, type a caption, and see where each sentence looks.",
        "Serves one page on this machine alone (127.0.0.1) and prints its address; Ctrl-C ends it. The model runs in the\n"
        "page, and nothing leaves it: maps, masks and scores of sentences, nested segments, and search among the first 512\n"
        "pictures of the folder. A text beside a picture, a.txt beside a.jpg, is its caption. For small models: the page\n"
        "has at most 20 MB.\n"
        "example: caft demo models/caft.safetensors photos/ --port 8000",
    ),
    "chunk": (
        _chunk,
        "Shows how a caption is split into sentences and grouped into the sub-captions that the model reads.",
        "Without a model: as the paper's authors read captions, split at every full stop, four balanced chunks.\n"
        'example: caft chunk "A cat. It sleeps. The chair is red. A lamp stands behind it. It is on."',
    ),
    "info": (
        _info,
        "Prints a model's card, and what its file holds.",
        "The card is Markdown: sizes, training data, recipe, how captions are read, scores, use and limits.\n"
        "example: caft info models/caft.safetensors --metrics metrics > MODEL_CARD.md",
    ),
    "convert": (
        _convert,
        "Turns the authors' checkpoint into this project's two files, weights and card.",
        "Every name and shape is checked. The two files load faster, and hold nothing that could be executed.\n"
        "example: caft convert release.pt -o release.safetensors",
    ),
    "export": (
        _export,
        "Writes a model as ONNX or as programs of torch.export, for runtimes without this project.",
        "Four graphs: image, text, caption and score, of any number of pictures and texts; docs/export.md says what goes\n"
        "in and out. Beside them manifest.json (sizes, licence, sha256), the model's card, and parity.md: how far each\n"
        "form is from the network. ONNX needs the extra `export`: pip install 'caft[export]'.\n"
        "example: caft export models/caft.safetensors --onnx exported --int8",
    ),
    "push": (
        _push,
        "Sends a model to a model hub: weights, card and page, and nothing else.",
        "By huggingface_hub (the extra `hub`), which has the login, as one commit. The page has licence, tags and scores at\n"
        "its head, as the hub reads them. Whoever may read the repository loads it as hf:OWNER/NAME. The card holds some\n"
        "sentences of the training captions; --dry-run shows all.\n"
        "example: caft push models/caft.safetensors me/caft-tiny --metrics metrics --dry-run",
    ),
}


def _drawn(one: argparse.ArgumentParser, ending: str) -> None:
    one.add_argument("picture", type=_path, help="picture file of any kind that Pillow reads")
    _model(one)
    form = (
        f"a .png file for one sheet, or a name without ending: a folder for the single pictures (PICTURE.{ending}.png)"
    )
    one.add_argument("-o", "--output", type=_path, help=form)
    _width(one)


def _width(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--width",
        type=_pixels,
        metavar="PIXELS",
        help="width of the picture each time that it is drawn (its longer side is 288 pixels)",
    )


def _model(one: argparse.ArgumentParser) -> None:
    one.add_argument("--model", type=_name, default=MODEL, metavar="FILE", help=f"weights ({MODEL})")


# ---------------------------------------------------------------------- kinds of arguments


def _text(word: str) -> str:
    """A text; where the system's locale could not read it, its bytes are UTF-8 (PEP 383)."""
    return word.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _name(word: str) -> str:
    """A name that a file or folder can have; an empty one, as of a variable that is not set, would be this folder."""
    if not word:
        raise argparse.ArgumentTypeError("expected the name of a file or folder, found an empty one")
    try:
        os.lstat(word)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            raise argparse.ArgumentTypeError(
                f"no file or folder can have the name {word[:40]!r}... of {len(word)} characters; check it"
            ) from None
    return word


def _path(word: str) -> Path:
    return Path(_name(word))


def _names(word: str) -> list[str]:
    return [name.strip() for name in word.split(",") if name.strip()]


def _positive(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {word!r}")
    return int(word)


def _port(word: str) -> int:
    if not word.isdecimal() or not 1 <= int(word) <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, found {word!r}")
    return int(word)


def _pixels(word: str) -> int:
    if not word.isdecimal() or int(word) not in WIDTHS:
        expected = f"expected a whole number from {WIDTHS.start} to {WIDTHS.stop - 1}"
        raise argparse.ArgumentTypeError(f"{expected}, found {word!r}")
    return int(word)


def _share(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, found {word!r}")
    return value
