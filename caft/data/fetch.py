"""Images by img2dataset, which is never trusted: what it left on disk is counted and checked."""

import ctypes
import fcntl
import hashlib
import json
import logging
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from caft.data.manifest import canonicalise, fingerprint, members
from caft.data.origin import origin
from caft.errors import DataError, ManifestError
from caft.params import FetchParams, Params
from caft.storage import images_folder, replacing, write_json

logger = logging.getLogger(__name__)
_DIE_WITH_PARENT = 1  # Linux's PR_SET_PDEATHSIG
_HANG_MINUTES = 15
_ATTEMPTS = 3
_POLL_SECONDS = 0.5
# What img2dataset and its workers need: no update check, no reports, one thread a worker for decoding.
_ENVIRONMENT = {"NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "disabled", "OPENCV_NUM_THREADS": "1"}


def fetch(params: Params, corpus: str, urls: Path) -> dict[str, Any]:
    """Fetches what is missing of a corpus, and gives its manifest.

    A shard counts as done when its statistics file, its table and its tar agree. A complete folder is left as it is
    without starting img2dataset.

    Args:
        params: Settings.
        corpus: Name of the corpus.
        urls: Table of the source stage.

    Returns:
        Shards, counts, losses by cause, fingerprints; nothing that depends on when it ran.

    Raises:
        DataError: Counts do not add up, too few images came, or the folder holds another list's images.
    """
    settings = params.fetch_for(corpus)
    folder = images_folder(params, corpus)
    with _locked(folder):
        source = _prepare(folder, urls, settings)
        expected = math.ceil(source["rows"] / settings.images_per_shard)
        for attempt in range(_ATTEMPTS):
            missing = _missing(folder, expected)
            if not missing:
                break
            logger.info("%s: %d of %d shards to fetch", corpus, len(missing), expected)
            if attempt:
                logger.warning("%s: img2dataset left shards undone; attempt %d", corpus, attempt + 1)
            with origin(params.corpus[corpus]):
                _img2dataset(folder, settings, expected)
        else:
            raise DataError(
                f"{folder}: shards {', '.join(missing[:5])} are still not whole after {_ATTEMPTS} attempts; "
                f"img2dataset's own words are in {folder / 'img2dataset.log'}"
            )
        manifest = _manifest(folder, corpus, expected, source)
    share = manifest["successes"] / max(1, manifest["rows"])
    if share < settings.minimum_yield:
        raise DataError(
            f"{corpus}: {manifest['successes']} of {manifest['rows']} images came ({share:.1%}), the least allowed is "
            f"{settings.minimum_yield:.0%} (fetch.minimum_yield). Losses: {manifest['lost']}"
        )
    return manifest


def ensure_images(params: Params, corpus: str, manifest: dict[str, Any]) -> None:
    """Checks that the shards of a manifest are on disk, and fetches again those that are not.

    Args:
        params: Settings.
        corpus: Name of the corpus.
        manifest: What the fetch stage wrote.

    Raises:
        ManifestError: What came back is not what the manifest describes.
    """
    folder = images_folder(params, corpus)
    absent = [shard["name"] for shard in manifest["shards"] if not _fits(folder, shard)]
    if not absent:
        return
    logger.warning("%s: %d shards of the manifest are not on disk; fetching them again", corpus, len(absent))
    for name in absent:
        _remove(folder, name)
    found = fetch(params, corpus, Path(f"data/urls/{corpus}.parquet"))
    if found != manifest:
        raise ManifestError(
            f"{folder}: the pictures that came now are not those of data/images/{corpus}.json "
            f"({found['successes']} instead of {manifest['successes']}, or changed at their source). "
            f"Accept them with `dvc repro --force fetch@{corpus}`"
        )


def _fits(folder: Path, shard: dict[str, Any]) -> bool:
    tar = folder / f"{shard['name']}.tar"
    return tar.exists() and tar.stat().st_size == shard["bytes"]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lets one process at a time change a corpus' images."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            logger.warning("%s: another process is fetching; waiting for it", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prepare(folder: Path, urls: Path, settings: FetchParams) -> dict[str, Any]:
    """Writes the list that img2dataset reads, in an order that spreads hosts over shards."""
    table = pq.read_table(urls, columns=["row_id", "url"])
    row_ids, addresses = table["row_id"].to_pylist(), table["url"].to_pylist()
    order = sorted(range(len(row_ids)), key=lambda i: hashlib.blake2b(addresses[i].encode(), digest_size=8).digest())
    shuffled = table.take(pa.array(order, pa.int64()))
    digest = hashlib.sha256()
    for address in shuffled["url"].to_pylist():
        digest.update(address.encode() + b"\n")
    source = {
        "rows": len(order),
        "fingerprint": digest.hexdigest(),
        "settings": settings.model_dump(include={"images_per_shard", "image_size", "quality"}),
    }
    record = folder / "input" / "source.json"  # img2dataset takes any JSON file beside the shards for a shard
    if record.exists() and (before := json.loads(record.read_text())) != source:
        raise DataError(
            f"{folder}: holds images of another list or other settings (then {_short(before)}, now {_short(source)}). "
            f"To start over remove this folder; to keep it restore the former settings"
        )
    if not record.exists():
        with replacing(folder / "input" / "urls.parquet") as temporary:
            pq.write_table(shuffled, temporary)
        write_json(record, source)
    return source


def _short(source: dict[str, Any]) -> str:
    return f"{source['rows']} rows, list {source['fingerprint'][:8]}, {source['settings']}"


def _missing(folder: Path, expected: int) -> list[str]:
    """Shards that are not whole; their remains are removed, so that img2dataset does them again."""
    result = []
    for number in range(expected):
        name = f"{number:05d}"
        try:
            stats = json.loads((folder / f"{name}_stats.json").read_text())
            tar = folder / f"{name}.tar"
            canonicalise(tar)
            pictures = sum(member.name.endswith(".jpg") for member in members(tar))
            rows = pq.read_metadata(folder / f"{name}.parquet").num_rows
            if pictures == stats["successes"] and rows == stats["count"]:
                continue
            logger.warning("%s: %s has %d pictures of %d", folder, name, pictures, stats["successes"])
        except (OSError, ValueError, KeyError, pa.ArrowException, ManifestError) as error:
            logger.debug("%s: shard %s is not whole (%s)", folder, name, error)
        _remove(folder, name)
        result.append(name)
    return result


def _remove(folder: Path, name: str) -> None:
    for suffix in ("_stats.json", ".parquet", ".tar"):  # the commit mark first
        (folder / f"{name}{suffix}").unlink(missing_ok=True)


def _img2dataset(folder: Path, settings: FetchParams, expected: int) -> None:
    """Runs img2dataset over the list; a run without a new shard for long is ended."""
    options = {
        "url_list": folder / "input" / "urls.parquet",
        "output_folder": folder,
        "input_format": "parquet",
        "output_format": "webdataset",
        "url_col": "url",
        "save_additional_columns": '["row_id"]',
        "number_sample_per_shard": settings.images_per_shard,
        "image_size": settings.image_size,
        "resize_mode": "keep_ratio",
        "resize_only_if_bigger": True,
        "encode_quality": settings.quality,
        "processes_count": settings.processes,
        "thread_count": settings.threads,
        "timeout": settings.timeout,
        "retries": settings.retries,
        "compute_hash": "sha256",
        "incremental_mode": "incremental",
        "enable_wandb": False,
    }
    command = [sys.executable, "-m", "caft.data.img2dataset", *(f"--{key}={value}" for key, value in options.items())]
    with (folder / "img2dataset.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_ENVIRONMENT},
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        try:
            done, since = -1, time.monotonic()
            while process.poll() is None:
                found = len(list(folder.glob("[0-9]*_stats.json")))
                if found > done:
                    done, since = found, time.monotonic()
                    logger.info("%s: %d of %d shards", folder.name, done, expected)
                elif time.monotonic() - since > 60 * _HANG_MINUTES:
                    logger.warning("%s: no new shard for %d minutes; img2dataset is ended", folder, _HANG_MINUTES)
                    break
                time.sleep(_POLL_SECONDS)
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it and its workers have ended
            process.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def _manifest(folder: Path, corpus: str, expected: int, source: dict[str, Any]) -> dict[str, Any]:
    lost: Counter[str] = Counter()
    shards, everything = [], []
    for number in range(expected):
        name = f"{number:05d}"
        table = pq.read_table(folder / f"{name}.parquet", columns=["row_id", "status", "error_message", "sha256"])
        rows = []
        for row in table.to_pylist():
            if row["status"] == "success":
                rows.append((row["row_id"], row["sha256"]))
            else:
                lost[cause(row["status"], row["error_message"])] += 1
        everything += rows
        tar = folder / f"{name}.tar"
        with tar.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        shards.append(
            {
                "name": name,
                "rows": table.num_rows,
                "successes": len(rows),
                "bytes": tar.stat().st_size,
                "sha256": checksum,
                "fingerprint": fingerprint(rows),
            }
        )
    rows_seen = sum(shard["rows"] for shard in shards)
    if rows_seen != source["rows"] or rows_seen != len(everything) + lost.total():
        raise DataError(
            f"{folder}: {source['rows']} URLs, but {len(everything)} images and {lost.total()} losses; "
            f"remove the folder and run `dvc repro --force fetch@{corpus}`"
        )
    return {
        "corpus": corpus,
        "rows": rows_seen,
        "successes": len(everything),
        "lost": dict(sorted(lost.items())),
        "fingerprint": fingerprint(everything),
        "source_fingerprint": source["fingerprint"],
        "shards": shards,
    }


def cause(status: str, message: str | None) -> str:
    """Name of a loss from img2dataset's status and message."""
    text = message or ""
    if match := re.search(r"HTTP Error (\d+)", text):
        return f"http_{match[1]}"
    if "X-Robots-Tag" in text:
        return "opt_out"
    if "timed out" in text:
        return "timeout"
    if status == "failed_to_resize" or "decod" in text:
        return "decode"
    if "urlopen error" in text:
        return "unreachable"
    return "other"
