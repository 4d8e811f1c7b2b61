"""Which columns of a corpus' table mean what, and what is wrong with a header."""

from __future__ import annotations

import difflib
import logging
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from caft.data.tables.schema import CSV_COLUMNS, FIELDS
from caft.errors import SchemaError

logger = logging.getLogger(__name__)

_SHOWN = 20  # names in a message
_NEAR = 0.85  # least likeness of a name that may be a known one mistyped
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", ":": "colons", " ": "spaces"}


@dataclass(frozen=True)
class Columns:
    """Which columns of a table mean what.

    Attributes:
        address: Names of the column that says where the image is, one of which must be there. A column `path` holds
            names of files, relative to the table's folder.
        captions: Field of each column of captions.
        complete: All columns must be there; else one with captions suffices.
        packed: Images are taken out of packed tars by their address, which is never opened and may be anything.
    """

    address: tuple[str, ...]
    captions: Mapping[str, str]
    complete: bool
    packed: bool = False

    @property
    def names(self) -> str:
        """What is expected, for errors."""
        if self.complete:
            return ", ".join((*self.address, *self.captions))
        return f"{' or '.join(self.address)}, and of {', '.join(self.captions)} at least one"

    def for_packed(self) -> Columns:
        """The same, where images are taken out of packed tars: these hold addresses and no paths."""
        return replace(self, address=tuple(name for name in self.address if name != "path"), packed=True)


DREAMLIP = Columns(CSV_COLUMNS[:1], MappingProxyType(dict(zip(CSV_COLUMNS[1:], FIELDS, strict=True))), complete=True)
# Whose annotator a field is named after makes no difference to training: long ones are taken apart, others are not.
CUSTOM = Columns(
    ("url", "path"),
    MappingProxyType(
        {
            "long_caption": "long_ib",
            "long_caption_2": "long_sv",
            "long_caption_3": "long_lla",
            "short_caption": "short_ib",
            "short_caption_2": "short_sv",
            "short_caption_3": "short_lla",
            "raw_caption": "raw",
        }
    ),
    complete=False,
)


def places(found: Sequence[str], columns: Columns, where: str) -> list[int]:
    """Position of address and captions in a header; -1 for a missing column.

    A name that is a known one but for capitals, spaces or lines is an error, one that is only like it a warning: else a
    column of captions would be passed over without a word.

    Raises:
        SchemaError: A column is missing, occurs twice, or is nearly called as one that is read.
    """
    known = (*columns.address, *columns.captions)
    _check_names(found, known, where)
    address = [name for name in columns.address if name in found]
    captions = {field: name for name, field in columns.captions.items() if name in found}
    missing = [name for name in known if name not in found]
    if columns.complete and missing:
        raise SchemaError(
            f"{where} lacks the columns {', '.join(missing)}; found: {_shown(found) or 'nothing'}; "
            f"expected: {columns.names}. The published files with addresses have names that end in _url.csv"
        )
    if columns.packed and not address and "path" in found:
        raise SchemaError(
            f"{where}: column path names files, but the pictures of this corpus come out of `packed` tars, where they "
            "are found by the column url; give that column, or leave out `packed`"
        )
    if len(address) != 1 or not captions:
        advice = f". A picture comes from one place: leave out {' or '.join(address)}" if len(address) > 1 else ""
        if not address and not captions:
            advice = "; the names of the columns must come first, before all rows"
        raise SchemaError(f"{where}: found the columns {_shown(found) or 'none'}; expected: {columns.names}{advice}")
    names = [address[0], *(captions.get(field, "") for field in FIELDS)]
    return [found.index(name) if name else -1 for name in names]


def other_separator(line: str, columns: Columns) -> str | None:
    """What separates the columns in a header's line if it is no comma, such as semicolons; else None."""
    known = {_plain(name) for name in (*columns.address, *columns.captions)}

    def names(separator: str) -> int:
        return sum(_plain(name) in known for name in line.split(separator))

    for character in sorted(set(line.strip())):
        is_name = character.isalnum() or character in "_-,.\"'"
        if not is_name and names(character) > max(1, names(",")):
            return _SEPARATORS.get(character, f"the character {character!r}")
    return None


def _check_names(found: Sequence[str], known: Sequence[str], where: str) -> None:
    """Compares the names in a header, but for those that are known, with the known ones."""
    twice = [name for name in known if found.count(name) > 1]
    if twice:
        at = " and ".join(str(place) for place, name in enumerate(found, start=1) if name == twice[0])
        raise SchemaError(f"{where}: column {twice[0]} occurs twice (columns {at}); leave one out, or rename it")
    spellings = {_plain(name): name for name in known}
    others = [name for name in found if name not in known]
    nearly = {name: spellings[_plain(name)] for name in others if _plain(name) in spellings}
    spaced = [name for name in nearly if name != name.strip()]
    if spaced:
        raise SchemaError(
            f"{where}: the names {', '.join(repr(name) for name in spaced[:_SHOWN])} begin or end with a space; separate "
            "columns by a comma alone, in all lines"
        )
    if nearly:
        raise SchemaError(f"{where}: {_meant(nearly)} Rename it so, or otherwise if it is something else")
    orders = {_words(name): name for name in known}
    close = {name: difflib.get_close_matches(_plain(name), spellings, 1, _NEAR) for name in others}
    like = {name: spellings[matches[0]] for name, matches in close.items() if matches}
    like |= {name: orders[_words(name)] for name in others if _words(name) in orders}
    if like:
        logger.warning("%s: %s", where, _meant(like))
    if rest := [name for name in others if name and name not in like]:
        logger.info("%s: columns that are not read: %s", where, _shown(rest))


def _meant(names: Mapping[str, str]) -> str:
    pairs = list(names.items())[:_SHOWN]
    return " ".join(f"Column {_shown([name])} is not read; did you mean {meant}?" for name, meant in pairs)


def _plain(name: str) -> str:
    """A name without what is easily mistaken: capitals, what separates words, plurals, and the first's number."""
    letters = re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKC", name).lower()).replace("captions", "caption")
    return re.sub(r"(?<=[a-z])1$", "", letters)


def _words(name: str) -> tuple[str, ...]:
    """The words of a name in one order, whatever is between them: of `caption_long` those of `long_caption`."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+", name)
    return tuple(sorted(word.lower().removesuffix("s") for word in words))


def _shown(names: Sequence[str]) -> str:
    """Names for a message of one line."""
    shown = ["".join(c if c.isprintable() else "?" for c in name[:60]) for name in names[:_SHOWN]]
    return ", ".join([*shown, f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else shown)
