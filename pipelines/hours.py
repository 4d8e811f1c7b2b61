"""Prints how long the trainings of a graph will take: python -m pipelines.hours scaling

From the samples of each point and the speed of the default run (`images_per_s` of metrics/train.json); with what a point
takes beside training, and less what dvc.lock has already. Speeds of other rows and of another machine differ.
"""

import argparse
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from caft import storage
from caft.errors import ParamsError, exits_with_message
from caft.params import load_params
from caft.params.file import read

GRAPHS = ("ablation", "batches", "scaling")
_BESIDE = 25.0  # seconds of a point: starting, validation, scores, the tracker


def main() -> None:
    """Prints one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph", choices=GRAPHS)
    graph = parser.parse_args().graph
    with exits_with_message():
        speed = float(storage.read_json("metrics/train.json", "train")["images_per_s"])
        wanted = trainings(graph)
        lock = Path(f"pipelines/{graph}/dvc.lock")
        done = read(lock)["stages"] if lock.exists() else {}
        left = {name: samples for name, samples in wanted.items() if name not in done}
        hours = sum(samples / speed + _BESIDE for samples in left.values()) / 3600
        print(
            f"{graph}: {len(left)} of {len(wanted)} stages are to be trained, {sum(left.values()):,} samples: about "
            f"{hours:.1f} hours at the default run's {speed:.0f} images per second"
        )


def trainings(graph: str) -> dict[str, int]:
    """Returns the samples that each stage of a graph trains on. The best rate's run is the row's first seed: it counts once.

    Raises:
        ParamsError: As `_samples`.
    """
    content: dict[str, Any] = read(Path(f"pipelines/{graph}/dvc.yaml"))
    rates = next((len(entry["rates"].split()) for entry in content["vars"] if "rates" in entry), 1)
    found: dict[str, int] = {}
    for group, stage in content["stages"].items():
        words = stage["do"]["cmd"].split() if "foreach" in stage else []
        given = [after for word, after in pairwise(words) if word == "--overlay"]
        for key, item in stage.get("foreach", {}).items():
            samples = _samples(*(overlay.replace("${item.row}", item["row"]) for overlay in given))
            runs = {"rate": rates, "row": int(item.get("seed") != 0)}.get(group, 1)
            found[f"{group}@{key}"] = runs * round(samples * item.get("samples_of", 1))
    return found


@cache
def _samples(*overlays: str) -> int:
    """Samples of the selected recipe.

    Raises:
        ParamsError: The budget is in passes.
    """
    samples = load_params("params.yaml", overlays).selected_recipe.samples
    if samples is None:
        raise ParamsError("recipe: a budget in passes; `python -m pipelines.train --dry-run` prints the plan of a run")
    return samples


if __name__ == "__main__":
    main()
