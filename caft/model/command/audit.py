"""The command `caft audit`."""

import argparse
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from caft.errors import DataError
from caft.model.command.common import loaded, one_line, remark, say
from caft.model.interrupts import importing
from caft.model.output import check_output
from caft.model.pairs import Pair, read_pairs, said
from caft.pictures.reading import read_rgb
from caft.storage import replacing, write_text

TABLES = (".csv", ".json", ".parquet")
_AT_ONCE = 64  # pictures
_SEED = 0  # of the choice of the others
Row = dict[str, Any]


def audit(arguments: argparse.Namespace) -> None:
    """Flags sentences that their picture bears out less than other pictures do."""
    named = Path(os.path.abspath(arguments.source))  # "." has a name so
    output: Path = arguments.output or Path(f"{named.name if named.is_dir() else named.stem}.audit.csv")
    if output.suffix.lower() not in TABLES:
        raise DataError(f"{output}: expected a name that ends in one of {', '.join(TABLES)}; give another with -o")
    check_output(output, output.suffix.lower())
    if arguments.page is not None:
        check_output(arguments.page, ".html", option="--page")
    pairs = read_pairs(arguments.source)
    model = loaded(arguments.model)
    with importing():
        from caft.model.support import OTHERS, Judge, least_support
    of_picture: dict[Path, list[Pair]] = {}
    for pair in pairs:
        of_picture.setdefault(pair.image, []).append(pair)
    lost: dict[Path, str] = {}
    side = model.network.image_size
    drawn = [list(of_picture)[place] for place in np.random.default_rng(_SEED).permutation(len(of_picture))]
    others: dict[Path, Image.Image] = {}
    for path in drawn:
        if len(others) == OTHERS:
            break
        others |= _opened([path], lost, side)
    judge = Judge.of(model.network, list(others), list(others.values()))
    rows: list[Row] = []
    for some in _batches(list(of_picture)):
        pictures = _opened([path for path in some if path not in lost], lost, side)
        found = {path: list(_sentences(of_picture[path], model.card.splitter)) for path in pictures}
        texts = [[row["sentence"] for row in found[path]] for path in pictures]
        scored = judge.score(list(pictures), list(pictures.values()), texts)
        asked = [row for path in pictures for row in found[path]]
        for row, logit, support in zip(asked, scored.logits.tolist(), scored.support.tolist(), strict=True):
            rows.append({**row, "logit": logit, "support": None if np.isnan(support) else support})
    known = np.array([np.nan if row["support"] is None else row["support"] for row in rows])
    threshold = least_support(known, arguments.share)
    rows = [{**row, "flagged": bool(value < threshold)} for row, value in zip(rows, known, strict=True)]
    _write(rows, output)
    say(one_line(output))
    counts = _counts(rows, threshold)
    if arguments.page is not None:
        _write_page(model, arguments.source.name, rows, counts, arguments.page)
        say(one_line(arguments.page))
    for path, reason in lost.items():
        remark(f"left out: {reason if str(path) in reason else f'{path}: {reason}'}")
    read = len(of_picture) - len(lost)
    remark(
        f"{counts['flagged']} of {len(rows)} sentences flagged, support below {threshold:.2f}; {read} pictures, {len(lost)} "
        f"could not be read; each sentence compared with {min(len(others), read - 1)} others at the most"
    )


def _batches(paths: list[Path]) -> Iterator[list[Path]]:
    for first in range(0, len(paths), _AT_ONCE):
        yield paths[first : first + _AT_ONCE]


def _opened(paths: list[Path], lost: dict[Path, str], side: int) -> dict[Path, Image.Image]:
    """The pictures that can be read, squashed to the model's size, since many are held; the others' reasons go into `lost`."""
    found = {}
    for path in paths:
        try:
            found[path] = read_rgb(path, upright=True).resize((side, side), Image.Resampling.BICUBIC)
        except DataError as error:
            lost[path] = str(error)
    return found


def _sentences(pairs: list[Pair], splitter: Any) -> Iterator[Row]:
    for pair in pairs:
        for sentence in said(pair.caption, splitter):
            yield {"image": pair.image, "row": pair.row, **sentence._asdict()}


def _counts(rows: list[Row], threshold: float) -> dict[str, Any]:
    sentences = Counter(row["row"] for row in rows)
    flagged = Counter(row["row"] for row in rows if row["flagged"])
    return {
        "sentences": len(rows),
        "flagged": flagged.total(),
        "without_support": sum(row["support"] is None for row in rows),
        "captions": sum(sentences[row] == count for row, count in flagged.items()),
        "threshold": threshold,
    }


def _write(rows: list[Row], output: Path) -> None:
    """Writes the table in the form that its ending says; bytes of a name that are no UTF-8 are escapes, as \\xff."""
    with importing():
        import pyarrow as pa
        import pyarrow.parquet as pq
        from pyarrow import csv

    rows = [{**row, "image": os.fsencode(row["image"]).decode("utf-8", "backslashreplace")} for row in rows]
    with replacing(output) as temporary:
        if output.suffix.lower() == ".json":
            temporary.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        elif output.suffix.lower() == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), temporary)
        else:
            csv.write_csv(pa.Table.from_pylist(rows), temporary)


def _write_page(model: Any, name: str, rows: list[Row], counts: dict[str, Any], page: Path) -> None:
    with importing():
        from caft.eval.report.worst import MOST, Worst, worst_page
    cases = []
    for row in sorted((row for row in rows if row["support"] is not None), key=lambda row: float(row["support"]))[
        :MOST
    ]:
        picture = read_rgb(row["image"], upright=True)
        values = model.ground(picture, [row["sentence"]], (picture.height, picture.width))[0]
        name_of = os.fsencode(row["image"].name).decode("utf-8", "backslashreplace")
        cases.append(Worst(name_of, picture, row["sentence"], row["logit"], row["support"], row["flagged"], values))
    write_text(page, worst_page(name, counts, cases))
