"""The manifest of a folder of image shards: counts, losses by cause and fingerprints.

The manifest is what DVC tracks in the place of the images. It has no dates and no paths, so that
fetching the same pictures again gives the same file.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from caft.digests import file_digest
from caft.errors import ManifestError
from caft.storage import write_json

logger = logging.getLogger(__name__)
NOT_THERE = "not there"  # what ends the problem of a shard of which a file is missing
SECOND = 10**9  # in nanoseconds


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Shard:
    """One image shard.

    Attributes:
        name: Its file name without ending, such as "00003".
        rows: Number of addresses asked for; in a manifest, those that count in it.
        successes: Number of images of them in the tar, which has the size `bytes` and the digest `sha256`.
        lost: Number of the other rows by cause.
        fingerprint: Of the images as they were downloaded: of sorted row_id and SHA-256.
    """

    name: str
    rows: int
    successes: int
    lost: dict[str, int]
    bytes: int
    sha256: str
    fingerprint: str


@dataclass(frozen=True)
class Manifest:
    """All image shards of a corpus that hold rows of its table, in order of their names.

    Attributes:
        corpus: Its name.
        source_fingerprint: Of the table's list of addresses, and of the settings that shape the files.
        shards: Of each, the rows that count in it.
        rounds: Rows asked for in each round, where a fetch into an empty folder would lay them out otherwise; else empty.
    """

    corpus: str
    source_fingerprint: str
    shards: tuple[Shard, ...]
    rounds: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """Number of addresses asked for."""
        return sum(shard.rows for shard in self.shards)

    @property
    def successes(self) -> int:
        """Number of images."""
        return sum(shard.successes for shard in self.shards)

    @property
    def lost(self) -> dict[str, int]:
        """Number of rows without an image, by cause, in order of the causes' names."""
        total: Counter[str] = Counter()
        for shard in self.shards:
            total.update(shard.lost)
        return {cause: count for cause, count in sorted(total.items()) if count}

    @property
    def fingerprint(self) -> str:
        """Of all images as they were downloaded."""
        return hashlib.sha256("".join(shard.fingerprint for shard in self.shards).encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """Returns what the manifest's file holds."""
        return {
            "corpus": self.corpus,
            "rows": self.rows,
            "successes": self.successes,
            "lost": self.lost,
            "fingerprint": self.fingerprint,
            "source_fingerprint": self.source_fingerprint,
            **({"rounds": list(self.rounds)} if self.rounds else {}),
            "shards": [asdict(shard) for shard in self.shards],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], where: str) -> Manifest:
        """Reads the content of a manifest's file.

        Args:
            content: As `as_json` gives it.
            where: What to call it in errors.

        Raises:
            ManifestError: A key is missing or of the wrong kind, or the totals are not those of the shards.
        """
        try:
            manifest = TypeAdapter(cls).validate_python(content)
        except ValidationError as error:
            first = error.errors()[0]
            wrong = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise ManifestError(f"{where}: is no manifest of image shards ({wrong}); fetch again") from error
        for key, value in manifest.as_json().items():
            if content.get(key) != value:
                raise ManifestError(
                    f"{where}: {key} is {content.get(key)!r}, but its shards add up to {value!r}; "
                    f"run `dvc repro --force fetch@{manifest.corpus}`"
                )
        return manifest


