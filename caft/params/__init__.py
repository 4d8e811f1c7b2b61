"""The settings of params.yaml: typed, resolved, and validated all at once before any work."""

from caft.params.corpora import (
    CorpusParams,
    CustomCorpus,
    Faults,
    FetchOverrides,
    FetchParams,
    RecaptionCorpus,
    ScenesCorpus,
)
from caft.params.evaluation import BoxMode, EvaluationParams, Membership
from caft.params.file import flat
from caft.params.launchers import LauncherParams, SlurmParams
from caft.params.load import load_params
from caft.params.models import GroundingParams, ModelParams, StemSizes, SuperpixelSizes, SuperpixelTraining, TextSizes
from caft.params.recipes import CorporaOverrides, LossParams, RecipeParams, TrainOverrides
from caft.params.sets import BenchmarkParams
from caft.params.settings import DataParams, Params, StorageParams

__all__ = [
    "CorpusParams",
    "CustomCorpus",
    "Faults",
    "FetchOverrides",
    "FetchParams",
    "RecaptionCorpus",
    "ScenesCorpus",
    "BoxMode",
    "EvaluationParams",
    "Membership",
    "flat",
    "LauncherParams",
    "SlurmParams",
    "GroundingParams",
    "ModelParams",
    "StemSizes",
    "SuperpixelSizes",
    "SuperpixelTraining",
    "TextSizes",
    "CorporaOverrides",
    "LossParams",
    "RecipeParams",
    "TrainOverrides",
    "BenchmarkParams",
    "DataParams",
    "Params",
    "StorageParams",
    "load_params",
]
