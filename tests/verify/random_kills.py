"""The default run, killed at random moments until it is complete, against one that nothing has disturbed.

    python -m tests.verify.random_kills                                          # full size, twenty kills
    python -m tests.verify.random_kills --images 200 --steps 60 --kills 5        # minutes

Each kill is a SIGKILL to the whole process group of `dvc repro`. What must be equal in the end: manifests, tables of
captions and sentences, the index and all weights, to the byte; metrics and curves but for speeds; DVC's record of the
data; and the tracker has one run, with every step once.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml
from mlflow import MlflowClient

from caft.train.tracking.names import curve_name
from tests.faults.checkout import DVC, ENVIRONMENT, dvc, make_checkout, would_run
from tests.faults.conftest import merge
from tests.faults.stages import STAGES, content, leftovers, outs
from tests.ports import free_port, port_is_free
from tests.waiting import wait_until

# Not compared by their bytes: a report of speeds, among other things.
SPEEDS = ("report",)


def sizes(images: int | None, steps: int | None) -> dict[str, Any]:
    """Settings of a run of reduced size; none of the full one."""
    settings: dict[str, Any] = {"corpus": {"scenes": {}}}
    if images is not None:
        pairs = 4 * max(1, images // 40)
        scenes = {"images": images, "evaluation_images": pairs, "regions": pairs}
        settings["corpus"] = {"scenes": {**scenes, "fetch": {"images_per_shard": max(20, images // 5)}}}
        settings["benchmarks"] = {name: {"pairs": pairs} for name in ("random", "look_alike")}
    if steps is not None:
        settings["train"] = {
            "batch": 16,
            "samples": 16 * steps,
            "warmup_steps": steps // 6,
            "validate_every": steps // 3,
            "checkpoint_every": steps // 6,
        }
        settings["superpixels"] = {"steps": steps}
    return settings


def undisturbed(folder: Path, settings: dict[str, Any]) -> float:
    """Runs the graph in a checkout; returns how long that took."""
    make_checkout(folder, settings)
    begun = time.monotonic()
    done = dvc(folder, "repro")
    assert done.returncode == 0, f"dvc repro ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-6000:]}"
    return time.monotonic() - begun


def killed(folder: Path, settings: dict[str, Any], kills: int, seconds: float, seed: int) -> None:
    """Runs the graph in another checkout, killed so many times.

    Each run is killed in the first, second or third stage that it begins, at a moment within the mean time of a stage.
    If it ends before all kills were used, it begins again from a stage drawn at random: so kills fall into all stages,
    and on a busy machine too.
    """
    make_checkout(folder, settings)
    port = yaml.safe_load((folder / "params.yaml").read_text())["corpus"]["scenes"]["port"]
    rng = random.Random(seed)
    left, repros = kills, 0
    while True:
        repros += 1
        path = folder.parent / f"{folder.name}-{repros}.log"
        with path.open("w") as log:
            running = subprocess.Popen(
                [*DVC, "repro"], cwd=folder, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True
            )
            number, moment = rng.randint(1, 3), rng.uniform(0, seconds / len(STAGES))
            try:
                while left and running.poll() is None and len(begun(path)) < number:
                    time.sleep(0.05)
                code = running.wait(moment if left else None)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()
                left -= 1
                report(f"kill {kills - left} in {begun(path)[-1]}")
                wait_until(lambda: port_is_free(port), 30)
                wait_until(lambda: not jobs_in(folder), 30)
                continue
        assert code == 0, path.read_text()[-6000:]
        if not left:
            return
        again = STAGES[rng.randrange(len(STAGES)) :]
        report(f"complete after {kills - left} kills; again from {again[0]}")
        forget(folder, again)


def forget(folder: Path, stages: Sequence[str]) -> None:
    """Removes all that stages of a checkout have made, and what lets DVC take it from its cache instead."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    lock["stages"] = {name: entry for name, entry in lock["stages"].items() if name.split("@")[0] not in stages}
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock))
    paths = [Path(".dvc/cache/runs"), *(out for name in stages for out in outs(name))]
    for path in [*paths, Path("runs")] if "train" in stages else paths:
        subprocess.run(["rm", "-rf", str(folder / path)], check=True)


def begun(log: Path) -> list[str]:
    """Stages that a run has begun, by its log."""
    lines = log.read_text(errors="replace").splitlines()
    return [line.split("'")[1] for line in lines if line.startswith("Running stage")]


def jobs_in(folder: Path) -> list[int]:
    """Processes of training jobs of a checkout that still run."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        words = " ".join(process.info["cmdline"] or [])
        if str(folder) in words and "submitit" in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.info["pid"])
    return found


def compare(quiet: Path, disturbed: Path) -> None:
    """Fails at the first thing that differs."""
    for name in STAGES:
        for out in outs(name):
            one, other = content(quiet / out), content(disturbed / out)
            if name in SPEEDS:
                one, other = ({key: len(value) > 10_000 for key, value in files.items()} for files in (one, other))
            assert one == other, f"{out} of stage {name} differs"
            report(f"equal: {out} ({len(one)} files)")
    locks = [yaml.safe_load((folder / "dvc.lock").read_text())["stages"] for folder in (quiet, disturbed)]
    for name in locks[0]:
        # Metrics of training and all that follows from them hold speeds.
        for kind in ("deps", "outs") if name != "report" else ():
            one, other = (
                [(entry["path"], entry["md5"]) for entry in lock[name].get(kind, []) if "train" not in entry["path"]]
                for lock in locks
            )
            assert one == other, f"dvc.lock: {kind} of {name} differ"
    assert locks[0].keys() == locks[1].keys()
    assert would_run(disturbed, "dvc.yaml") == set()
    assert leftovers(disturbed) == []
    tracked(disturbed)


def tracked(folder: Path) -> None:
    """The tracker has one run, ended well, with each point of the curves once."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert run.info.status == "FINISHED"
    (curves,) = folder.glob("runs/*/metrics.jsonl")
    expected = [row["step"] for row in map(json.loads, curves.read_text().splitlines()) if "loss" in row]
    assert sorted(point.step for point in client.get_metric_history(run.info.run_id, curve_name("loss"))) == expected


def report(line: str) -> None:
    sys.stderr.write(line + "\n")


def check(folder: Path, settings: dict[str, Any], kills: int, seed: int) -> None:
    """The whole comparison in an empty folder."""
    # The port is part of every address, so both must have the same.
    merge(settings, {"corpus": {"scenes": {"port": free_port()}}})
    seconds = undisturbed(folder / "quiet", settings)
    report(f"undisturbed: {seconds:.0f} s")
    killed(folder / "disturbed", settings, kills, seconds, seed)
    compare(folder / "quiet", folder / "disturbed")
    report(f"equal after {kills} kills")


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, help="scenes that can be fetched (the default run's)")
    parser.add_argument("--steps", type=int, help="steps of training, of batch 16 (the default run's)")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, help="an empty folder to keep (a temporary one)")
    arguments = parser.parse_args()
    settings = sizes(arguments.images, arguments.steps)
    if arguments.folder:
        check(arguments.folder, settings, arguments.kills, arguments.seed)
    else:
        with tempfile.TemporaryDirectory() as folder:
            check(Path(folder), settings, arguments.kills, arguments.seed)


if __name__ == "__main__":
    main()
