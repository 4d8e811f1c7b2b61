"""How a CPU rounds: as every other one with AVX2 does, or as this one is fastest.

Libraries choose their kernels by the processor, and kernels of other widths add in another order. `portable` holds them
to kernels that each x86-64 processor with AVX2 has. Most libraries read that once, when they are loaded, so it is set
before torch and numpy are imported, and inherited by processes that are started later. `caft.network.portable` does the
rest.
"""

import os
import platform
import sys
from pathlib import Path
from typing import Literal

from caft.errors import ParamsError

Arithmetic = Literal["portable", "native"]
# Says which one a process and its children use. Stages set it by the settings; who only uses a model may set it.
VARIABLE = "CAFT_ARITHMETIC"
SETTINGS = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own kernels
    "MKL_CBWR": "COMPATIBLE",  # Intel's library; its faster branches are alike among Intel's processors alone
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions
    "OPENBLAS_CORETYPE": "Haswell",  # products of matrices, numpy's and ours
    "OPENBLAS_NUM_THREADS": "1",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",  # numpy's sines, exponentials, ...
}
_READERS = ("torch", "numpy", "scipy")
_UNWANTED = "NPY_ENABLE_CPU_FEATURES"  # numpy refuses to be told both


def current() -> Arithmetic:
    """The one that this process uses.

    Raises:
        ParamsError: The environment names another.
    """
    found = os.environ.get(VARIABLE, "native")
    if found not in ("portable", "native"):
        raise ParamsError(f"{VARIABLE}={found} in the environment: must be portable or native")
    return "portable" if found == "portable" else "native"


def use(asked: Arithmetic) -> None:
    """Makes this process and its children round as asked, or `native` if the processor has no AVX2; says so then.

    To be called before any of the libraries is imported.

    Raises:
        ParamsError: As `check`.
    """
    used = _available(asked)
    if used != asked:
        sys.stderr.write(
            "arithmetic: native, as this processor has no AVX2; results will differ from other machines'\n"
        )
    if used == "portable":
        check()
        os.environ.update(SETTINGS)
    elif os.environ.get(VARIABLE) == "portable":  # inherited
        for name in SETTINGS:
            os.environ.pop(name, None)
    os.environ[VARIABLE] = used


def use_inherited() -> None:
    """Does what the environment says, if it says anything; `caft.network.portable` tells what stood in the way."""
    if os.environ.get(VARIABLE) == "portable" and not _problem():
        use("portable")


def check() -> None:
    """Makes sure that this process rounds portably, or can be made to.

    Raises:
        ParamsError: A variable is set to something else, or it is too late.
    """
    if problem := _problem():
        raise ParamsError(problem)


def expect(asked: Arithmetic) -> None:
    """Makes sure that this process rounds as the settings say.

    Raises:
        ParamsError: It was started in another way.
    """
    if (expected := _available(asked)) != current():
        raise ParamsError(
            f"launchers: arithmetic: {asked} is asked for, but this process rounds in the {current()} way; "
            f"start it by `python -m pipelines.STAGE`, or with {VARIABLE}={expected} in its environment"
        )


def _available(asked: Arithmetic) -> Arithmetic:
    return asked if asked == "native" or _has_avx2() else "native"


def _problem() -> str | None:
    found = {name: os.environ.get(name) for name in SETTINGS}
    other = [name for name, value in found.items() if value not in (None, SETTINGS[name])]
    if _UNWANTED in os.environ:
        found[_UNWANTED] = os.environ[_UNWANTED]
        other.append(_UNWANTED)
    if other:
        return (
            f"{', '.join(f'{name}={found[name]}' for name in other)} in the environment: arithmetic: portable needs "
            f"{', '.join(f'{name}={SETTINGS[name]}' if name in SETTINGS else f'no {name}' for name in other)}; "
            f"run `unset {' '.join(other)}`, or do without: by arithmetic: native in the launcher's entry of params.yaml, "
            f"or outside the pipeline by {VARIABLE}=native"
        )
    loaded = [name for name in _READERS if name in sys.modules]
    if loaded and None in found.values():
        return (
            f"arithmetic: portable is asked for after {' and '.join(loaded)} had been imported; "
            f"start Python with {VARIABLE}=portable, and import caft before them"
        )
    return None


def _has_avx2() -> bool:
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        return " avx2 " in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
