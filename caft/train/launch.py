"""One run of training: its name, its job, its metrics in the tracker, and what the stage `train` keeps of it."""

import dataclasses
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from caft import storage
from caft.data.crawl.fetch import ensure_indexed
from caft.data.training.index import read_summary
from caft.digests import file_digest, tensors_digest
from caft.errors import CheckpointError, DataError, UnderWayError
from caft.locking import locked
from caft.model.card import ModelCard
from caft.model.card_page import render
from caft.params import Params, arithmetic
from caft.train import checkpoint, inputs, predict, seal
from caft.train.follow import Follower, Tail, cluster_job
from caft.train.inputs import Inputs
from caft.train.job import RESULTS, TrainJob
from caft.train.plan import INDEX, plan
from caft.train.references import draw_references
from caft.train.spent import spent
from caft.train.tracking.runs import Run, open_training
from caft.weights.files import read_card, read_weights
from caft.weights.start import Start, path_of, start

logger = logging.getLogger(__name__)
EXCLUDED = Path("data/excluded.npy")
SUPERPIXELS = Path("models/sfcn.safetensors")
_HELD_OUT = "validation_"  # of keys of the curve
_OWN = "superpixels."  # of a whole model's tensors, those of its superpixel network
# Runs a job to its end, and calls the second argument now and then, so that the job's metrics are followed.
Launch = Callable[[TrainJob, Callable[[], None]], None]


def train(
    params: Params,
    overlays: Sequence[str],
    launch: Launch,
    keep: Callable[[Path], None] = lambda folder: None,
    over: Callable[[str], bool] | None = None,
) -> Path:
    """Trains, unless the run has ended before, and returns the run's folder, named by all that its weights follow from.

    If another process trains this run, waits for it and takes the weights.

    Args:
        params: The settings.
        overlays: Files and values that were merged over the settings file; they name the tracked run.
        launch: Runs the job.
        keep: Given the folder once the weights are there, before the tracker is asked for the last time.
        over: Whether a job of a cluster, by its id, will not run again.

    Raises:
        CaftError: The settings, the index or the job are at fault.
        UnderWayError: The job goes on, but nobody waits for it any longer.
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
    superpixels = SUPERPIXELS if params.selected_model.superpixels is not None else None
    settings = _settings(params)
    given = path_of(params)
    begun = start(params, given) if given is not None else None
    if given is not None and begun is not None:
        # By the file and by what is read of it, which a mended reader may change.
        settings["init"] = {"sha256": file_digest(given), "weights": _digest(begun.weights)}
    read = Inputs.read(settings, inputs.files_of(INDEX, EXCLUDED, superpixels))
    read = dataclasses.replace(read, corpora=tuple(corpus["name"] for corpus in summary["corpora"]))
    runs, name = storage.runs_folder(params), read.name
    folder = runs / name
    with locked(folder, "training this run"):
        reading = {key: getattr(recipe, key) for key in ("splitter", "chunks", "balanced_rule")}
        whole = {**settings, "recipe": recipe.model_dump(mode="json")}
        facts = {**whole, **reading, "fingerprint": name, "data": summary["corpora"]}
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
            read,
            keep_start(folder, begun) if begun is not None else None,
        )
        if not any((folder / "checkpoints").glob("step-*.pt")):
            for sentence in inputs.left(runs, read, lambda other: _goes_on(other, over)):
                logger.warning(sentence)
        read.write(folder)
        predict.keep(params, folder)
        _run(job, launch, keep, open_training(params, name, read.alike, overlays, over), over)
    return folder


def keep_start(folder: Path, begun: Start) -> Path:
    """Puts the weights that a run starts from into its folder, sealed, and logs what they are; returns where."""
    path = folder / "start.safetensors"
    for line in begun.table:
        logger.info("init: %s", line)
    own = {name.removeprefix(_OWN): tensor for name, tensor in begun.weights.items() if name.startswith(_OWN)}
    if own and SUPERPIXELS.exists() and _digest(own) != _digest(read_weights(SUPERPIXELS)):
        logger.warning(
            "init: the file's own superpixel network is taken, since its image tower was trained on it, and not that of %s, "
            "which metrics/superpixels.json is of; set superpixels.checkpoint to the same file and both are one",
            SUPERPIXELS,
        )
    if seal.fault(path) is not None:
        with storage.replacing(path) as temporary:
            temporary.write_bytes(save({name: tensor.contiguous() for name, tensor in begun.weights.items()}))
        seal.put(path)
    return path


def _digest(weights: Mapping[str, Tensor]) -> str:
    return tensors_digest(sorted(weights.items()))


def _settings(params: Params) -> dict[str, Any]:
    """What changes the result of this checkout's training, beside its data and code."""
    return inputs.settings_of(params, INDEX, EXCLUDED)


