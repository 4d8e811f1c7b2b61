"""Which model a stage scores and where its scores go: the trained model, or given weights, which have their own folders."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from caft import storage
from caft.eval.given import load_given, settings_of
from caft.eval.leaked import Leaked, read_leaked
from caft.model.protocols import RetrievalModel
from caft.params import Params
from caft.weights.placed import load_model, on_device

WEIGHTS = Path("metrics/external/weights.json")
GRAPH = "pipelines/score/dvc.yaml"  # its stages score given weights


@dataclass(frozen=True)
class Place:
    """A model to score, and the folders of its metrics files, of blend.csv and of its report."""

    metrics: Path
    plots: Path
    reports: Path
    number: int | None = None  # of the given weights in the setting `weights`; None for the trained model

    def model(self, params: Params) -> RetrievalModel:
        """Loads the model, onto the GPU if there is one and arithmetic is native.

        Raises:
            CheckpointError: The file is missing, damaged, or not the one that the stage `weights` read.
            DataError: The stage `weights` has not run.
        """
        if self.number is None:
            return load_model()
        expected = storage.read_json(WEIGHTS, GRAPH)
        described = [expected, *expected["more"]][self.number]
        return on_device(load_given(settings_of(params)[self.number], params, described))

    def leaked(self) -> Leaked:
        """Evaluation images that the model was trained on, by set; of given weights nothing is known.

        Raises:
            DataError: The stage `leakage` has not run.
        """
        return read_leaked() if self.number is None else {}


def place_of(arguments: argparse.Namespace) -> Place:
    """Returns the place that a stage's arguments ask for."""
    if getattr(arguments, "external", False):
        return Place(Path("metrics/external"), Path("metrics/external"), Path("reports/external"), 0)
    return Place(Path("metrics"), Path("plots"), Path("reports"))
