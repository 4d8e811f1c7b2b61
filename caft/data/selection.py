"""Which corpora a run trains on, by name and content."""

import hashlib
from pathlib import Path

from caft.errors import DataError


def content_fingerprint(*folders: Path) -> str:
    """SHA-256 over the names and bytes of the tables in some folders.

    Raises:
        DataError: A folder is missing or empty.
    """
    digest = hashlib.sha256()
    for folder in folders:
        paths = sorted(folder.glob("[0-9]*.parquet"))
        if not paths:
            raise DataError(f"{folder}: holds no table; run the stage that writes it (`dvc repro`)")
        for path in paths:
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
