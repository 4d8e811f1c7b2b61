"""The references of `refer`: a pickle of Python 2, read once and kept beside as a table."""

import hashlib
import io
import logging
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caft.errors import DataError
from caft.storage import replacing

if TYPE_CHECKING:  # not installed by those who only use a model, and they import the sets' classes
    import pyarrow as pa

logger = logging.getLogger(__name__)

_NEEDED = {"image_id", "ann_id", "split", "sentences"}
# A smaller pickle is read as fast as its table.
_WORTH_KEEPING = 1_000_000
_KEY = b"sha256 of the pickle"


def schema() -> "pa.Schema":
    """Of the table: a row for each sentence; `reference` is the place of its reference in the pickle."""
    import pyarrow as pa

    numbers = [(name, pa.int64()) for name in ("reference", "image_id", "ann_id")]
    return pa.schema([*numbers, *((name, pa.string()) for name in ("split", "sent", "raw"))])


def read_references(path: Path) -> "pa.Table":
    """References of a pickle `refs(<split by>).p` as a table of `schema`.

    The table of a large pickle is kept as `refs(<split by>).parquet`, if the folder can be written, and made anew when
    the pickle changes.

    Raises:
        DataError: It is damaged, or asks for more than plain containers.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest().encode()
    kept = path.with_suffix(".parquet")
    if kept.is_file():
        try:
            table = pq.read_table(kept)
        except (OSError, pa.ArrowException):
            table = None
        if table is not None and (table.schema.metadata or {}).get(_KEY) == digest and table.schema.equals(schema()):
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


def _table(path: Path, content: bytes) -> "pa.Table":
    import pyarrow as pa

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
        return pa.Table.from_pylist(rows, schema())
    except Exception as error:  # a damaged pickle raises errors of many kinds
        raise DataError(f"{path}: cannot be read: {error}; download it again") from None
