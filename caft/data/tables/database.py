"""DuckDB within a limit of memory."""

from pathlib import Path

import duckdb


def bounded(folder: Path, memory_gb: int) -> duckdb.DuckDBPyConnection:
    """Returns a new database in memory, of `memory_gb` GB at most; what exceeds them goes into ``duckdb/`` below `folder`."""
    return duckdb.connect(config={"memory_limit": f"{memory_gb}GB", "temp_directory": str(folder / "duckdb")})
