"""One run of training: its name, its job, its metrics in the tracker, and what the stage `train` keeps of it."""

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caft import storage
from caft.data.crawl.fetch import ensure_indexed
from caft.data.training import subsets
from caft.data.training.index import read_repeats, read_summary
from caft.digests import code_digest, file_digest
from caft.errors import DataError
from caft.locking import locked
from caft.model.card import ModelCard
from caft.model.card_page import render
from caft.params import Params, arithmetic
from caft.train.job import TrainJob
from caft.train.plan import INDEX, plan
from caft.train.references import draw_references
from caft.train.tracking.runs import Run, open_training
from caft.weights.files import read_card

logger = logging.getLogger(__name__)
EXCLUDED = Path("data/excluded.npy")
SUPERPIXELS = Path("models/sfcn.safetensors")
# Runs a job to its end, and calls the second argument now and then, so that the job's metrics are followed.
Launch = Callable[[TrainJob, Callable[[], None]], None]


def train(params: Params, overlays: Sequence[str], launch: Launch) -> Path:
    """Trains, unless the run has ended before, and returns the run's folder, named by its fingerprint.

    The overlays, files and values that were merged over the settings file, name the tracked run.

    Raises:
        CaftError: The settings, the index or the job are at fault.
    """
    recipe = params.selected_recipe
    plan(params)  # refuses what cannot be trained
    arithmetic.expect(params.selected_launcher.arithmetic)
    summary = read_summary(INDEX)
    if summary["splitter"] != recipe.splitter:
        raise DataError(
            f"{INDEX}: made with splitter {summary['splitter']}, the recipe asks for {recipe.splitter}; "
            "run `dvc repro index`"
        )
    ensure_indexed(params, str(INDEX), summary["corpora"])
    settings = _settings(params)
    superpixels = SUPERPIXELS if params.selected_model.superpixels is not None else None
    name = fingerprint(settings, INDEX, superpixels)
    alike = fingerprint({**settings, "seed": None}, INDEX, None)  # without SFCN's weights, which depend on the seed
    folder = storage.runs_folder(params) / name
    with locked(folder, "training this run", patience=0):
        reading = {key: settings["recipe"][key] for key in ("splitter", "chunks", "balanced_rule")}
        facts = {**settings, **reading, "fingerprint": name, "data": summary["corpora"]}
        facts["references"] = draw_references(INDEX)
        job = TrainJob(
            params,
            name,
            folder,
            INDEX.resolve(),
            EXCLUDED.resolve(),
            storage.root(params) / "images",
            superpixels.resolve() if superpixels is not None else None,
            ModelCard.model_validate(facts, strict=False),
        )
        _run(job, launch, open_training(params, name, alike, overlays))
    return folder


