"""Other people's libraries, which tests run as they are: `make test` installs them beside the environment."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

# Operators whose names torchvision asks for when it is imported. Its build on PyPI is for CUDA: beside torch's build for
# processors it loads none of its own, and fails. open_clip calls none of them, so that there are such names is enough.
_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
FOLDER = Path(sys.prefix) / "peers"  # Makefile
_defined: list[torch.library.Library] = []


def peer(name: str) -> ModuleType:
    """A module of a library that is no dependency of this project's users.

    Args:
        name: Of the module, as `open_clip_train.zero_shot`.
    """
    package = name.partition(".")[0]
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))  # at the end: the environment's own come first
    if importlib.util.find_spec(package) is None:
        reason = f"{package} is not installed; `make test` installs what requirements-peers.lock names in {FOLDER}"
        pytest.fail(reason) if os.environ.get("CAFT_REQUIRE_SYSTEM") == "1" else pytest.skip(reason)
    if importlib.util.find_spec("torchvision") is not None:  # open_clip needs it, torchmetrics looks for it
        _import_torchvision()
    return importlib.import_module(name)


def _import_torchvision() -> None:
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for module in [module for module in sys.modules if module.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        library = torch.library.Library("torchvision", "DEF")
        for operator in _OPERATORS:
            library.define(operator)
        _defined.append(library)  # they go when it does
        importlib.import_module("torchvision")
