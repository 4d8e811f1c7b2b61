"""The settings of params.yaml: typed, resolved, and validated all at once before any work."""

from caft.params.file import flat
from caft.params.load import load_params
from caft.params.settings import Params

__all__ = ["Params", "flat", "load_params"]
