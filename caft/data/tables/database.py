"""DuckDB within a limit of memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb


def bounded(folder: Path, memory_gb: int) -> duckdb.DuckDBPyConnection:
    """Returns a new database in memory, of `memory_gb` GB at most; what exceeds them goes into ``duckdb/`` below `folder`."""
    import duckdb  # stages that check a manifest's images import this module and ask for no database

    return duckdb.connect(config={"memory_limit": f"{memory_gb}GB", "temp_directory": str(folder / "duckdb")})
