"""DuckDB within a limit of memory."""

from pathlib import Path

import duckdb


def bounded(folder: Path, memory_gb: int) -> duckdb.DuckDBPyConnection:
    """Returns a new database in memory.

    Args:
        folder: What exceeds the limit is written below it, into ``duckdb/``.
        memory_gb: What DuckDB may keep in memory, in GB.
    """
    return duckdb.connect(config={"memory_limit": f"{memory_gb}GB", "temp_directory": str(folder / "duckdb")})
