"""One record of a corpus' table, and what every record is checked for."""

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

from caft.data.tables.header import Columns
from caft.data.tables.nothing import is_nothing

# Longest field in characters. A quote that is never closed ends here at the latest.
FIELD_LIMIT = 131_072
# What urllib opens beside the web's addresses would be files of this machine, and it takes such through a wrapping, too.
_WEB = re.compile("https?:", re.IGNORECASE)
_SCHEME = re.compile(r"[^/:]+:")


class Record(NamedTuple):
    """A record of a table.

    Attributes:
        line: Its first line in a CSV, or its row in a Parquet file, from 1.
        problem: What is wrong, or None.
        fields: Address and captions in order of `FIELDS`, "" for none; of a wrong record whatever was found.
        reason: Of a wrong record, as it is counted.
    """

    line: int
    problem: str | None
    fields: Sequence[str]
    reason: str = "bad_record"


def checked(line: int, fields: list[str], is_path: bool, columns: Columns) -> Record:
    """A record whose fields were read, unless one is too long or its address is none that may be opened."""
    longest = max(map(len, fields))
    if longest > FIELD_LIMIT:
        return Record(line, f"field larger than field limit ({FIELD_LIMIT}): {longest} characters", fields)
    address = fields[0].strip()
    if is_path:
        # No folder of this machine is part of it; it is opened from the table's folder.
        fields[0] = "" if is_nothing(address) else f"file:{quote(address)}"
    elif not columns.packed and not _WEB.match(address) and _SCHEME.match(address):
        problem = f"no address of the web, and only a table with the column path names files: {address}"
        return Record(line, problem, fields, "not_web")
    return Record(line, None, fields)
