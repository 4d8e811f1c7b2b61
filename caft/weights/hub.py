"""Models by name: `hf:OWNER/NAME` is fetched from a model hub by `huggingface_hub`, and is from there on a file.

Cache, offline mode, tokens and the hub's address are that library's alone (HF_HOME, HF_HUB_OFFLINE, HF_TOKEN, HF_ENDPOINT),
and so is the form of names: `hf:OWNER/NAME[@REVISION][/FILE]`, as its `hf://` URIs. It is the extra `hub`.
"""

import glob
import importlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import NoReturn
from urllib.parse import quote, unquote

from caft.digests import file_digest
from caft.errors import CheckpointError
from caft.storage import disk_error, in_checkout

PREFIX = "hf:"
WEIGHTS = "model.safetensors"  # the hub shows sizes of a file of this name
_NAME = re.compile(
    r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>refs/(?:pr/\d+|convert/[\w.-]+)|[^/@]+))?(?:/(?P<file>.+))?"
)
_FORM = "hf:OWNER/NAME, hf:OWNER/NAME/FILE or hf:OWNER/NAME@REVISION/FILE"
# What the client raises beside these are errors of the library that carries its requests, by the version.
_RAISED = (OSError, ValueError, RuntimeError)
_CARRIERS = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")
_SHOWN = 8  # files of a repository that an error lists


@dataclass(frozen=True)
class HubName:
    """A model of a hub.

    Attributes:
        repository: OWNER/NAME.
        revision: A branch, a tag or a commit; None for the hub's default.
        file: Weights in it, with `/` between folders.
    """

    repository: str
    revision: str | None = None
    file: str = WEIGHTS

    def __str__(self) -> str:
        revision = f"@{_quoted(self.revision)}" if self.revision else ""
        return f"{PREFIX}{self.repository}{revision}" + ("" if self.file == WEIGHTS else f"/{self.file}")

    @property
    def card(self) -> str:
        """The card's file, beside the weights."""
        return str(PurePosixPath(self.file).with_suffix(".json"))

    def by_hand(self) -> str:
        """Which files to fetch without the client, and how to load them then."""
        files = [self.file, self.card] if self.file.endswith(".safetensors") else [self.file]
        base = f"{endpoint()}/{self.repository}/resolve/{quote(self.revision or 'main', safe='')}"
        into = "into one folder, and give the first" if len(files) > 1 else "and give it"
        lines = [f"fetch by hand {into}, as caft.load({PurePosixPath(self.file).name!r}):"]
        return "\n  ".join(lines + [f"{base}/{quote(file)}" for file in files])


def parse(name: str) -> HubName:
    """A hub's name in its parts.

    Raises:
        CheckpointError: It is none.
    """
    found = _NAME.fullmatch(name.removeprefix(PREFIX).removeprefix("//"))
    if not name.startswith(PREFIX) or found is None:
        raise CheckpointError(f"{name!r}: is no name of a model on a hub; expected {_FORM}")
    file = found["file"] or WEIGHTS
    if {"", ".", ".."} & set(file.split("/")) or "\\" in file:
        raise CheckpointError(f"{name!r}: no file of a repository can have the name {file!r}; expected {_FORM}")
    return HubName(found["repository"], unquote(found["revision"]) if found["revision"] else None, file)


def is_hub_name(name: object) -> bool:
    """Whether this names a model on a hub, not a file."""
    return isinstance(name, str) and name.startswith(PREFIX)


def local(name: str | Path) -> Path:
    """The file of a model that is given as a file, or by a hub's name; arguments and errors as `fetch`."""
    return fetch(name) if isinstance(name, str) and is_hub_name(name) else Path(name)


def of_setting(name: str) -> Path:
    """The file that a setting names: in the checkout, of an experiment in the main one's, or by a hub's name as `fetch`."""
    return fetch(name) if is_hub_name(name) else in_checkout(name)


def fetch(name: str) -> Path:
    """The weights of a hub's name in the client's cache, fetched if they are not there; the card lies beside them.

    Args:
        name: `hf:OWNER/NAME[@REVISION][/FILE]`; without a file what `caft push` writes, `model.safetensors`. A revision with
            a slash is written with %2F, but for `refs/pr/1`.

    Returns:
        A whole file: the client moves what it downloads into place at the end. Both files are of the same commit.

    Raises:
        CheckpointError: There is no such repository, revision or file, it may not be read, or cannot be fetched; says which
            files to fetch by hand.
    """
    wanted = parse(name)
    client = hub_client(str(wanted), wanted.by_hand())
    with _told(wanted):
        folder = client.snapshot_download(
            wanted.repository,
            revision=wanted.revision,
            allow_patterns=[glob.escape(wanted.file), glob.escape(wanted.card)],
            library_name="caft",
        )
    path = Path(folder) / wanted.file
    if not path.is_file():
        raise CheckpointError(f"{wanted}: the repository has no file {wanted.file}{_others(client, wanted)}")
    if path.suffix == ".safetensors" and not path.with_suffix(".json").is_file():
        raise CheckpointError(
            f"{wanted}: the repository has {wanted.file}, but not its card {wanted.card}; a model of this project is both, "
            "as `caft push` writes them. Weights of another library are given as a file"
        )
    _require_whole(path, wanted)
    return path


