"""The command `caft export`."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from caft.errors import CaftError
from caft.model.command.common import one_line, remark, say
from caft.model.interrupts import importing
from caft.model.output import check_folder

if TYPE_CHECKING:
    from caft.export.folder import Scores
    from caft.model.model import Model

_SETTINGS = Path("params.yaml")


def export(arguments: argparse.Namespace) -> None:
    """Writes a model for other runtimes."""
    asked: list[tuple[Path | None, str]] = [(arguments.onnx, "--onnx"), (arguments.torch_export, "--torch-export")]
    wanted = [(folder, option) for folder, option in asked if folder is not None]
    if not wanted:
        raise CaftError("export: nothing to write; give --onnx FOLDER, --torch-export FOLDER, or both")
    if arguments.int8 and arguments.onnx is None:
        raise CaftError("export: --int8 is a form of ONNX; give --onnx FOLDER with it")
    if len({folder.resolve() for folder, _ in wanted}) < len(wanted):
        raise CaftError(f"{wanted[0][0]}: given twice; give each form a folder of its own")
    for folder, option in wanted:
        check_folder(folder, option)
        if folder.is_dir() and any(folder.iterdir()):
            raise CaftError(f"{folder}: is a folder with files in it; give a new one with {option}, or remove it")
    with importing():
        from caft.export.folder import Traced
        from caft.export.programs import require_onnx
        from caft.weights.load import load
    if arguments.onnx is not None:
        require_onnx()
    model = load(arguments.model)
    traced = Traced(model, Path(arguments.model), _scores(arguments.sets, model))
    for folder, option in wanted:
        table = traced.write(folder, "onnx" if option == "--onnx" else "torch-export", arguments.int8)
        for path in sorted(folder.iterdir()):
            say(one_line(path))
        remark(table.partition("\n\n")[0])


def _scores(names: list[str] | None, model: "Model") -> "Scores":
    """What scores a form on evaluation sets: those of the settings in this folder, if there are any."""
    if not _SETTINGS.is_file():
        if names is not None:
            raise CaftError(f"--sets: there is no {_SETTINGS} here, which says where sets lie; go to the checkout")
        return _no_scores(f"no {_SETTINGS} here says where they lie")
    try:
        with importing():
            from caft.export.scores import find_sets, score
            from caft.params import load_params
    except ImportError as error:
        if names is not None:
            raise CaftError(f"--sets: needs {error.name}; install the extra: pip install 'caft[pipeline]'") from None
        return _no_scores(f"they need {error.name}, of the extra `pipeline`")
    found = find_sets(load_params(_SETTINGS), names)
    return partial(score, model=model, sets=found) if found else _no_scores("none of params.yaml is there")


def _no_scores(why: str) -> "Scores":
    remark(f"forms are not scored on evaluation sets: {why}")
    return lambda form: {}
