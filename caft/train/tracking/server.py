"""The tracker itself: its experiment, one writer at a time, and what its errors mean."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from caft import storage
from caft.errors import CaftError, TrackingError
from caft.locking import locked

if TYPE_CHECKING:
    from caft.params import Params

# Seconds to wait for another writer. The longest of them makes the database, in some twenty.
PATIENCE = 180.0
_OF_PROXIES = ("403", "407", "502", "503", "504")  # codes that proxies answer with


def experiment_of(client: Any, params: Params, uri: str) -> str:
    """Id of the experiment, created if needed.

    Raises:
        TrackingError: It was deleted.
    """
    name = params.storage.experiment
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # A server decides by itself where artifacts go.
        location = storage.artifact_location(params) if uri.startswith("sqlite:") else None
        return str(client.create_experiment(name, artifact_location=location))
    if experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"{uri}: the experiment '{name}' was deleted; restore it in the MLflow UI or with "
            f"`mlflow experiments restore -x {experiment.experiment_id}`, or set storage.experiment to another name"
        )
    return str(experiment.experiment_id)


def one_writer(params: Params) -> AbstractContextManager[None]:
    """One process at a time: two that create the database, or the same run, at once would collide.

    Raises:
        LaunchError: Another process had the lock for `PATIENCE` seconds.
    """
    return locked(storage.root(params), "writing to MLflow", PATIENCE, name=".mlflow.lock")


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Turns the tracker's errors into a TrackingError, whose `__cause__` they are; ours pass."""
    try:
        yield
    except (CaftError, KeyboardInterrupt):
        raise
    except Exception as error:  # MLflow passes on what its database, server and file system raise, of many types
        words = " ".join(str(error).split()) or "no message"
        reason = words[words.rfind("Caused by ") :] if "Caused by " in words else words  # of a connection, the last
        reason = reason[max(reason.find("(sqlite3."), 0) :].partition(" [SQL: ")[0]  # without the statement
        said = f"MLflow at {uri}: {type(error).__name__}: {reason[:300]}; {_remedy(uri, words)}"
        raise TrackingError(shown(said)) from error


def database_of(uri: str) -> Path | None:
    """The file of a tracker that is an SQLite database; None of others."""
    # As SQLAlchemy reads it, for which a `#` is a letter like any other.
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def shown(words: str) -> str:
    """Words for a log, without the names and passwords that addresses in them may hold."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", words)


def _remedy(uri: str, words: str) -> str:
    """What to do about an error: MLflow quotes what the server answered, or a proxy in its place."""
    code = found[1] if (found := re.search(r"(?:error code|too many|failed:) (\d{3})\b", words)) else ""
    address = urlsplit(uri)
    host = address.hostname or uri
    proxies = getproxies() if address.scheme in ("http", "https") and not proxy_bypass(host) else {}
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if "Invalid Host header" in words:
        name = address.netloc.rpartition("@")[2]
        return f"the server does not know this name as its own: start it with `mlflow server --allowed-hosts {name}`"
    if code == "401" or "UNAUTHENTICATED" in words:
        variables = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        return f"the server wants to know who asks, so set {variables}"
    if proxy and ("ProxyError" in words or "SOCKS" in words or code in _OF_PROXIES):
        return f"the proxy {proxy} was asked, so add {host} to no_proxy if it can be reached without, or ask who runs the proxy"
    if code == "403" or "PERMISSION_DENIED" in words:
        return "the server does not let you in, so ask who runs it for the right to write to the experiment"
    if "CERTIFICATE_VERIFY_FAILED" in words:
        return (
            "its certificate is not trusted here, so set MLFLOW_TRACKING_SERVER_CERT_PATH to the file of who signed it"
        )
    if "SSLError" in words:
        return "what answers there does not speak https, so check storage.tracking_uri in params.yaml: is it http://?"
    if code == "500" or "INTERNAL_ERROR" in words:
        return "the server itself has failed, so look at its log, or ask who runs it"
    if code in _OF_PROXIES:
        return "what stands before the server cannot reach it, so look there whether `mlflow server` runs"
    if (database := database_of(uri)) is not None:
        return _remedy_of_file(database, words)
    if code == "404" or "not in a valid JSON format" in words:
        return "what answers there is no MLflow server, so check storage.tracking_uri in params.yaml"
    return "check storage.tracking_uri in params.yaml, and that its server runs or its folder can be written"


def _remedy_of_file(database: Path, words: str) -> str:
    """The same of an SQLite database."""
    if "database is locked" in words:
        return "another process is writing to it and does not end: look for one that is stopped (`ps`, state T)"
    if not database.exists() and database.parent.is_dir():
        return "the file was removed while it was open: put it back, or the next stage begins a new one"
    if any(problem in words for problem in ("not a database", "malformed", "no such table")):
        return "the file is damaged: put a copy back, or move it away, and the next stage begins a new one"
    if "disk is full" in words or "No space left" in words:
        return "its disk is full: make room there"
    if "out-of-date database schema" in words:
        return f"another version of MLflow made it: copy the file, then run `mlflow db upgrade sqlite:///{database}`"
    return f"look whether {database} is a file and its folder can be written, and check storage.tracking_uri in params.yaml"
