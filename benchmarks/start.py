"""Measures whole processes, from their start to their end: commands of `caft`, and what stages import before they work.

Given the folder of another checkout, its processes run in turn with this one's, and the ratios are of the pairs. The
picture has 12 million pixels of noise at two scales, the gallery 200 small pictures that were encoded before.

This process imports next to nothing: a child's most memory is at the least what its parent held when it was started.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

SENTENCES = (
    "A striped red star stands left of the heart. A large blue square is on the right. A green circle lies below them. "
    "The background is plain and white. A small black shape is at the top. Two yellow triangles touch each other. "
    "A purple ring surrounds the square. Nothing else is in the picture."
)
STAGES = ("sets", "leakage", "report")
HERE = Path(__file__).parents[1]


class Cost(NamedTuple):
    """Of one process: seconds on the clock and of processors, and the most memory that it held."""

    wall: float
    processor: float
    mib: float


def cost(command: Sequence[str], checkout: Path, folder: Path) -> Cost:
    """Runs a command by the code of a checkout, in a folder, with a cache of that checkout's own."""
    cache = folder / f"cache-{'here' if checkout == HERE else 'other'}"
    environment = {**os.environ, "PYTHONPATH": str(checkout), "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    if status:
        raise RuntimeError(f"{' '.join(command)} by {checkout}: {said.decode()[-500:]}")
    process.returncode = 0
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / (2**20 if sys.platform == "darwin" else 1024))


def commands(model: Path) -> dict[str, list[str]]:
    """What is measured, by its name."""
    caft, of = [sys.executable, "-m", "caft"], ["--model", str(model)]
    return {
        "caft --help": [*caft, "--help"],
        "caft ground, 12 megapixels, 8 sentences": [*caft, "ground", "photo.jpg", SENTENCES, "-o", "out.png", *of],
        "caft search, 200 known pictures": [*caft, "search", "photos", SENTENCES, *of],
        **{f"start of {name}": [sys.executable, "-c", f"import pipelines.{name}"] for name in STAGES},
    }


def write_pictures(folder: Path) -> None:
    """The large picture and the gallery."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(7)

    def noise(rows: int, width: int, height: int) -> Any:
        pixels = rng.integers(0, 256, (rows * 3, rows * 4, 3), np.uint8)
        return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)

    coarse, fine = noise(4, 4000, 3000), noise(400, 4000, 3000)
    Image.blend(coarse, fine, 0.4).save(folder / "photo.jpg", quality=90)
    (folder / "photos").mkdir()
    for number in range(200):
        noise(4, 320, 240).save(folder / "photos" / f"{number}.jpg")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, default=Path("models/caft.safetensors"))
    parser.add_argument("--other", type=Path, metavar="FOLDER", help="another checkout, to compare with")
    parser.add_argument("--runs", type=int, default=5, help="of each, after one that is not counted (5)")
    given = parser.parse_args()
    checkouts = [HERE, *([given.other.resolve()] if given.other else [])]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write = f"from pathlib import Path; from benchmarks.start import write_pictures; write_pictures(Path({name!r}))"
        subprocess.run([sys.executable, "-c", write], cwd=HERE, check=True)
        for what, command in commands(given.model.resolve()).items():
            runs = [[cost(command, checkout, folder) for checkout in checkouts] for _ in range(given.runs + 1)][1:]
            for number, checkout in enumerate(checkouts):
                figures = [[run[number][figure] for run in runs] for figure in range(3)]
                shown = ", ".join(
                    f"{statistics.median(values):.2f} ({min(values):.2f}) {unit}"
                    for values, unit in zip(figures, ("s", "processor s", "MiB"), strict=True)
                )
                print(f"{what}, {'here' if checkout == HERE else 'other'}: median (least) {shown}", flush=True)
            if given.other:
                ratios = [statistics.median(here[n] / other[n] for here, other in runs) for n in range(3)]
                print(f"{what}, ratios: wall {ratios[0]:.2f}, processor {ratios[1]:.2f}, memory {ratios[2]:.2f}")
    from benchmarks.measuring import machine

    print(machine())


if __name__ == "__main__":
    main()
