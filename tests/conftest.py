"""Shared by all tests: few threads, no reports home, and system packages that may be absent."""

import os
import shutil
from collections.abc import Callable

# Before torch or any tool is imported; child processes inherit it.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ.update(
    {
        "RAY_USAGE_STATS_ENABLED": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "DVC_NO_ANALYTICS": "1",
        "WANDB_MODE": "disabled",
    }
)
# What a developer has set must not reach the tests.
for _variable in ("CAFT_STORAGE", "DVC_ROOT", "DVC_EXP_NAME"):
    os.environ.pop(_variable, None)

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def require_system() -> Callable[[str], str]:
    """Gives a function that returns a program's path, or skips the test if it is not installed.

    Under CAFT_REQUIRE_SYSTEM=1, as .ci/run sets it, the test fails instead.
    """

    def require(program: str) -> str:
        path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if path is None:
            reason = f"{program} is not installed; .ci/run lists the Debian packages that tests use"
            if os.environ.get("CAFT_REQUIRE_SYSTEM") == "1":
                pytest.fail(reason)
            pytest.skip(reason)
        return path

    return require
