"""Counts how much of long captions a model reads: chunks that are cut at the text encoder's context, and tokens never seen.

    python -m benchmarks.reading datasets/IIW-400/data.jsonl --field IIW
    python -m benchmarks.reading data/benchmarks/scenes/random/caption --splitter spacy

A file of JSON lines holds a caption in a field of each line; a folder, one caption in each of its .txt files.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from caft.captions.sentences import Splitter
from caft.errors import DataError
from caft.model.card import ModelCard
from caft.model.encoding import token_rows
from caft.params import load_params

Rule = Literal["paper", "release"]
CHUNKS = (4, 5, 6, 8)


@dataclass(frozen=True)
class Reading:
    """How captions are read in a number of chunks: shares in percent of all chunks, and of all tokens."""

    chunks: int
    cut: float
    unseen: float


def read(paths: Sequence[Path], field: str) -> list[str]:
    """The captions of files of JSON lines and of folders of texts, in order.

    Raises:
        DataError: A file cannot be read, or a line has no such field; or there is no caption.
    """
    found: list[str] = []
    for path in paths:
        if path.is_dir():
            found += [text.read_text() for text in sorted(path.glob("*.txt"))]
            continue
        try:
            lines = path.read_text().split("\n")
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; give files of JSON lines, or folders of .txt files") from None
        found += [_caption(path, number, line, field) for number, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise DataError(f"{', '.join(map(str, paths))}: no caption; a folder's are its .txt files")
    return found


def _caption(path: Path, number: int, line: str, field: str) -> str:
    try:
        row = json.loads(line)
        return str(row[field])
    except (ValueError, TypeError, KeyError) as error:
        names = f"it has {', '.join(row)}" if isinstance(error, KeyError) else "it is no JSON object"
        raise DataError(f"{path}, line {number}: no caption in field {field}; {names}; name one by --field") from None


def readings(captions: Sequence[str], splitter: Splitter, rule: Rule, numbers: Sequence[int]) -> list[Reading]:
    """How much of captions is read in each of some numbers of chunks, by the sizes of the model `base`."""
    sizes = load_params().models["base"]
    found = []
    for chunks in numbers:
        card = ModelCard(splitter=splitter, chunks=chunks, balanced_rule=rule, model=sizes, fingerprint="0" * 16)
        rows = token_rows(card, captions, sizes.text.context)
        cut, unseen = len(rows.lost) / (len(captions) * chunks), 1 - rows.seen / rows.tokens
        found.append(Reading(chunks, 100 * cut, 100 * unseen))
    return found


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reading", description=__doc__.partition("\n")[0])
    parser.add_argument("captions", nargs="+", type=Path, help="files of JSON lines, or folders of .txt files")
    parser.add_argument("--field", default="caption", help="of a line, which holds its caption")
    parser.add_argument("--splitter", default="dreamlip", choices=get_args(Splitter))
    parser.add_argument("--rule", default="paper", choices=get_args(Rule), help="by which sentences are balanced")
    parser.add_argument("--chunks", nargs="+", type=int, default=CHUNKS)
    arguments = parser.parse_args()
    try:
        captions = read(arguments.captions, arguments.field)
    except DataError as error:
        parser.error(str(error))
    print(f"{len(captions)} captions\nchunks  cut %  unseen %")
    for found in readings(captions, arguments.splitter, arguments.rule, arguments.chunks):
        print(f"{found.chunks:6} {found.cut:6.1f} {found.unseen:9.1f}")


if __name__ == "__main__":
    main()
