"""The whole of params.yaml: what is selected, what is overridden, where training runs, and the tables."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr

from caft.params.arithmetic import Arithmetic
from caft.params.corpora import CorpusParams, FetchParams, ScenesCorpus
from caft.params.evaluation import EvaluationParams
from caft.params.file import flat, giver, gives
from caft.params.models import ModelParams, SuperpixelTraining
from caft.params.recipes import RecipeParams, TrainOverrides
from caft.params.section import Count, Positive, PositiveNumber, Section
from caft.params.sets import BenchmarkParams


class StorageParams(Section):
    """Where files outside DVC lie, how much memory queries hold before they use that disk, and the tracking server."""

    root: str
    memory_gb: Positive
    tracking_uri: str | None
    experiment: str


class DataParams(Section):
    """Which of the selected corpora's images are trained on, and how they are read."""

    fraction: Annotated[float, Field(gt=0, le=1)]
    shards_at_once: Positive | None
    damaged: Literal["stop", "replace"]
    repeated_images: Annotated[str, Field(pattern=r"^(keep|drop_above [1-9][0-9]*)$")]
    exclude_eval_duplicates: bool
    exclude_unsupported: str | None = None


# Slurm looks at time limits so often, and so much earlier than asked it may give notice.
LOOK_SECONDS = 30
# What a rank may take to be able to take a notice: Python, torch, the index, the other ranks.
START_SECONDS = 60