def _run(
    job: TrainJob,
    launch: Launch,
    keep: Callable[[Path], None],
    tracked: Run,
    over: Callable[[str], bool] | None,
) -> None:
    """Runs the job unless the run has ended before, and copies its metrics into the tracker.

    Whether a run is resumed is decided in three places: here if it has ended (its results are there, as their seals say),
    by `submit.run` if its job is under way, and else by `Trainer._resume`, which takes the newest whole checkpoint.
    """
    folder = job.run_folder
    follower = Follower(folder, tracked)
    status, weights = "FAILED", None
    try:
        tracked.log_data(storage.read_json("metrics/data.json", "index"))
        if _has_ended(job, over):
            logger.info("run %s has ended before; its weights are taken", folder.name)
        else:
            launch(job, follower.follow)
        keep(folder)
        status, weights = "FINISHED", folder / "final.safetensors"
    except KeyboardInterrupt:
        # A job of a cluster goes on without this process, and so does its run.
        status = "FAILED" if job.params.selected_launcher.slurm is None else "RUNNING"
        follower.follow()
        raise
    except UnderWayError:
        status = "RUNNING"  # the job is not over
        follower.follow()
        raise
    finally:
        if status != "RUNNING":
            follower.finish(status, weights, _figures(spent(folder)))


def _figures(found: dict[str, Any]) -> dict[str, Any]:
    """Speed and cost side by side, as the tracker names them; ranks are a parameter there."""
    cost = {key: value for key, value in found.pop("cost").items() if key != "ranks"}
    return {**found, **cost} if "images_per_s" in found else {}


def _has_ended(job: TrainJob, over: Callable[[str], bool] | None) -> bool:
    """Whether the results of a run are all there, as they were written; a card that is not is written again.

    Raises:
        CheckpointError: The weights are whole, but the curve is not, and only a training from the start would make it.
    """
    folder = job.run_folder
    weights, card, curve = (folder / name for name in RESULTS)
    # Asked before its seals, which it may be about to write.
    goes_on = job.params.selected_launcher.slurm is not None and _goes_on(folder, over)
    faults = {path: fault for path in (weights, card, curve) if (fault := seal.fault(path)) is not None}
    if len(faults) == len(RESULTS) or faults and goes_on:
        return False
    if weights in faults or curve in faults:
        whole = checkpoint.newest(folder / "checkpoints", job.fingerprint)
        if whole is None and weights not in faults:
            raise CheckpointError(
                f"{faults[curve]}; the weights of run {folder.name} are whole, but no whole checkpoint is left from which "
                f"the curve could be made again. Put {curve.name} and {curve.name}.seal back from a copy of the folder; "
                f"or move {weights} away, and `dvc repro` trains from the start"
            )
        start = f"from {whole.name}" if whole is not None else "from the start, since no whole checkpoint is left"
        logger.warning("%s; the run's end is made again, %s", "; ".join(faults.values()), start)
        if curve in faults:
            curve.unlink(missing_ok=True)  # nobody is to read lines that are not whole, before the job writes it anew
        return False
    if faults or read_card(weights).record() != job.card.record():  # other steps between validations, say
        storage.write_json(card, job.card.record())
        seal.put(card)
    return True


def _goes_on(folder: Path, over: Callable[[str], bool] | None) -> bool:
    """Whether a cluster's job of a run is under way, or nobody can be asked; False if it has none or `over` is None."""
    job = cluster_job(folder)
    return over is not None and job is not None and not over(job)


def write_results(folder: Path) -> None:
    """Writes weights, card, curves and summary of a run's folder to where the stage `train` keeps them.

    Of a run from given weights, the summary has the scores on held-out images before and after (`held_out`).

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
        **spent(folder),
        "losses": {key: last[key] for key in last if key.endswith("loss")},
        "scales": {level: last.get(f"{level}_scale") for level in ("part", "whole")},
        "biases": {level: last.get(f"{level}_bias") for level in ("part", "whole")},
        "settings_digest": card.fingerprint,
        "weights": {path.stem: file_digest(path) for path in (Path("models/caft.safetensors"), *superpixels)},
    }
    judged = [row for row in rows if any(key.startswith(_HELD_OUT) for key in row)]
    if judged and not judged[0]["step"]:  # from given weights
        summary["held_out"] = {"before": _held_out(judged[0]), "after": _held_out(judged[-1])}
    storage.write_json("metrics/train.json", summary)
    storage.write_text("models/caft.md", render(card, {"train": summary}))
    logger.info("run %s: weights %s", folder.name, file_digest(Path("models/caft.safetensors"))[:16])


def _held_out(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(_HELD_OUT): value for key, value in row.items() if key.startswith(_HELD_OUT)}
