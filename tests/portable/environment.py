"""Environments of processes that are not to round as this one does."""

import os

from caft.params import arithmetic


def without_arithmetic() -> dict[str, str]:
    """This process's environment, less all that says how it rounds."""
    ours = {*arithmetic.SETTINGS, arithmetic.VARIABLE}
    return {key: value for key, value in os.environ.items() if key not in ours}
