"""CAFT: forest and trees in images and long captions, aligned at both levels (arXiv 2602.02977)."""

import importlib
import importlib.util
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caft.model.card import ModelCard
    from caft.model.model import Model
    from caft.network.caft import CAFT
    from caft.weights.load import load

__all__ = ["CAFT", "Model", "ModelCard", "load"]
_HOMES = {
    "CAFT": "caft.network.caft",
    "Model": "caft.model.model",
    "ModelCard": "caft.model.card",
    "load": "caft.weights.load",
}


if "CAFT_ARITHMETIC" in os.environ:  # before torch and numpy are imported
    importlib.import_module("caft.params.arithmetic").use_inherited()


def __getattr__(name: str) -> Any:
    # Imported when first asked for: torch takes over a second, and half of the stages, and Ray's workers, need none of it.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if not name.startswith("_") and importlib.util.find_spec(f"caft.{name}"):
        return importlib.import_module(f"caft.{name}")
    raise AttributeError(f"module 'caft' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
