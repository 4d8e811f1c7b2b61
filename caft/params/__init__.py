"""The settings of params.yaml: typed, resolved, and validated all at once before any work."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, ValidationError

from caft.params import file, problems, rules
from caft.params.sets import BenchmarkParams
from caft.params.tables import (
    BoxMode,
    CorporaOverrides,
    CorpusParams,
    Count,
    CustomCorpus,
    DataParams,
    EvaluationParams,
    Faults,
    FetchOverrides,
    FetchParams,
    GroundingParams,
    LauncherParams,
    LossParams,
    Membership,
    ModelParams,
    RecaptionCorpus,
    RecipeParams,
    ScenesCorpus,
    Section,
    SlurmParams,
    StemSizes,
    StorageParams,
    SuperpixelSizes,
    SuperpixelTraining,
    TextSizes,
    TrainOverrides,
)

__all__ = [
    "BenchmarkParams",
    "BoxMode",
    "CorporaOverrides",
    "CorpusParams",
    "CustomCorpus",
    "DataParams",
    "EvaluationParams",
    "Faults",
    "FetchOverrides",
    "FetchParams",
    "GroundingParams",
    "LauncherParams",
    "LossParams",
    "Membership",
    "ModelParams",
    "Params",
    "RecaptionCorpus",
    "RecipeParams",
    "ScenesCorpus",
    "SlurmParams",
    "StemSizes",
    "StorageParams",
    "SuperpixelSizes",
    "SuperpixelTraining",
    "TextSizes",
    "TrainOverrides",
    "flat",
    "load_params",
]

logger = logging.getLogger(__name__)


class Params(Section):
    """The whole file; `selected_*` are what this run uses."""

    corpora: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    model: str
    recipe: str
    launch: str
    jobs: dict[str, str] = {}
    weights: str | Annotated[tuple[str, ...], Field(strict=False)] | None
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

    # Overlay files with what each sets; only the origins printed by `effective` need them.
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
        """Images that the paper had, or that the user expects, of each corpus that is not rendered here."""
        entries = self.corpus.items()
        return {name: entry.paper_images for name, entry in entries if not isinstance(entry, ScenesCorpus)}

    def fetch_for(self, corpus: str) -> FetchParams:
        """Fetch settings of one corpus."""
        return self.fetch.model_copy(update=self.corpus[corpus].fetch.model_dump(exclude_none=True))

    def effective(self) -> dict[str, tuple[Any, str]]:
        """Value and origin of every setting that this run uses, by dotted key."""
        table: dict[str, tuple[Any, str]] = {}
        for key in ("corpora", "model", "recipe", "launch", "weights", "seed"):
            table[key] = (getattr(self, key), self._origin("selection", key))
        for stage, name in self.jobs.items():
            table[f"jobs.{stage}"] = (name, self._origin("selection", f"jobs.{stage}"))
        overridden = self.train.model_dump(exclude_none=True)
        entry = f"recipes.{self.recipe}"
        corpora, per_corpora = self.recipes[self.recipe].given_for(self.corpora)
        for key, value in flat(self.selected_recipe.model_dump()):
            if key in overridden:
                origin = self._origin(f"override train.{key}", f"train.{key}")
            elif key == "epochs" and "samples" in overridden:
                origin = self._origin("override train.samples", "train.samples")
            else:
                place = f"{entry}.per_corpora.{corpora}" if key in per_corpora else entry
                origin = self._origin(place, f"{place}.{key}")
            table[f"train.{key}"] = (value, origin)
        for prefix, section, place in (
            ("model", self.selected_model, f"models.{self.model}"),
            ("launcher", self.selected_launcher, f"launchers.{self.launch}"),
            ("superpixels", self.superpixels, "superpixels"),
            ("data", self.data, "data"),
            ("evaluation", self.evaluation, "evaluation"),
            ("storage", self.storage, "storage"),
        ):
            for key, value in flat(section.model_dump()):
                table[f"{prefix}.{key}"] = (value, self._origin(place, f"{place}.{key}"))
        for corpus in self.corpora:
            replaced = self.corpus[corpus].fetch.model_dump(exclude_none=True)
            for key, value in flat(self.fetch_for(corpus).model_dump()):
                place = f"corpus.{corpus}.fetch" if key in replaced else "fetch"
                table[f"fetch.{corpus}.{key}"] = (value, self._origin(place, f"{place}.{key}"))
        return table

    def _origin(self, place: str, key: str) -> str:
        """Names the place in the file, and the overlay if one set the value."""
        setters = [name for name, content in self._overlays if file.gives(content, tuple(key.split(".")))]
        return f"{place} ({setters[-1]})" if setters else place


def load_params(
    path: Path | str = "params.yaml", overlays: Sequence[Path | str] = (), values: Sequence[str] = ()
) -> Params:
    """Reads and validates the settings.

    Args:
        path: The file.
        overlays: Files merged over it one after the other, key by key.
        values: Single values set after these, as `train.batch=96`.

    Returns:
        The settings, selection and overrides resolved.

    Raises:
        ParamsError: Lists every problem with file, key, value, reason and the nearest valid name or value.
    """
    content = file.read(Path(path))
    over = (
        *((str(overlay), file.read(Path(overlay))) for overlay in overlays),
        *((f"--set {value}", file.assigned(value)) for value in values),
    )
    for _, overlay in over:
        content = file.merge(content, overlay)
    try:
        params, found = Params.model_validate(content), []
    except ValidationError as error:
        params, found = problems.valid_parts(Params, content, error), problems.explain(Params, content, error)
    found += rules.between_parts(params, content)
    if found:
        raise problems.report(str(path), over, content, found)
    params._overlays = over
    _warn(params)
    return params


def _warn(params: Params) -> None:
    """Logs what is allowed and rarely meant."""
    recipe = params.selected_recipe
    if recipe.samples is not None:
        recipe.warn_of_long_warmup(recipe.samples // recipe.batch)
    if recipe.precision != "float32" and params.selected_launcher.gpus_per_node == 0:
        logger.warning(
            "recipes.%s.precision = %s: launchers.%s has no GPU, so float32 is used",
            params.recipe,
            recipe.precision,
            params.launch,
        )


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted keys and values of nested tables, in their order."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
