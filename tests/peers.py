"""Other people's programs as tests need them: development dependencies of pyproject.toml, which are never passed over in CI."""

import importlib
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch


def peer(name: str) -> ModuleType:
    """A module of a peer; if it is not installed, the test is skipped, or fails under CAFT_REQUIRE_SYSTEM=1."""
    try:
        return _imported(name)
    except ImportError as error:
        reason = f"{error}; pip install -e '.[dev]' brings it"
        if os.environ.get("CAFT_REQUIRE_SYSTEM") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


def _imported(name: str) -> ModuleType:
    """Imports a module, also with PyPI's torchvision beside the CPU's torch.

    open_clip and clip-benchmark import torchvision, whose build for CUDA does not load its operators there, and then fails
    as it describes them to torch. No test uses one (boxes and the like), so their descriptions are left out.
    """
    register = torch.library.register_fake

    def without_operators(operator: str, *arguments: Any, **options: Any) -> Any:
        decorate = register(operator, *arguments, **options)
        if not operator.startswith("torchvision::"):
            return decorate

        def described(function: Callable[..., Any]) -> Callable[..., Any]:
            try:
                return decorate(function)
            except RuntimeError:
                return function

        return described

    torch.library.register_fake = without_operators
    try:
        return importlib.import_module(name)
    finally:
        torch.library.register_fake = register
