"""The settings of params.yaml: typed, resolved, and validated all at once before any work."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caft.params.file import flat
    from caft.params.load import load_params
    from caft.params.settings import Params

__all__ = ["Params", "flat", "load_params"]
_HOMES = {"Params": "caft.params.settings", "flat": "caft.params.file", "load_params": "caft.params.load"}


def __getattr__(name: str) -> Any:
    # Imported when first asked for: who reads a model's card, or rounds as asked, needs no settings.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
