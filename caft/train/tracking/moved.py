"""A storage that was copied or moved: MLflow's database says in absolute addresses where artifacts are.

MLflow makes every address that it is given absolute (`resolve_uri_if_local`), so none can be stored relative to
`storage.root`. An experiment whose artifacts lie elsewhere is an error at the start, before anything is written there, and
`python -m pipelines.moved` mends it.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from caft import storage
from caft.errors import TrackingError
from caft.storage import write_text
from caft.train.tracking.server import database_of, one_writer, translated

if TYPE_CHECKING:
    from caft.params import Params

# Where MLflow 3.17 keeps addresses of artifacts.
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def root_of_before(location: str, params: Params, uri: str) -> Path | None:
    """The storage root from which a database was copied or moved, by its experiment's artifact location; None if it was not.

    Only a database in the storage root, and artifacts where this project puts them, are looked at: who has chosen another
    place for either knows where it is. Another way to one folder, as over another mount, is the same place.
    """
    database, here = database_of(uri), storage.root(params)
    found = Path(unquote(urlsplit(location).path)) if location.startswith("file:") else Path(location)
    ours = Path(unquote(urlsplit(storage.artifact_location(params)).path))
    if database is None or database.parent != here or found.name != ours.name or found == ours:
        return None
    return None if found.exists() and ours.exists() and os.path.samefile(found, ours) else found.parent


def check_place(location: str, params: Params, uri: str) -> None:
    """Refuses an experiment whose artifacts lie in the storage of before.

    Raises:
        TrackingError: Its storage was copied or moved.
    """
    if (before := root_of_before(location, params, uri)) is not None:
        raise TrackingError(
            f"{uri}: its runs keep their artifacts below {before}, and this storage is {storage.root(params)}: it was copied "
            f"or moved, and what is written now would go to {location}. Run `python -m pipelines.moved`, which sets the "
            "database to this place, and then this again"
        )


def mend(params: Params) -> dict[str, int]:
    """Sets all addresses below the storage of before to this one, in the database and in the models' own descriptions.

    Returns:
        How many addresses were changed, by the table of the database, and `MLmodel` for files; empty if none was to be.

    Raises:
        TrackingError: The tracker is no database in the storage root, there is none yet, or it cannot be read or written.
    """
    uri = storage.tracking_uri(params)
    database, here = database_of(uri), storage.root(params)
    if database is None or database.parent != here or not database.exists():
        raise TrackingError(
            f"{uri}: is no SQLite database in {here}, so nothing of it moves with the storage; look at storage.tracking_uri "
            "and storage.root in params.yaml"
        )
    changed: dict[str, int] = {}
    with translated(uri), one_writer(params), closing(sqlite3.connect(database)) as connection, connection:
        rows = connection.execute("SELECT artifact_location FROM experiments").fetchall()
        roots = {root for (location,) in rows if (root := root_of_before(location or "", params, uri)) is not None}
        # The longest first: of two roots of before, one may lie in the other.
        for before in sorted(roots, key=lambda path: len(str(path)), reverse=True):
            for old, new in ((before.as_uri(), here.as_uri()), (str(before), str(here))):
                for table, column in _PLACES:
                    if column not in {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}:
                        continue  # of another version of MLflow
                    done = connection.execute(
                        # What lies here already is left: this storage may lie in the one of before.
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE substr({column}, 1, ?) = ? AND substr({column}, 1, ?) <> ?",
                        (new, len(old) + 1, len(old) + 1, f"{old}/", len(new) + 1, f"{new}/"),
                    ).rowcount
                    if done:
                        changed[table] = changed.get(table, 0) + done
            for path in sorted((here / "mlartifacts").rglob("MLmodel")):
                text, old, new = path.read_text(encoding="utf-8"), f"{before.as_uri()}/", f"{here.as_uri()}/"
                if old in text and new not in text:
                    write_text(path, text.replace(old, new))
                    changed["MLmodel"] = changed.get("MLmodel", 0) + 1
    return changed
