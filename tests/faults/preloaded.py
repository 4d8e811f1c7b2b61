"""What stages import, some of it only as they run, imported once by the process that forks them."""

import importlib
from pathlib import Path

import matplotlib.pyplot  # noqa: F401
import mlflow  # noqa: F401
import ray  # noqa: F401
import spacy  # noqa: F401
import submitit  # noqa: F401

for _path in sorted((Path(__file__).parents[2] / "pipelines").glob("*.py")):
    importlib.import_module(f"pipelines.{_path.stem}")
