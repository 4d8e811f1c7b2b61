"""Energy that a machine's own counters report: of a GPU by NVML, of its processors by RAPL; nothing where there are none."""

import ctypes
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import torch

# Where Linux shows the counters of Intel's and AMD's processors.
RAPL = Path("/sys/class/powercap")
_NVML = "libnvidia-ml.so.1"  # comes with the driver; torch has no function for this counter


class Meter(ABC):
    """Joules since the last reading.

    Attributes:
        source: What counts.
    """

    source: str

    @abstractmethod
    def read(self) -> float | None:
        """Joules since the last call, or since the meter was made; None if a counter can no longer be read."""


def meter_of(device: torch.device, rapl: Path = RAPL, nvml: str = _NVML) -> Meter | None:
    """The meter of what a rank computes on; None if nothing there counts, or may be read.

    A GPU's meter is of that card alone. That of a CPU is of all processor packages of the machine, whatever runs on
    them, so only the machine's first rank has one that counts; the others' stand still.
    """
    try:
        if device.type == "cuda":
            return _Card(nvml, f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        if device.type == "cpu":
            return _Nothing() if int(os.environ.get("LOCAL_RANK", 0)) else _Packages(rapl)
    except (OSError, AttributeError, ValueError):
        return None
    return None


class _Packages(Meter):
    """Counters in microjoules that begin again at 0 after a stated range.

    A reading sees one turn at most: at 250 W the usual range of 2^18 J is passed after a quarter of an hour.
    """

    source = "RAPL, all processor packages of the machine"

    def __init__(self, folder: Path) -> None:
        zones = [zone for zone in sorted(folder.glob("*-rapl:*")) if (zone / "name").is_file()]
        zones = [zone for zone in zones if (zone / "name").read_text().startswith("package")]
        if not zones:
            raise OSError(f"{folder}: no counters")
        self._ranges = {zone: int((zone / "max_energy_range_uj").read_text()) for zone in zones}
        self._last = self._counts()

    def _counts(self) -> Mapping[Path, int]:
        return {zone: int((zone / "energy_uj").read_text()) for zone in self._ranges}

    def read(self) -> float | None:
        try:
            now = self._counts()
        except (OSError, ValueError):
            return None
        used = sum((now[zone] - self._last[zone]) % (self._ranges[zone] + 1) for zone in now)
        self._last = now
        return used / 1e6


class _Card(Meter):
    """NVML's counter in millijoules since the driver was loaded, of cards from Volta on."""

    source = "NVML, the cards of the ranks"

    def __init__(self, library: str, uuid: str) -> None:
        self._nvml = ctypes.CDLL(library)
        self._handle = ctypes.c_void_p()
        self._check(self._nvml.nvmlInit_v2())
        self._check(self._nvml.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(self._handle)))
        self._last = self._count()

    def _check(self, code: int) -> None:
        if code:
            raise OSError(f"NVML: error {code}")

    def _count(self) -> int:
        count = ctypes.c_ulonglong()
        self._check(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle, ctypes.byref(count)))
        return count.value

    def read(self) -> float | None:
        try:
            now = self._count()
        except OSError:
            return None
        used, self._last = now - self._last, now
        return used / 1e3 if used >= 0 else None


class _Nothing(Meter):
    """Of a rank whose energy another one counts."""

    source = _Packages.source

    def read(self) -> float | None:
        return 0.0
