"""Columns of the tables that stages hand to each other."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from caft.data.tables.fields import FIELDS as FIELDS
from caft.data.tables.fields import LONG_FIELDS as LONG_FIELDS
from caft.data.tables.meanings import schema
from caft.errors import DataError, SchemaError

# Headers of the published CSV files, in order; the first holds the URL in spite of its name.
CSV_COLUMNS = (
    "Image Path",
    "raw_caption",
    "shortIB_captions",
    "longIB_captions",
    "shortSV_captions",
    "longSV_captions",
    "shortLLA_captions",
    "longLLA_captions",
)

_VERSION = {"caft_schema": "2"}
_SHOWN = 60  # characters of a type in an error
_CAPTIONS = [(field, pa.string()) for field in FIELDS]
# Of each caption by its name, as programs count a list's items from 0 or from 1: start and end of its sentences in
# characters, and their token ids.
_SPANS = pa.struct([(field, pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32())]))) for field in FIELDS])
_IDS = pa.struct([(field, pa.list_(pa.list_(pa.uint16()))) for field in FIELDS])

URLS = schema([("row_id", pa.int64()), ("url", pa.string()), *_CAPTIONS], _VERSION)
REJECTS = schema(
    [("row_id", pa.int64()), ("line", pa.int64()), ("reason", pa.string()), ("text", pa.string())], _VERSION
)
CAPTIONS = schema(
    [
        ("key", pa.string()),
        ("row_id", pa.int64()),
        ("offset", pa.int64()),
        ("size", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("download_sha256", pa.string()),
        *_CAPTIONS,
    ],
    _VERSION,
)
SENTENCES = schema(
    [
        ("row_id", pa.int64()),
        ("spacy_spans", _SPANS),
        ("spacy_ids", _IDS),
        ("dreamlip_spans", _SPANS),
        ("dreamlip_ids", _IDS),
    ],
    _VERSION,
)


def open_table(path: Path, expected: pa.Schema) -> pq.ParquetFile:
    """Opens a table of another stage, once its columns and types are what its reader needs.

    Raises:
        DataError: The file is missing, or is no Parquet file.
        SchemaError: A column is missing or of another type.
    """
    try:
        table = pq.ParquetFile(path)
    except FileNotFoundError:
        raise DataError(f"{path}: not found; run the stage that writes it (`dvc repro`)") from None
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's, not the reader's
        raise DataError(
            f"{path}: is no whole Parquet file ({str(error).strip()}); remove it and run `dvc repro`"
        ) from None
    check_table(table.schema_arrow, expected, str(path))
    return table


def check_table(found: pa.Schema, expected: pa.Schema, where: str) -> None:
    """Compares a table's columns and types with what its reader needs.

    Raises:
        SchemaError: A column is missing or of another type; names the file, all such columns, and what to do.
    """
    problems = []
    for field in expected:
        if field.name not in found.names:
            problems.append(f"column {field.name} is missing")
        elif found.field(field.name).type != field.type:
            types = (found.field(field.name).type, field.type)
            problems.append(f"column {field.name} is {{}}, expected {{}}".format(*map(_shown, types)))
    if problems:
        raise SchemaError(f"{where}: {'; '.join(problems)}. It was written by another version: run its stage again")


def _shown(kind: pa.DataType) -> str:
    """A type in a line; one of many parts by its beginning."""
    return str(kind) if len(str(kind)) <= _SHOWN else f"{str(kind)[:_SHOWN]}..."
