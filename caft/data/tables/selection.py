"""Which corpora a run trains on, by name and content."""

import hashlib
from pathlib import Path

from caft.digests import file_digest
from caft.errors import DataError


def content_fingerprint(*paths: Path) -> str:
    """SHA-256 over the names and bytes of some files, and of the tables in some folders.

    Raises:
        DataError: A file is missing, or a folder is missing or empty.
    """
    result = hashlib.sha256()
    for path in paths:
        files = [path] if path.is_file() else sorted(path.glob("[0-9]*.parquet"))
        if not files:
            raise DataError(f"{path}: not found, or holds no table; run the stage that writes it (`dvc repro`)")
        for file in files:
            result.update(f"{file.name} {file_digest(file)}\n".encode())
    return result.hexdigest()