def fingerprint(settings: dict[str, Any], index_folder: Path, weights: Path | None) -> str:
    """The name of a run: sixteen hexadecimal digits over settings, data, superpixels and the code of the job.

    Other comments and docstrings do not change it; see `caft.digests`.

    Args:
        settings: Model, recipe, seed and arithmetic; not the rest of the launcher, which only moves the work.
        index_folder: The training index.
        weights: SFCN's; without them, it is what runs of all seeds have in common, if `settings` has no seed.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update((index_folder / "index.json").read_bytes())
    if weights is not None:
        digest.update(weights.read_bytes())
    digest.update(code_digest(["caft.train.job"]).encode())
    return digest.hexdigest()[:16]


def _settings(params: Params) -> dict[str, Any]:
    """What changes the result of a training, beside its data and code."""
    recipe = params.selected_recipe
    settings: dict[str, Any] = {
        "model": params.selected_model.model_dump(mode="json"),
        "recipe": recipe.model_dump(mode="json"),
        "seed": params.seed,
        "arithmetic": arithmetic.current(),
    }
    launcher = params.selected_launcher
    if settings["arithmetic"] == "native" and not launcher.gpus_per_node:
        settings["threads"] = launcher.cpus_per_task  # sums are divided among them
    if params.data.fraction < 1:
        row_ids = np.load(INDEX / "images.npy", mmap_mode="r")["row_id"]
        repeats = read_repeats(INDEX)
        settings["subset"] = subsets.describe(row_ids, recipe.validation_images, params.data.fraction, repeats)
    # Only where they are not the default, so that they do not change what a run is called.
    if params.data.shards_at_once is not None:
        settings["shards_at_once"] = params.data.shards_at_once
    if params.data.damaged != "stop":
        settings["damaged"] = params.data.damaged
    left_out = subsets.read_excluded(EXCLUDED)
    if len(left_out):
        settings["excluded"] = {"images": len(left_out), "digest": subsets.digest(left_out)}
    return settings


class Tail:
    """The lines that another process added to a file of JSON lines since the last look; all if the file was replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0
        self.file = (0, 0)

    def new(self) -> list[dict[str, Any]]:
        """Objects of the whole lines that were written since the last call."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            state = os.fstat(file.fileno())
            if self.file != (state.st_dev, state.st_ino):
                self.file, self.position = (state.st_dev, state.st_ino), 0
            file.seek(self.position)
            content = file.read()
        end = content.rfind(b"\n") + 1
        self.position += end
        return [json.loads(line) for line in content[:end].splitlines()]


def _run(job: TrainJob, launch: Launch, tracked: Run) -> None:
    """Runs the job unless the run has ended before, and copies its metrics into the tracker.

    Whether a run is resumed is decided in three places: here if it has ended (`final.json`), by `submit.run` if its job
    is under way, and else by `Trainer._resume`, which takes the newest whole checkpoint.
    """
    folder = job.run_folder
    metrics = Tail(folder / "metrics.jsonl")

    def follow() -> None:
        rows = metrics.new()
        tracked.log_metrics([(row["step"], row) for row in rows])
        for row in rows:
            _log(row)

    status = "FAILED"
    try:
        tracked.log_data(storage.read_json("metrics/data.json", "index"))
        if (folder / "final.json").exists():  # written after the weights
            logger.info("run %s has ended before; its weights are taken", folder.name)
            tracked.log_metrics([(row["step"], row) for row in metrics.new()])
        else:
            launch(job, follow)
        tracked.log_model(folder / "final.safetensors")
        status = "FINISHED"
    except KeyboardInterrupt:
        # A job of a cluster goes on without this process, and so does its run.
        status = "FAILED" if job.params.selected_launcher.slurm is None else "RUNNING"
        raise
    finally:
        if status != "RUNNING":
            tracked.finish(status)


def _log(row: dict[str, Any]) -> None:
    """Prints a validation, and every fiftieth step."""
    if "validation_t2i_r1" in row:
        part = row.get("validation_part_t2i_r1", math.nan)
        logger.info("step %d: held-out T2I R@1 %.1f whole, %.1f part", row["step"], row["validation_t2i_r1"], part)
    elif row["step"] % 50 == 0 and "loss" in row:
        logger.info("step %d: loss %.3f, %.0f images/s", row["step"], row["loss"], row["images_per_s"])


def write_results(folder: Path) -> None:
    """Writes weights, card, curves and summary of a run's folder to where the stage `train` keeps them.

    In the summary, `metrics/train.json`, the run's fingerprint is called `settings_digest`, as it always was there: a
    change of the name would change the metrics of every run.
    """
    Path("models").mkdir(exist_ok=True)
    for suffix in (".safetensors", ".json"):
        with storage.replacing(Path("models/caft").with_suffix(suffix)) as temporary:
            shutil.copyfile(folder / f"final{suffix}", temporary)
    rows = Tail(folder / "metrics.jsonl").new()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    storage.write_csv("plots/train.csv", columns, rows)
    steps = [row for row in rows if "loss" in row]
    last = steps[-1]
    card = read_card(folder / "final.safetensors")
    superpixels = [SUPERPIXELS] if card.sizes.superpixels is not None else []
    summary = {
        "steps": rows[-1]["step"],
        "samples": rows[-1]["samples"],
        "images_per_s": round(sum(row["images_per_s"] for row in steps) / len(steps), 1),
        "data_wait_share": round(sum(row["data_wait_share"] for row in steps) / len(steps), 4),
        "losses": {key: last[key] for key in last if key.endswith("loss")},
        "scales": {level: last.get(f"{level}_scale") for level in ("part", "whole")},
        "biases": {level: last.get(f"{level}_bias") for level in ("part", "whole")},
        "settings_digest": card.fingerprint,
        "weights": {path.stem: file_digest(path) for path in (Path("models/caft.safetensors"), *superpixels)},
    }
    storage.write_json("metrics/train.json", summary)
    storage.write_text("models/caft.md", render(card, {"train": summary}))
    logger.info("run %s: weights %s", folder.name, file_digest(Path("models/caft.safetensors"))[:16])
