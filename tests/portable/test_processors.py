"""What the pipeline computes is equal to the bit on this processor and on others, which are emulated."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.portable.environment import without_arithmetic
from tests.ports import free_port

SCRIPT = Path(__file__).with_name("computed.py")
Computed = list[dict[str, str]]
STEPS = "1"


def compute(folder: Path, command: list[str], arithmetic: str, *arguments: str) -> Computed:
    """What each of two ranks computes."""
    folder.mkdir()
    environment = {
        **without_arithmetic(),
        "CAFT_ARITHMETIC": arithmetic,
        "PYTHONPATH": str(SCRIPT.parents[2]),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    ranks = [
        subprocess.Popen(
            [*command, sys.executable, str(SCRIPT), str(folder / str(rank)), *arguments],
            env={**environment, "RANK": str(rank)},
            stdout=(folder / f"{rank}.json").open("w"),
            stderr=(folder / f"{rank}.log").open("w"),
        )
        for rank in range(2)
    ]
    codes = [rank.wait() for rank in ranks]
    assert codes == [0, 0], [(folder / f"{rank}.log").read_text()[-3000:] for rank in range(2)]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def emulated(require_system: Callable[[str], str], processor: str) -> list[str]:
    return [require_system("qemu-x86_64"), "-cpu", processor]


def differences(one: Computed, other: Computed) -> list[str]:
    assert [set(rank) for rank in one] == [set(rank) for rank in other]
    return [key for mine, theirs in zip(one, other, strict=True) for key in mine if mine[key] != theirs[key]]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Computed:
    return compute(tmp_path_factory.mktemp("portable") / "here", [], "portable", STEPS)


def test_everything_is_computed(here: Computed) -> None:
    first, second = here
    assert first["arithmetic"] == second["arithmetic"] == "portable"
    assert first["weights over two ranks"] == second["weights over two ranks"]
    of_first = ("superpixel weights", "labels", "benchmarks", "similarity", "maps", "segments", "retrieval", "masks")
    assert {*of_first, "regions", "boundaries", "superpixel methods"} <= set(first)
    operations = {key.split(".")[1] for key in second if key.startswith("operation aten.")}
    of_step = (
        "mm",
        "bmm",
        "addmm",
        "convolution_backward",
        "native_layer_norm",
        "gelu",
        "_softmax",
        "_fused_adamw_",
        "sqrt",
    )
    assert {*of_step} <= operations and len(operations) > 80


@pytest.mark.timeout(1800)
def test_an_emulated_haswell_trains_the_same_weights(
    here: Computed, tmp_path: Path, require_system: Callable[[str], str]
) -> None:
    """Intel without AVX-512; `make verify` has an AMD processor too, more steps, and all else that is computed."""
    there = compute(tmp_path / "haswell", emulated(require_system, "Haswell"), "portable", STEPS, "weights")
    assert [rank["weights over two ranks"] for rank in there] == [rank["weights over two ranks"] for rank in here]


@pytest.mark.verify
@pytest.mark.timeout(600)
def test_without_the_mode_they_differ(tmp_path: Path, require_system: Callable[[str], str]) -> None:
    """So the comparison can fail."""
    if " avx512f " not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has the width of the emulated one")
    mine = compute(tmp_path / "here", [], "native", "1", "weights")
    theirs = compute(tmp_path / "haswell", emulated(require_system, "Haswell"), "native", "1", "weights")
    assert differences(mine, theirs) == ["weights over two ranks"] * 2
