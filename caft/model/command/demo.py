"""The command `caft demo`."""

import argparse
import sys
from pathlib import Path

from caft.model.command.common import loaded, one_line, remark, say
from caft.model.interrupts import importing
from caft.model.output import check_output
from caft.storage import write_text

# Pictures with captions that `dvc repro` renders, to begin with.
_DEFAULT = Path("data/benchmarks/scenes/random")


def demo(arguments: argparse.Namespace) -> None:
    """Serves a page, or writes it, in which a model runs on pictures and captions."""
    with importing():
        from caft.demo.serving import PageServer
    if arguments.output is not None:
        check_output(arguments.output, ".html")
        write_text(arguments.output, _page(arguments))
        say(one_line(arguments.output))
        return
    with PageServer(arguments.port) as server:
        page = _page(arguments)
        say(server.address)
        sys.stdout.flush()
        remark("open it in a browser; Ctrl-C ends it")
        server.serve(page)


def _page(arguments: argparse.Namespace) -> str:
    with importing():
        from caft.demo.scenes import Scenes, of_folder
    folder = arguments.pictures or (_DEFAULT if _DEFAULT.is_dir() else None)
    scenes = Scenes("") if folder is None else of_folder(folder)
    for reason in scenes.left_out:
        remark(f"left out: {reason}")
    model = loaded(arguments.model)
    with importing():
        from caft.demo.page import demo_page
    return demo_page(model, scenes)
