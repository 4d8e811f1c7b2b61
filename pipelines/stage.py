"""What every stage's script shares: arguments, logging, and errors as one block with exit code 2."""

import argparse
import logging
import os
import sys
from collections.abc import Callable

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

from caft.errors import CaftError  # noqa: E402
from caft.params import Params, load_params  # noqa: E402
from caft.storage import disk_problem  # noqa: E402


def run(
    stage: Callable[[Params, argparse.Namespace], None],
    *,
    corpus: bool = False,
    external: bool = False,
    plan: Callable[[Params], list[str]] | None = None,
    more: Callable[[argparse.ArgumentParser], None] | None = None,
) -> None:
    """Runs a stage from the command line.

    Args:
        stage: Gets the validated settings and the arguments.
        corpus: The stage takes the name of a corpus.
        external: The stage can score given weights in place of the trained model; see `pipelines.place`.
        plan: Says what the stage would do, in lines, for `--dry-run`.
        more: Adds arguments of the stage's own.
    """
    parser = argparse.ArgumentParser(description=(sys.modules["__main__"].__doc__ or "").strip())
    parser.add_argument("--params", default="params.yaml", help="settings file (params.yaml)")
    parser.add_argument("--overlay", action="append", default=[], help="settings merged over it; may be repeated")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting; may be repeated")
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
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S"
    )
    try:
        params = load_params(arguments.params, arguments.overlay, arguments.set)
        if corpus and arguments.corpus not in params.corpus:
            known = ", ".join(params.corpus)
            raise CaftError(f"{arguments.params}: corpus '{arguments.corpus}' is not in the table; known are {known}")
        if plan is not None and arguments.dry_run:
            print("\n".join(plan(params)))
        else:
            stage(params, arguments)
    except CaftError as error:
        message = str(error)
    except Exception as error:
        if (problem := disk_problem(error)) is None:
            raise
        message = problem
    else:
        return
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
