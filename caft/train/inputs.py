"""What a training reads: its settings by value, its data and its code by digest. Together they are the run's name."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from caft.data.training import subsets
from caft.data.training.index import read_repeats
from caft.digests import code_digests, file_digest
from caft.errors import CheckpointError
from caft.locking import is_locked
from caft.params import Params, arithmetic, flat
from caft.storage import write_json

# How often something is written or looked at; no weight depends on it.
_NO_RESULT = ("validate_every", "checkpoint_every")
# What a rank computes with; another version may round otherwise. Builds of one version, as +cpu, are one.
_PACKAGES = ("torch", "numpy", "Pillow")
_SHOWN = 4


@dataclass(frozen=True)
class Inputs:
    """All that a run's weights follow from.

    Attributes:
        settings: By their keys.
        data: Digest of each file.
        code: Digest of the statements of each file that a rank runs; see `caft.digests`.
        stamps: Size and times of each file of data, by which one that was not touched is not read again; not in the name.
        corpora: Names of what the index is of, for messages; not in the name, since the index' digest is.
    """

    settings: dict[str, Any]
    data: dict[str, str]
    code: dict[str, str]
    stamps: dict[str, tuple[int, ...]] = field(default_factory=dict)
    corpora: tuple[str, ...] = ()

    @classmethod
    def read(cls, settings: dict[str, Any], files: dict[str, Path], known: "Inputs | None" = None) -> "Inputs":
        """Looks at files, by the names that messages give them, and at the code; `known` are an earlier look."""
        stamps = {name: _stamp(path) for name, path in files.items() if path.is_file()}
        data = {
            name: known.data[name] if known and known.stamps.get(name) == stamp else file_digest(files[name])
            for name, stamp in stamps.items()
        }
        return cls(settings, data, code_digests(["caft.train.job"]), stamps)

    @classmethod
    def of_run(cls, folder: Path) -> "Inputs | None":
        """Those that a run's folder tells of; None if it does not."""
        try:
            content = json.loads(_path(folder).read_text())
            corpora = tuple(content.get("corpora", ()))
            return cls(content["settings"], content["data"], content["code"], corpora=corpora)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def name(self) -> str:
        """Sixteen hexadecimal digits over all of it."""
        return hashlib.sha256(json.dumps(self._record(), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def alike(self) -> str:
        """The same over what runs of all seeds have in common: without seed and SFCN's weights, which depend on it."""
        data = {name: digest for name, digest in self.data.items() if not name.startswith("models/")}
        return Inputs({**self.settings, "seed": None}, data, self.code).name

    def write(self, folder: Path) -> None:
        """Writes them into a run's folder, for those who come later."""
        write_json(_path(folder), {**self._record(), "corpora": self.corpora})

    def differences(self, other: "Inputs") -> list[str]:
        """In what another has other values: settings with both, then names of files."""
        mine, others = dict(flat(_plain(self.settings))), dict(flat(_plain(other.settings)))
        keys = [key for key in {**mine, **others} if mine.get(key) != others.get(key)]
        found = [f"{key} {others.get(key)} -> {mine.get(key)}" for key in keys]
        for ours, theirs in ((self.data, other.data), (self.code, other.code)):
            found += [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        return found

    def _record(self) -> dict[str, Any]:
        return {"settings": self.settings, "data": self.data, "code": self.code}


def changes(expected: Inputs, files: dict[str, Path]) -> str | None:
    """What has changed since a job was submitted, as one sentence with what to do; None if nothing has.

    A job that waits, or is queued again, reads what stands in the checkout when it starts.
    """
    now = Inputs.read(expected.settings, files, expected)
    if not (changed := now.differences(expected)):
        return None
    return (
        f"run {expected.name}: {some(changed)} changed since the job was submitted, so it would not train what its name "
        "says. Undo that, and `dvc repro` goes on with the run; or leave it, and `dvc repro` begins another"
    )


def check(found: str | None) -> None:
    """Ends a rank with what `changes` has found.

    Raises:
        CheckpointError: There is something.
    """
    if found is not None:
        raise CheckpointError(found)


def files_of(index: Path, excluded: Path, superpixels: Path | None) -> dict[str, Path]:
    """Files that a training reads beside images, which the index' manifests stand for, by the names of messages."""
    names = sorted(path.name for path in index.iterdir() if path.is_file()) if index.is_dir() else []
    files = {f"data/index/{name}": index / name for name in names}
    files["data/excluded.npy"] = excluded
    if superpixels is not None:
        files["models/sfcn.safetensors"] = superpixels
    return files


def settings_of(params: Params, index: Path, excluded: Path) -> dict[str, Any]:
    """What changes the result of a training, beside its data and code."""
    recipe, launcher = params.selected_recipe, params.selected_launcher
    settings: dict[str, Any] = {
        "model": params.selected_model.model_dump(mode="json"),
        "recipe": recipe.model_dump(mode="json", exclude=set(_NO_RESULT)),
        "seed": params.seed,
        "arithmetic": arithmetic.current(),
        # Negatives are drawn among the images of one.
        "ranks": launcher.ranks_of_run or launcher.world_size,
        "packages": {name: metadata.version(name).partition("+")[0] for name in _PACKAGES},
    }
    if settings["arithmetic"] == "native" and not launcher.gpus_per_node:
        settings["threads"] = launcher.cpus_per_task  # sums are divided among them
    if settings["arithmetic"] == "native" and launcher.compile:
        settings["compile"] = True  # rounds otherwise
    # Only where they divide a rank's work: dropout is drawn for each portion, and sums are rounded by portions.
    images = recipe.batch // settings["ranks"]
    texts = images * recipe.sub_captions * params.selected_model.text.context
    if launcher.micro_batch is not None and launcher.micro_batch < images:
        settings["micro_batch"] = launcher.micro_batch
    if launcher.text_tokens_at_once is not None and launcher.text_tokens_at_once < texts:
        settings["text_tokens_at_once"] = launcher.text_tokens_at_once
    if params.data.fraction < 1:
        row_ids = np.load(index / "images.npy", mmap_mode="r")["row_id"]
        repeats = read_repeats(index)
        settings["subset"] = subsets.describe(row_ids, recipe.validation_images, params.data.fraction, repeats)
    if params.data.shards_at_once is not None:
        settings["shards_at_once"] = params.data.shards_at_once
    if params.data.damaged != "stop":
        settings["damaged"] = params.data.damaged
    left_out = subsets.read_excluded(excluded)
    if len(left_out):
        settings["excluded"] = {"images": len(left_out), "digest": subsets.digest(left_out)}
    return settings


def left(runs: Path, mine: Inputs, goes_on: Callable[[Path], bool]) -> Iterator[str]:
    """Yields a sentence about each run that was begun and that a change has left behind; each is told once.

    A run of another seed, model or corpora is no earlier form of this one. One that a process trains, or whose job of a
    cluster waits or runs, as `goes_on` tells of its folder, is not left.
    """
    for folder in sorted(path for path in runs.iterdir() if path.is_dir() and path.name != mine.name):
        told = folder / "told"
        with suppress(OSError):  # it may be another user's, or be removed meanwhile
            checkpoints = sorted((folder / "checkpoints").glob("step-*.pt"))
            if not checkpoints or (folder / "final.safetensors").exists() or told.exists():
                continue
            other = Inputs.of_run(folder)
            if other is None or _of_other_work(mine, other) or not (differ := mine.differences(other)):
                continue
            if is_locked(folder) or is_locked(folder / "checkpoints") or goes_on(folder):
                continue
            told.touch()
            step = int(checkpoints[-1].stem.removeprefix("step-"))
            yield (
                f"run {folder.name} was begun and is left at step {step}, since this is another: {some(differ)}. "
                "With what it had, it goes on"
            )


def _of_other_work(mine: Inputs, other: Inputs) -> bool:
    """Whether two runs are of another seed, model or corpora; a run of an earlier version names no corpora."""
    if mine.corpora and other.corpora and mine.corpora != other.corpora:
        return True
    return any(_plain(mine.settings.get(key)) != _plain(other.settings.get(key)) for key in ("seed", "model"))


def some(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _stamp(path: Path) -> tuple[int, ...]:
    found = path.stat()
    # The last one tells where another file of the same size and time was put in the place, as by `cp -p`.
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _plain(value: Any) -> Any:
    """A setting as JSON gives it back: with lists for tuples."""
    return json.loads(json.dumps(value))


def _path(folder: Path) -> Path:
    return folder / "inputs.json"
