"""Shared by all tests: few threads, no reports home, system packages that may be absent, a small model and pictures."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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

from caft.params import arithmetic  # noqa: E402

arithmetic.use("native" if os.environ.get(arithmetic.VARIABLE) == "native" else "portable")  # native: on a GPU

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402
from PIL import Image  # noqa: E402

torch.set_num_threads(1)
# How fast examples are made says nothing of the code where other tests run beside.
settings.register_profile("shared", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")
PROJECT = Path(__file__).parents[1]


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


@pytest.fixture
def small_disk(tmp_path: Path, require_system: Callable[[str], str]) -> Iterator[Path]:
    """A file system of 4 MB; skipped, or failed, where this user may not mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [require_system("mount"), "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = f"cannot mount a file system ({done.stderr.strip()}); it takes root"
        pytest.fail(reason) if os.environ.get("CAFT_REQUIRE_SYSTEM") == "1" else pytest.skip(reason)
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture(scope="session")
def network():
    """The tiny network at random weights, with a part level and temperatures that are not at their start."""
    from caft.network.caft import CAFT
    from caft.params import load_params

    torch.manual_seed(0)
    built = CAFT(load_params(PROJECT / "params.yaml").models["tiny"], chunks=4).eval()
    with torch.no_grad():
        built.part_bias.fill_(-3.0)
        built.part_log_scale.fill_(1.5)
        built.whole_log_scale.fill_(2.5)
        for parameter in built.vision.parameters():  # else all images look alike to random weights
            parameter.mul_(1.5)
    return built


@pytest.fixture(scope="session")
def model(network):
    """The network with a card: what a user holds."""
    from caft.model.card import ModelCard
    from caft.model.model import Model

    reading = {"splitter": "dreamlip", "chunks": 4, "balanced_rule": "paper"}
    return Model(network, ModelCard(**reading, model=network.config, fingerprint="0123456789abcdef"))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Six JPEG files of 60 x 40 pixels (wider than high), each a few flat rectangles."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    paths = []
    for number in range(6):
        pixels = np.full((40, 60, 3), rng.integers(0, 255, 3), np.uint8)
        for _ in range(4):
            y, x = rng.integers(0, 30), rng.integers(0, 45)
            pixels[y : y + 15, x : x + 20] = rng.integers(0, 255, 3)
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=95)
    return paths


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Settings of small rendered sets, and the folder where they lie: 16 images, 8 regions a file."""
    from caft.data.scenes.sets import write_benchmarks
    from caft.params import load_params

    folder = tmp_path_factory.mktemp("scenes")
    overlay = {
        "corpus": {"scenes": {"evaluation_images": 16, "regions": 8}},
        "benchmarks": {name: {"pairs": 16} for name in ("random", "look_alike")},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(overlay))
    params = load_params(PROJECT / "params.yaml", [folder / "small.yaml"])
    write_benchmarks(folder / "data/benchmarks/scenes", params.corpus["scenes"])
    return params, folder


@pytest.fixture(scope="session")
def scenes(small):
    """The referring sets that are there, by name."""
    from caft.data.sets import ReferringSet, load_referring

    params, folder = small
    found = {}
    for name, benchmark in params.benchmarks.items():
        if benchmark.kind == "referring":
            loaded = load_referring(benchmark.model_copy(update={"path": str(folder / benchmark.path)}))
            if isinstance(loaded, ReferringSet):
                found[name] = loaded
    return found


# ---- pytest-xdist

# Tests of a file run in one process, in their order, since they share fixtures; so do those of several files that share what
# is costly. Longest first: then no process has a long one left when the other has nothing more to do.
_TOGETHER = {
    "faults": ("tests/faults/", "tests/data/test_leakage.py"),  # one checkout in which all stages have run
    "end to end": ("tests/test_end_to_end.py",),
    "corpora": ("tests/data/test_corpora.py",),
    "crawls": ("tests/data/test_fetch.py",),
    "scale": ("tests/data/test_scale.py",),
    "score": ("tests/test_score.py",),
    # One Ray.
    "ray": (
        "tests/data/test_cluster.py",
        "tests/data/test_crawl.py",
        "tests/data/test_export.py",
        "tests/data/test_packed.py",
        "tests/data/test_recaption.py",
    ),
    "docs": ("tests/test_docs.py",),
    "eval": ("tests/eval/test_stages.py", "tests/eval/test_report.py"),
}


def _group(path: str) -> str:
    """The group of a file's tests: a name of _TOGETHER, else the file itself."""
    return next((name for name, begins in _TOGETHER.items() if path.startswith(begins)), path)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what `make verify` alone runs; for pytest-xdist, the longest groups come first."""
    if "verify" not in config.getoption("markexpr"):
        left = [item for item in items if item.get_closest_marker("verify")]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
    if config.getoption("numprocesses", None) or os.environ.get("PYTEST_XDIST_WORKER"):
        order = {name: number for number, name in enumerate(_TOGETHER)}
        # Stable, so the order within a group stays.
        items.sort(key=lambda item: order.get(_group(item.nodeid.partition("::")[0]), len(order)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A process takes a whole group. (Marks `xdist_group` do nothing with pytest 9.2: findings/xdist_groups.sh.)"""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid.partition("::")[0])

    return ByGroup(config, log)
