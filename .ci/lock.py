#!/usr/bin/env python3
"""Makes the lock files from pyproject.toml, by uv (`pip install uv`).

    python .ci/lock.py                          # versions of before stay where pyproject.toml allows them
    python .ci/lock.py --upgrade-package dvc
    python .ci/lock.py --upgrade

What is given goes to `uv pip compile`. Each version carries the hashes of all its files, for every platform. torch stands
apart, since it has one version and two builds: `requirements-cpu.lock` has the hashes of PyTorch's own CPU builds,
`requirements-cuda.lock` those of PyPI (CUDA on Linux) and the libraries which that build needs. `requirements-peers.lock` has
what the extras `peers` and `export` bring beyond all else.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
LOCK, CPU, CUDA, PEERS = (PROJECT / f"requirements{part}.lock" for part in ("", "-cpu", "-cuda", "-peers"))
TORCH = "2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
HEADS = {
    LOCK: "# The tested versions of everything but torch, with the hashes of their files. Made by `python .ci/lock.py`.\n",
    CPU: "# torch for the CPU, with the hashes of PyTorch's own builds. Made by `python .ci/lock.py`.\n",
    PEERS: "# What tests compare with, beyond requirements.lock. Made by `python .ci/lock.py`.\n",
    CUDA: "# torch as PyPI has it (CUDA on Linux), and what that needs. Made by `python .ci/lock.py`.\n",
}
# img2dataset asks for the back-port of a module that Python has had since 3.7; installed, it can hide the real one.
# clip-benchmark asks for what its scores of translated captions take, which is large and not used here.
OVERRIDES = "".join(f'{name} ; python_version < "3.7"\n' for name in ("dataclasses", "transformers"))
_OF_CUDA = re.compile(r"torch$|triton$|nvidia-|cuda-")
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")


def compiled(requirements: str, output: Path, *arguments: str) -> str:
    """Gives what `uv pip compile` makes of requirements."""
    command = [
        "uv",
        "pip",
        "compile",
        "--quiet",
        "--universal",
        "--python-version",
        "3.11",
        "--fork-strategy",
        "fewest",
    ]
    command += ["--generate-hashes", "--no-header", "--no-annotate", "--output-file", str(output), *arguments, "-"]
    subprocess.run(command, input=requirements, text=True, check=True, stdout=subprocess.DEVNULL, cwd=PROJECT)
    return output.read_text()


def entries(text: str) -> dict[str, str]:
    """The lines of each distribution, its hashes included."""
    found = re.findall(r"^[a-z0-9].*(?:\n    --hash.*)*", text, re.M)
    return {re.split(r"[=\s]", entry)[0]: entry for entry in found}


def torch_for_cpu(folder: Path) -> str:
    """Gives torch's line with the hashes of PyTorch's CPU builds, those of before if the version is still the same."""
    before = entries(CPU.read_text()).get("torch", "") if CPU.exists() else ""
    if before.startswith(f"torch=={TORCH} "):
        return before
    hashes = set()
    for number, version in enumerate((f"{TORCH}+cpu", TORCH)):  # Linux and Windows, macOS
        text = compiled(f"torch=={version}\n", folder / f"{number}.lock", "--no-deps", "--default-index", CPU_INDEX)
        hashes |= set(_HASH.findall(text))
    return " \\\n".join([f"torch=={TORCH}", *(f"    --hash={value}" for value in sorted(hashes))])


def main() -> None:
    """Writes the four files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        output, overrides = folder / "new.lock", folder / "overrides.txt"
        # uv keeps the versions and hashes that it finds in its output file.
        output.write_text("\n".join(path.read_text() for path in (LOCK, CUDA, PEERS) if path.exists()))
        overrides.write_text(OVERRIDES)
        arguments = ["pyproject.toml", "--override", str(overrides), *sys.argv[1:]]
        whole = entries(compiled(f"torch=={TORCH}\n", output, "--all-extras", *arguments))
        ours = ("--extra", "pipeline", "--extra", "dev")
        found = {name: whole[name] for name in entries(compiled(f"torch=={TORCH}\n", output, *ours, *arguments))}
        for_cpu = torch_for_cpu(folder)
    of_cuda = {name for name in found if _OF_CUDA.match(name)}
    PEERS.write_text(HEADS[PEERS] + "".join(f"{whole[name]}\n" for name in whole if name not in found))
    LOCK.write_text(HEADS[LOCK] + "".join(f"{found[name]}\n" for name in found if name not in of_cuda))
    CPU.write_text(HEADS[CPU] + for_cpu + "\n")
    CUDA.write_text(HEADS[CUDA] + "".join(f"{found[name]}\n" for name in found if name in of_cuda))


if __name__ == "__main__":
    main()
