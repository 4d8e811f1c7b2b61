"""What the scripts of all stages share: arguments, logging, errors as one message with exit code 2, running as a job."""

import argparse
import hashlib
import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path

# Before any of these packages is imported.
os.environ.update(
    {
        "RAY_USAGE_STATS_ENABLED": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "DVC_NO_ANALYTICS": "1",
        "WANDB_MODE": "disabled",
    }
)

from caft.data import loopback  # noqa: E402
from caft.errors import CaftError, ParamsError, exits_with_message  # noqa: E402
from caft.params import Params, arithmetic, load_params  # noqa: E402
from caft.storage import disk_problem, runs_folder  # noqa: E402
from pipelines import recorded  # noqa: E402
from pipelines.signals import ends_when_told  # noqa: E402

loopback.spare()
Main = Callable[[Params, argparse.Namespace], None]


def run(
    stage: Main,
    *,
    corpus: bool = False,
    external: bool = False,
    plan: Callable[[Params, argparse.Namespace], list[str]] | None = None,
    more: Callable[[argparse.ArgumentParser], None] | None = None,
) -> None:
    """Runs a stage from the command line.

    Args:
        stage: Gets the validated settings and the arguments.
        corpus: The stage takes the name of a corpus.
        external: The stage can score given weights in place of the trained model; see `caft.eval.place`.
        plan: Gives the lines that `--dry-run` prints in place of running the stage.
        more: Adds the stage's own arguments to the parser.
    """
    about = (sys.modules["__main__"].__doc__ or "").strip()
    parser = argparse.ArgumentParser(description=about, allow_abbrev=False)  # `prepare` would not know them
    _settings_arguments(parser)
    if more is not None:
        more(parser)
    if corpus:
        parser.add_argument("corpus", help="a key of the table `corpus`")
    if external:
        parser.add_argument(
            "--external", action="store_true", help="score the given weights; a stage of pipelines/score"
        )
    if plan is not None:
        parser.add_argument("--dry-run", action="store_true", help="print what would be done, and do nothing")
    arguments = parser.parse_args()
    specification = sys.modules["__main__"].__spec__
    module = specification.name.rpartition(".")[2] if specification else ""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S"
    )
    with exits_with_message(), ends_when_told():
        seen = recorded.look(arguments.params)
        params = load_params(arguments.params, arguments.overlay, arguments.set)
        if corpus and arguments.corpus not in params.corpus:
            known = ", ".join(params.corpus)
            raise CaftError(f"{arguments.params}: corpus '{arguments.corpus}' is not in the table; known are {known}")
        with _inside(arguments):
            if plan is not None and arguments.dry_run:
                print("\n".join(plan(params, arguments)))
                return
            if module in params.jobs:
                _submit(module, params, arguments)
            else:
                arithmetic.expect(_arithmetic_of(module, params))
                _call(stage, params, arguments)
        recorded.check(seen, arguments.params)


def row_and_score(text: str) -> tuple[str, str]:
    """An argument ROW=SCORE of a summary, for argparse, which adds where it stands."""
    row, _, score = text.partition("=")
    if not (row and score):
        raise argparse.ArgumentTypeError(f"expected a name and its score, as flair=conditioned, found {text!r}")
    return row, score


def prepare(module: str, words: Sequence[str]) -> None:
    """Makes this process round as the launcher of a stage says, given the stage's module and arguments.

    Settings that are wrong are left to the stage, which tells what is.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    _settings_arguments(parser)
    logging.disable()  # what is to be said of settings, the stage says
    try:
        arguments, _ = parser.parse_known_args(words)
        params = load_params(arguments.params, arguments.overlay, arguments.set)
    except (argparse.ArgumentError, ParamsError):
        return
    finally:
        logging.disable(logging.NOTSET)
    with exits_with_message():
        arithmetic.use(_arithmetic_of(module.rpartition(".")[2], params))


def _arithmetic_of(module: str, params: Params) -> arithmetic.Arithmetic:
    return params.launchers[params.jobs.get(module, params.launch)].arithmetic


def _settings_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--params", default="params.yaml", help="settings file (params.yaml)")
    parser.add_argument("--overlay", action="append", default=[], help="settings merged over it; may be repeated")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting; may be repeated")
    words = "where data/, models/, metrics/ and plots/ are; for a graph with a corpus of its own (the checkout)"
    parser.add_argument("--folder", default=".", help=words)


@contextmanager
def _inside(arguments: argparse.Namespace) -> Iterator[None]:
    """Enters the folder that is asked for, and leaves it; settings and code are still those of the checkout."""
    if Path(arguments.folder) == Path():
        yield
        return
    checkout = os.getcwd()
    arguments.params = os.path.abspath(arguments.params)
    arguments.overlay = [os.path.abspath(overlay) for overlay in arguments.overlay]
    # Ranks and workers, which are started in the folder, import this package, too.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (checkout, os.environ.get("PYTHONPATH"))))
    Path(arguments.folder).mkdir(parents=True, exist_ok=True)
    with chdir(arguments.folder):
        yield


def _call(stage: Main, params: Params, arguments: argparse.Namespace) -> None:
    """Runs a stage in this process.

    Raises:
        CaftError: The stage's own, or one that explains an error of the disk or a path.
    """
    try:
        stage(params, arguments)
    except CaftError:
        raise
    except Exception as error:
        if (problem := disk_problem(error)) is None:
            raise
        raise CaftError(problem) from error


# ---- a stage as a job


@dataclass(frozen=True)
class StageJob:
    """A picklable callable that runs a stage of this package, or a part of it."""

    module: str
    params: Params
    arguments: argparse.Namespace
    part: tuple[int, int] | None = None  # its number and that of all parts, for the module's function `part`

    def __call__(self) -> None:
        """Runs it in the job's only rank."""
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
        module = importlib.import_module(f"{__package__}.{self.module}")
        arithmetic.expect(_arithmetic_of(self.module, self.params))
        if self.part is None:
            _call(module.main, self.params, self.arguments)
        else:
            number, parts = self.part
            _call(lambda params, arguments: module.part(params, arguments, number, parts), self.params, self.arguments)


def _submit(module: str, params: Params, arguments: argparse.Namespace) -> None:
    """Runs a stage as a job of the launcher that `jobs` names, or attaches to the one that is under way.

    A launcher of several nodes has a job of one node for each part of the stage, and one after them for the rest.
    """
    from slurm import submit

    # Another checkout's, or one of other settings, is another job.
    identity = f"{os.getcwd()} {vars(arguments)} {params.model_dump_json()}"
    folder = runs_folder(params) / f"{module}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    launcher = params.launchers[params.jobs[module]]
    parts, launcher = launcher.nodes, launcher.model_copy(update={"nodes": 1})
    if parts > 1:
        jobs = {
            folder.with_name(f"{folder.name}-{number}-of-{parts}"): StageJob(module, params, arguments, (number, parts))
            for number in range(parts)
        }
        submit.run_side_by_side(jobs, launcher, f"{module}'s job", "takes up what is left of each part")
    job = StageJob(module, params, arguments)
    submit.run(job, launcher, folder, what=f"{module}'s job", again="runs the stage again")
