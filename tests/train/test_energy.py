"""Counters of energy: a processor's turn over, a card's by a library with NVML's functions, and none where none can be read."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from caft.train.energy import _Card, meter_of

CPU = torch.device("cpu")
RANGE = 262143328850  # microjoules, as Intel's processors state


def zone(folder: Path, name: str, number: str, count: int) -> Path:
    """A counter as Linux shows it."""
    path = folder / number
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{count}\n")
    (path / "max_energy_range_uj").write_text(f"{RANGE}\n")
    return path


def test_packages_are_added_and_a_counter_may_begin_again(tmp_path: Path) -> None:
    first = zone(tmp_path, "package-0", "intel-rapl:0", 1_000_000)
    second = zone(tmp_path, "package-1", "intel-rapl:1", RANGE - 999_999)
    zone(tmp_path, "dram", "intel-rapl:0:0", 5)  # a part of another zone
    zone(tmp_path, "psys", "intel-rapl:2", 5)  # which has the packages in it
    meter = meter_of(CPU, tmp_path)
    assert meter is not None and meter.source.startswith("RAPL")
    (first / "energy_uj").write_text("3500000\n")
    (second / "energy_uj").write_text("250000\n")
    # 2.5 J; and 0.999999 J up to the end of the range, a microjoule to zero and 0.25 J from there.
    assert meter.read() == pytest.approx(2.5 + 1.25)
    assert meter.read() == 0


def test_without_counters_that_can_be_read_there_is_no_meter(tmp_path: Path) -> None:
    assert meter_of(CPU, tmp_path / "absent") is None
    (zone(tmp_path, "package-0", "intel-rapl:0", 1) / "energy_uj").write_text("")  # as of a driver that fails
    assert meter_of(CPU, tmp_path) is None
    assert meter_of(torch.device("meta")) is None


def test_a_counter_that_goes_away_gives_nothing(tmp_path: Path) -> None:
    path = zone(tmp_path, "package-0", "intel-rapl:0", 1)
    meter = meter_of(CPU, tmp_path)
    (path / "energy_uj").unlink()
    assert meter is not None and meter.read() is None


def test_one_rank_of_a_machine_counts_its_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zone(tmp_path, "package-0", "intel-rapl:0", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    meter = meter_of(CPU, tmp_path)
    (path / "energy_uj").write_text("7000000")
    assert meter is not None and meter.read() == 0


_LIBRARY = """
#include <string.h>
static unsigned long long count = 5000000000000ULL;  /* more than 32 bits */
static int card;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    *handle = &card;
    return strcmp(uuid, "GPU-1") ? 6 : 0;  /* 6: not found */
}
int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *energy) {
    if (handle != &card) return 2;
    *energy = count;
    count += 2500;
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_card_is_read_through_nvmls_functions(tmp_path: Path) -> None:
    """The signatures are those of nvml.h; the numbers are this library's."""
    (tmp_path / "nvml.c").write_text(_LIBRARY)
    library = tmp_path / "libnvml.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "nvml.c")], check=True)
    card = _Card(str(library), "GPU-1")
    assert [card.read(), card.read()] == [2.5, 2.5]
    with pytest.raises(OSError, match="error 6"):
        _Card(str(library), "GPU-2")
