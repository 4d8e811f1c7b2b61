"""A job whose rank writes down which files of this project it has imported, once it has what a training imports."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Files:
    """Takes a notice, as a training does."""

    target: Path

    def __call__(self, notice: object) -> None:
        import caft.train.job  # noqa: F401  (what unpickling a training imports)

        found = {Path(module.__file__) for module in list(sys.modules.values()) if getattr(module, "__file__", None)}
        ours = {path.relative_to(PROJECT) for path in found if path.is_relative_to(PROJECT)}
        names = sorted(str(path) for path in ours if path.parts[0] in ("caft", "slurm", "pipelines"))
        self.target.write_text(json.dumps(names))
