"""Stage train: CAFT on the training index, as a job of the selected launcher."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from caft.params import Params
from caft.train.job import TrainJob
from caft.train.launch import train, write_results
from caft.train.plan import plan
from pipelines.stage import run
from slurm import queue, submit
from slurm.rank import Interruptible


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    trained(params, arguments.overlay, write_results)


def trained(params: Params, overlays: Sequence[str], keep: Callable[[Path], None] = lambda folder: None) -> Path:
    """Trains, unless the run has ended before, and returns the run's folder; see `caft.train.launch.train`."""

    def launch(job: TrainJob, follow: Callable[[], None]) -> None:
        launcher = params.selected_launcher
        seconds = launcher.slurm.notice_seconds if launcher.slurm is not None else None
        submit.run(Interruptible(job, seconds), launcher, job.run_folder, follow)

    return train(params, overlays, launch, keep, queue.is_over)


if __name__ == "__main__":
    run(main, plan=plan)
