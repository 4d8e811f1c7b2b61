"""The references of `refer`: a pickle of Python 2, read once and kept beside as a table."""

import hashlib
import io
import logging
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from caft.errors import DataError
from caft.storage import replacing

logger = logging.getLogger(__name__)

# A row for each sentence; `reference` is the place of its reference in the pickle.
SCHEMA = pa.schema(
    [
        ("reference", pa.int64()),
        ("image_id", pa.int64()),
        ("ann_id", pa.int64()),
        ("split", pa.string()),
        ("sent", pa.string()),
        ("raw", pa.string()),
    ]
)
_NEEDED = {"image_id", "ann_id", "split", "sentences"}
# A smaller pickle is read as fast as its table.
_WORTH_KEEPING = 1_000_000
_KEY = b"sha256 of the pickle"


def read_references(path: Path) -> pa.Table:
    """References of a pickle `refs(<split by>).p` as a table of `SCHEMA`.

    The table of a large pickle is kept as `refs(<split by>).parquet`, if the folder can be written, and made anew when
    the pickle changes.

    Raises:
        DataError: It is damaged, or asks for more than plain containers.
    """
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest().encode()
    kept = path.with_suffix(".parquet")
    if kept.is_file():
        try:
            table = pq.read_table(kept)
        except (OSError, pa.ArrowException):
            table = None
        if table is not None and (table.schema.metadata or {}).get(_KEY) == digest and table.schema.equals(SCHEMA):
            return table
    table = _table(path, content).replace_schema_metadata({_KEY: digest})
    if len(content) >= _WORTH_KEEPING:
        try:
            with replacing(kept) as temporary:
                pq.write_table(table, temporary)
        except OSError as error:
            logger.info("%s: not kept (%s); the pickle is read each time", kept, error)
    return table


class _PlainUnpickler(pickle.Unpickler):
    """Reads containers, numbers and strings; a pickle that names any class or function is refused."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}, and only plain containers are read")


def _table(path: Path, content: bytes) -> pa.Table:
    try:
        references = _PlainUnpickler(io.BytesIO(content), encoding="latin1").load()  # they come from Python 2
        if not isinstance(references, list) or not all(_NEEDED <= set(reference) for reference in references):
            raise pickle.UnpicklingError(f"it is no list of dicts with {', '.join(sorted(_NEEDED))}")
        rows = [
            {
                "reference": number,
                **{key: reference[key] for key in ("image_id", "ann_id", "split")},
                "sent": sentence["sent"],
                "raw": sentence.get("raw"),
            }
            for number, reference in enumerate(references)
            for sentence in reference["sentences"]
        ]
        return pa.Table.from_pylist(rows, SCHEMA)
    except Exception as error:  # a damaged pickle raises errors of many kinds
        raise DataError(f"{path}: cannot be read: {error}; download it again") from None