def _require_whole(path: Path, wanted: HubName) -> None:
    """Large files have their content's sha256 as name in the client's cache; it compares sizes alone."""
    expected = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", expected) and file_digest(path) != expected:
        raise CheckpointError(
            f"{wanted}: what was fetched is not what the hub has (sha256 is not {expected[:16]}...); delete {path.resolve()}, "
            "and load it again"
        )


def hub_client(name: str, instead: str) -> ModuleType:
    """The library `huggingface_hub`.

    Raises:
        CheckpointError: It is not installed.
    """
    try:
        return importlib.import_module("huggingface_hub")
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":
            raise
        raise CheckpointError(
            f"{name}: the package huggingface_hub is not installed; `pip install huggingface_hub` (the extra `hub`), or "
            f"{instead}"
        ) from None


def endpoint() -> str:
    """Address of the hub."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def is_of_client(error: BaseException) -> bool:
    """Whether the client or what carries its requests may raise this, where nothing is wrong with the program."""
    return isinstance(error, _RAISED) or type(error).__module__.partition(".")[0] in _CARRIERS


def status_of(error: BaseException) -> int | None:
    """The hub's answer, as HTTP numbers it, that is behind an error of the client."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__  # type: ignore[assignment]
    return None


def reason_of(error: BaseException) -> str:
    """The client's words for an error, in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = (lines or [type(error).__name__])[0].rstrip(".:")
    return text if len(text) <= 200 else text[:200] + "..."


def kinds_of(error: BaseException) -> set[str]:
    """Names of an error's classes, and of those it was raised from."""
    found: set[str] = set()
    while error is not None:
        found |= {kind.__name__ for kind in type(error).__mro__}
        error = error.__cause__  # type: ignore[assignment]
    return found


@contextmanager
def _told(wanted: HubName) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not is_of_client(error):
            raise
        _refuse(wanted, error)


def _refuse(wanted: HubName, error: Exception) -> NoReturn:
    kinds, status, page = kinds_of(error), status_of(error), f"{endpoint()}/{wanted.repository}"
    if "GatedRepoError" in kinds or status == 403:
        what = f"may not be read ({status}); accept its conditions at {page}, and log in by `hf auth login` or HF_TOKEN"
    elif "RevisionNotFoundError" in kinds:
        what = f"has no revision {wanted.revision or 'main'}; {page}/tree/main lists branches and tags"
    elif "RepositoryNotFoundError" in kinds or status == 401:
        what = (
            f"there is no such repository at {endpoint()}, or it is private ({status}); check the name, or log in by "
            "`hf auth login` or HF_TOKEN"
        )
    elif (disk := disk_error(error)) is not None and "HTTPError" not in kinds and "ConnectionError" not in kinds:
        what = f"{disk[1]}; free some space there, or set HF_HOME to another place"
    elif "OfflineModeIsEnabled" in kinds:
        what = f"is not in the cache, and HF_HUB_OFFLINE forbids to fetch it; unset that, or {wanted.by_hand()}"
    elif "HFValidationError" in kinds:
        what = f"is no name that a repository can have; expected {_FORM}"
    else:
        answer = f"the hub answered {status}" if status else reason_of(error.__cause__ or error)
        later = "try again later" if status else "check the network"
        what = f"cannot be fetched from {endpoint()} ({answer}); {later}, or {wanted.by_hand()}"
    raise CheckpointError(f"{wanted}: {what}") from error


def _others(client: ModuleType, wanted: HubName) -> str:
    """What a repository holds in place of a file, as far as that can be told."""
    files: list[str] = []
    with suppress(Exception):  # the error is that the file is not there
        files = client.HfApi(library_name="caft").list_repo_files(wanted.repository, revision=wanted.revision)
    likely = [file for file in files if file.endswith((".safetensors", ".pt", ".pth", ".ckpt", ".bin"))]
    if not files:
        return f"; name another, as in {_FORM}"
    if not likely:
        return f", and no other weights; it has {', '.join(files[:_SHOWN]) or 'nothing'}"
    names = [str(HubName(wanted.repository, wanted.revision, file)) for file in likely[:_SHOWN]]
    more = f" and {len(likely) - _SHOWN} more" if len(likely) > _SHOWN else ""
    return f"; name one of its weights: {', '.join(names)}{more}"


def _quoted(revision: str) -> str:
    return revision if revision.startswith("refs/") else quote(revision, safe="")
