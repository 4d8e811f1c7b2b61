"""One training of the ablation or of a curve over the training images: its budget, and what was trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caft.data.training.index import read_summary
from caft.eval.analysis.seeds import read_rows
from caft.params import Params

INDEX = Path("data/index")


def images_and_fraction(params: Params) -> tuple[int, int]:
    """Returns the training images of the whole index, and how many of them this run is given."""
    everything = sum(corpus["count"] for corpus in read_summary(INDEX)["corpora"])
    training = everything - min(params.selected_recipe.validation_images, everything // 4)
    return training, max(1, round(params.data.fraction * training))


def budget(params: Params, of: float) -> int:
    """Returns the samples that a fraction of the images gets, with as many passes over it as the recipe has over all."""
    recipe = params.selected_recipe
    everything, _ = images_and_fraction(params)
    whole = recipe.samples if recipe.samples is not None else recipe.steps(everything) * recipe.batch
    return round(whole * max(1, round(of * everything)) / everything)


def description(params: Params, folder: Path) -> dict[str, Any]:
    """Returns what was trained, and the last scores on held-out training images; `folder` is the run's."""
    last: Mapping[str, Any] = {key: value for row in read_rows(folder / "metrics.jsonl") for key, value in row.items()}
    return {
        "fingerprint": folder.name,
        "corpora": list(params.corpora),
        "seed": params.seed,
        "learning_rate": params.selected_recipe.learning_rate,
        "fraction": params.data.fraction,
        "images": images_and_fraction(params)[1],
        "samples": last["samples"],
        "validation": {
            key.removeprefix("validation_"): round(value, 2)
            for key, value in last.items()
            if key.startswith("validation_")
        },
    }
