"""Which model a stage scores and where it writes: the trained one, or given weights, which have folders of their own."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch

from caft import storage
from caft.eval.given import load_given, settings_of
from caft.model.protocols import RetrievalModel
from caft.params import Params

WEIGHTS = Path("metrics/external/weights.json")


@dataclass(frozen=True)
class Place:
    """Where scores go.

    Attributes:
        metrics: Folder of the metrics files.
        plots: Folder of blend.csv.
        reports: Folder of the report.
        number: Of the given weights that are scored, in the order of the setting; None for the trained model.
    """

    metrics: Path
    plots: Path
    reports: Path
    number: int | None = None

    def given(self, params: Params) -> RetrievalModel | None:
        """The model of the given weights, on the GPU if there is one; None where the trained model is scored.

        Raises:
            CheckpointError: The file is missing, damaged, or not the one that the stage `weights` read.
            DataError: The stage `weights` has not run.
        """
        if self.number is None:
            return None
        expected = storage.read_json(WEIGHTS, "pipelines/score/dvc.yaml")
        described = [expected, *expected["more"]][self.number]
        model = load_given(settings_of(params)[self.number], params, described)
        model.network.to("cuda" if torch.cuda.is_available() else "cpu")
        return model


def place_of(arguments: argparse.Namespace) -> Place:
    """The place that a stage's arguments ask for."""
    if place := getattr(arguments, "place", None):  # of a stage that calls another's `main`
        return place
    if getattr(arguments, "external", False):
        return Place(Path("metrics/external"), Path("metrics/external"), Path("reports/external"), 0)
    return Place(Path("metrics"), Path("plots"), Path("reports"))