def read_manifest(path: Path) -> Manifest:
    """Reads a manifest.

    Raises:
        ManifestError: The file is missing, or is no manifest.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise ManifestError(f"{path}: not found; run `dvc repro fetch@{path.stem}`") from None
    except json.JSONDecodeError as error:
        raise ManifestError(f"{path}: is no JSON ({error}); run `dvc repro --force fetch@{path.stem}`") from error
    return Manifest.from_json(content, str(path))


def verify(manifest: Manifest, folder: Path) -> dict[str, str]:
    """Compares the shards in a folder with a manifest, as `known_shard` does: a tar that was not touched is not read.

    Returns:
        What is wrong, by name of the shard; empty if nothing is.
    """
    problems = {}
    for shard in manifest.shards:
        found, problem = _looked_at(folder, shard.name)
        if found is None:
            problems[shard.name] = problem
        elif found.sha256 != shard.sha256:
            problems[shard.name] = f"tar {found.sha256[:12]} of {found.bytes} bytes, " + (
                f"the manifest says {shard.sha256[:12]} of {shard.bytes}"
            )
    return problems


def shard_files(folder: Path, name: str) -> tuple[Path, Path, Path]:
    """Returns the tar, the table and the statistics of a shard, as img2dataset names them."""
    return folder / f"{name}.tar", folder / f"{name}.parquet", folder / f"{name}_stats.json"


def note_shard(folder: Path, shard: Shard) -> None:
    """Writes down that a shard was read and is complete."""
    modified = shard_files(folder, shard.name)[0].stat().st_mtime_ns
    write_json(_note(folder, shard.name), {"modified": modified, "shard": asdict(shard)})


def known_shard(folder: Path, name: str) -> Shard | None:
    """Returns the note of a shard; None if a file is missing or the tar has changed since.

    A tar that has the size and the time of change of then is as it was. One of that size and another time, as copies
    have, is read once and its SHA-256 compared, which takes a second a gigabyte or so; then the new time is noted.
    """
    return _looked_at(folder, name)[0]


def _looked_at(folder: Path, name: str) -> tuple[Shard | None, str]:
    """The note of a shard; or None, and what is wrong."""
    files = shard_files(folder, name)
    if absent := [file.name for file in files if not file.exists()]:
        return None, f"{', '.join(absent)} {NOT_THERE}"
    try:
        note = json.loads(_note(folder, name).read_text())
        shard, modified = Shard(**note["shard"]), int(note["modified"])
        state = files[0].stat()
    except (OSError, ValueError, KeyError, TypeError) as error:
        return None, f"{_note(folder, name)}, which says what the tar holds, cannot be read ({error})"
    if state.st_size != shard.bytes:
        return None, f"{files[0].name} has {state.st_size} bytes, and had {shard.bytes} when it was read"
    if not same_time(modified, state.st_mtime_ns):
        logger.info("%s: has another time of change than when it was read; its content is compared", files[0])
        if (digest := file_digest(files[0])) != shard.sha256:
            return None, f"{files[0].name} has other content (SHA-256 {digest[:12]}) than when it was read"
        try:
            note_shard(folder, shard)
        except OSError as error:
            logger.warning("%s: cannot be noted (%s), so its content is compared each time", files[0], error)
    return shard, ""


def same_time(noted: int, found: int) -> bool:
    """Whether a file's time of change, in nanoseconds, is the noted one, or that in the whole seconds many copies have.

    rsync takes a file of the same size and second for the same file, too.
    """
    return found in (noted, noted - noted % SECOND)


def forget_shard(folder: Path, name: str) -> None:
    """Deletes a shard's files and its note, so that img2dataset fetches it again."""
    stats_first = reversed(shard_files(folder, name))
    for file in (_note(folder, name), *stats_first):
        file.unlink(missing_ok=True)


def forget_note(folder: Path, name: str) -> None:
    """Deletes a shard's note, so that its files are read before it counts as complete."""
    _note(folder, name).unlink(missing_ok=True)


def notes_folder(folder: Path) -> Path:
    """Returns the place of our own files; img2dataset takes any JSON file beside the shards for a shard."""
    return folder / "about"


def _note(folder: Path, name: str) -> Path:
    return notes_folder(folder) / f"{name}.json"


def rows_fingerprint(pairs: Iterable[tuple[int, str]]) -> str:
    """Returns a fingerprint of (row_id, text) pairs that does not depend on their order."""
    return hashlib.sha256("".join(f"{row} {text}\n" for row, text in sorted(pairs)).encode()).hexdigest()
