"""Stage train: CAFT on the training index, as a job of the selected launcher."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from caft.errors import ParamsError
from caft.params import Params
from caft.train.job import TrainJob
from caft.train.launch import train, write_results
from caft.train.plan import plan
from caft.train.predict import probe
from caft.train.probe import Probe
from pipelines.stage import run
from slurm import queue, submit
from slurm.rank import Interruptible


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage.

    Raises:
        ParamsError: `--probe` is given without `--dry-run`.
    """
    if arguments.probe is not None:
        raise ParamsError(f"--probe {arguments.probe:g}: only with --dry-run, which trains nothing")
    trained(params, arguments.overlay, write_results)


def trained(params: Params, overlays: Sequence[str], keep: Callable[[Path], None] = lambda folder: None) -> Path:
    """Trains, unless the run has ended before, and returns the run's folder; see `caft.train.launch.train`."""

    def launch(job: TrainJob, follow: Callable[[], None]) -> None:
        launcher = params.selected_launcher
        seconds = launcher.slurm.notice_seconds if launcher.slurm is not None else None
        submit.run(Interruptible(job, seconds), launcher, job.run_folder, follow)

    return train(params, overlays, launch, keep, queue.is_over)


def planned(params: Params, arguments: argparse.Namespace) -> list[str]:
    """Lines of the plan, with what a probe of the machine found if one is asked for."""
    lines = plan(params)
    if arguments.probe is None:
        return lines

    def launch(job: Probe) -> None:
        what, again = "probe", "is not needed: ask for the probe again"
        submit.run(Interruptible(job), params.selected_launcher, job.folder, what=what, again=again)

    return lines + probe(params, arguments.probe, launch)


def more(parser: argparse.ArgumentParser) -> None:
    """The stage's own argument."""
    words = "with --dry-run: train so long on random data, and print hours, memory and energy of the run"
    parser.add_argument("--probe", type=float, metavar="SECONDS", help=words)


if __name__ == "__main__":
    run(main, plan=planned, more=more)