class SlurmParams(Section):
    """What a job asks of Slurm beyond its shape; null leaves it to the cluster."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    memory_gb: Positive | None = None
    sbatch: Annotated[tuple[str, ...], Field(strict=False)] = ()
    notice_seconds: Positive
    time_limits: Count
    deadline_hours: Positive


class LauncherParams(Section):
    """Where training runs."""

    executor: Literal["local", "slurm"]
    arithmetic: Arithmetic
    nodes: Positive
    tasks_per_node: Positive
    ranks_of_run: Positive | None = None
    gpus_per_node: Count
    cpus_per_task: Positive
    workers: Count
    text_tokens_at_once: Positive | None
    micro_batch: Positive | None = None
    recompute_stages: Annotated[tuple[Positive, ...], Field(strict=False)] = ()
    compile: bool = False
    time_minutes: Positive
    gpu_memory_gb: Positive | None = None
    images_per_s: PositiveNumber | None = None
    slurm: SlurmParams | None = None

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.nodes * self.tasks_per_node

    def problems(self) -> Iterator[tuple[str, Any, str]]:
        """Rules between the values: key, value and what is wrong."""
        if self.executor == "local" and self.nodes > 1:
            yield "nodes", self.nodes, "must be 1 where executor is local"
        if self.gpus_per_node not in (0, self.tasks_per_node):
            yield "gpus_per_node", self.gpus_per_node, f"must be 0 or one a task ({self.tasks_per_node})"
        if self.arithmetic == "portable":
            if self.gpus_per_node:
                yield "arithmetic", self.arithmetic, "must be native where there are GPUs"
            if self.compile:
                yield "compile", self.compile, "must be false where arithmetic is portable"
        if self.slurm is None:
            if self.executor == "slurm":
                yield "slurm", None, "must be given where executor is slurm"
            return
        if self.executor == "local":
            yield "slurm", "given", "only where executor is slurm"
        least = self.slurm.notice_seconds + LOOK_SECONDS + START_SECONDS
        if self.time_minutes * 60 < least:
            room = f"a notice {self.slurm.notice_seconds} seconds before the end (slurm.notice_seconds)"
            spent = f"{START_SECONDS} seconds of start, {LOOK_SECONDS} by which Slurm may be early"
            yield "time_minutes", self.time_minutes, f"must be at least {-(-least // 60)}, for {room}, {spent}"
        for line in self.slurm.sbatch:
            if not re.fullmatch(r"--[a-z][a-z-]*(=.+)?", line):
                yield "slurm.sbatch", line, "must be an option of sbatch, as --exclusive or --reservation=NAME"


class Params(Section):
    """The whole file; `selected_*` are what this run uses."""

    corpora: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    model: str
    recipe: str
    launch: str
    jobs: dict[str, str] = {}
    weights: str | Annotated[tuple[str, ...], Field(strict=False)] | None
    init: Annotated[str, Field(min_length=1)] | None = None
    seed: Count
    storage: StorageParams
    data: DataParams
    train: TrainOverrides
    fetch: FetchParams
    superpixels: SuperpixelTraining
    evaluation: EvaluationParams
    models: dict[str, ModelParams]
    recipes: dict[str, RecipeParams]
    corpus: dict[str, CorpusParams]
    launchers: dict[str, LauncherParams]
    benchmarks: dict[str, BenchmarkParams]

    # What the file and each overlay gave, for the origins that `effective` tells.
    _content: dict[str, Any] = PrivateAttr(default={})
    _overlays: tuple[tuple[str, dict[str, Any]], ...] = PrivateAttr(default=())

    @property
    def selected_model(self) -> ModelParams:
        """Sizes of the selected model."""
        return self.models[self.model]

    @property
    def selected_recipe(self) -> RecipeParams:
        """The selected recipe on the selected corpora, with the overrides of `train`."""
        given = self.train.model_dump(exclude_none=True)
        if "samples" in given:
            given["epochs"] = None
        return self.recipes[self.recipe].for_corpora(self.corpora).model_copy(update=given)

    @property
    def selected_launcher(self) -> LauncherParams:
        """The selected launcher."""
        return self.launchers[self.launch]

    @property
    def expected_images(self) -> dict[str, int]:
        """How many images to expect of each corpus that is not rendered here; of published ones, what the paper had."""
        entries = self.corpus.items()
        return {name: entry.expected_images for name, entry in entries if not isinstance(entry, ScenesCorpus)}

    def fetch_for(self, corpus: str) -> FetchParams:
        """Fetch settings of one corpus."""
        return self.fetch.model_copy(update=self.corpus[corpus].fetch.model_dump(exclude_none=True))

    def effective(self) -> dict[str, tuple[Any, str]]:
        """Value and origin of every setting that this run uses, by dotted key."""
        table: dict[str, tuple[Any, str]] = {}
        for key in ("corpora", "model", "recipe", "launch", "weights", "init", "seed"):
            table[key] = (getattr(self, key), self._origin(key, "selection"))
        for stage, name in self.jobs.items():
            table[f"jobs.{stage}"] = (name, self._origin(f"jobs.{stage}", "selection"))
        overridden = self.train.model_dump(exclude_none=True)
        recipe = f"recipes.{self.recipe}"
        corpora, per_corpora = self.recipes[self.recipe].given_for(self.corpora)
        for key, value in flat(self.selected_recipe.model_dump()):
            # A budget in samples takes the place of one in epochs.
            override = "samples" if key == "epochs" and "samples" in overridden else key
            if override in overridden:
                origin = self._origin(f"train.{override}", f"override train.{override}")
            else:
                place = f"{recipe}.per_corpora.{corpora}" if key in per_corpora else recipe
                origin = self._origin(f"{place}.{key}", place)
            table[f"train.{key}"] = (value, origin)
        for prefix, section, place in (
            ("model", self.selected_model, f"models.{self.model}"),
            ("launcher", self.selected_launcher, f"launchers.{self.launch}"),
            *((name, getattr(self, name), name) for name in ("superpixels", "data", "evaluation", "storage")),
        ):
            for key, value in flat(section.model_dump()):
                table[f"{prefix}.{key}"] = (value, self._origin(f"{place}.{key}", place))
        for corpus in self.corpora:
            replaced = self.corpus[corpus].fetch.model_dump(exclude_none=True)
            for key, value in flat(self.fetch_for(corpus).model_dump()):
                place = f"corpus.{corpus}.fetch" if key in replaced else "fetch"
                table[f"fetch.{corpus}.{key}"] = (value, self._origin(f"{place}.{key}", place))
        return table

    def _origin(self, key: str, place: str) -> str:
        """Names the place that gives a key's value, or that of the entry's base, and the overlay if one set it."""
        asked = tuple(key.split("."))
        location = giver(self._content, asked)
        if location != asked:
            place = ".".join(map(str, location[: len(place.split("."))]))
        setters = [name for name, content in self._overlays if gives(content, location)]
        return f"{place} ({setters[-1]})" if setters else place
