"""The settings of params.yaml: typed, resolved, and validated all at once before any work.

The file has a selection, overrides and tables; each model below is one entry of a table or one part of the file.
"""

import copy
import difflib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from caft.errors import ParamsError

logger = logging.getLogger(__name__)

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
PositiveNumber = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
SplitterName = Literal["dreamlip", "spacy"]


class _Model(BaseModel):
    # Lax tuples are allowed field by field below, since YAML has only lists.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class StorageParams(_Model):
    """Where files outside DVC lie, and which tracking server is used."""

    root: str
    tracking_uri: str | None
    experiment: str


class TrainOverrides(_Model):
    """Values that replace the selected recipe's; null keeps it."""

    batch: Positive | None = None
    samples: Positive | None = None
    learning_rate: PositiveNumber | None = None
    weight_decay: Number | None = None
    warmup_steps: Count | None = None
    clip_norm: PositiveNumber | None = None
    negatives: Literal["sampled", "all"] | None = None
    splitter: SplitterName | None = None
    sub_captions: Positive | None = None
    validate_every: Positive | None = None
    checkpoint_every: Positive | None = None


class FetchParams(_Model):
    """How img2dataset is called."""

    processes: Positive
    threads: Positive
    timeout: Positive
    retries: Count
    images_per_shard: Positive
    image_size: Positive
    quality: Annotated[int, Field(ge=1, le=100)]
    minimum_yield: Share


class FetchOverrides(_Model):
    """Values of `fetch` that one corpus replaces."""

    processes: Positive | None = None
    threads: Positive | None = None
    timeout: Positive | None = None
    retries: Count | None = None
    images_per_shard: Positive | None = None
    image_size: Positive | None = None
    quality: Annotated[int, Field(ge=1, le=100)] | None = None
    minimum_yield: Share | None = None


class SuperpixelTraining(_Model):
    """Label-free training of SFCN, or the file to import instead."""

    checkpoint: str | None
    steps: Positive
    batch: Positive
    learning_rate: PositiveNumber
    position_weight: Number


class EvaluationParams(_Model):
    """How scores are formed."""

    blend: Annotated[tuple[Share, ...], Field(strict=False, min_length=1)]
    blend_space: Literal["logit", "cosine"]
    batch: Positive


class SuperpixelSizes(_Model):
    """Cell side in pixels, and SFCN's channels at each level."""

    cell: Positive
    widths: Annotated[tuple[Positive, ...], Field(strict=False, min_length=2)]


class StemSizes(_Model):
    """3 x 3 convolutions of the stem."""

    channels: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]
    strides: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]


class TextSizes(_Model):
    """The two text transformers."""

    width: Positive
    heads: Positive
    sub_layers: Positive
    whole_layers: Positive
    context: Annotated[int, Field(ge=3)]
    vocabulary: Positive
    adapter: Positive


class GroundingParams(_Model):
    """The text-conditioned pooling."""

    heads: Positive
    start: Literal["default", "identity"]


class ModelParams(_Model):
    """Sizes of a model."""

    image_size: Positive
    superpixels: SuperpixelSizes
    stem: StemSizes
    width: Positive
    heads: Positive
    mlp_ratio: Positive
    tokens: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]
    blocks: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]
    part_stage: Positive
    pool_dropout: Share
    embed_dim: Positive
    text: TextSizes
    grounding: GroundingParams

    def problems(self) -> Iterator[tuple[str, Any, str]]:
        """Rules between the sizes: key, value and what is wrong."""
        cell, stride = self.superpixels.cell, 1
        for value in self.stem.strides:
            stride *= value
        if len(self.stem.channels) != len(self.stem.strides):
            yield "stem.strides", list(self.stem.strides), f"needs one for each of {len(self.stem.channels)} channels"
        halvings = 2 ** (len(self.superpixels.widths) - 1)
        for name, step in (
            ("superpixels.cell", cell),
            ("the stem's stride", stride),
            ("SFCN's total stride", halvings),
        ):
            if self.image_size % step:
                lower = max(step, self.image_size // step * step)
                yield "image_size", self.image_size, f"must be a multiple of {name} ({step}); nearest is {lower}"
        if (self.image_size // cell) ** 2 != self.tokens[0]:
            found = (self.image_size // cell) ** 2
            yield "tokens", list(self.tokens), f"must start with the superpixels of an image, {found}"
        if any(a <= b for a, b in zip(self.tokens, self.tokens[1:], strict=False)):
            yield "tokens", list(self.tokens), "must fall from stage to stage"
        if len(self.blocks) != len(self.tokens):
            yield "blocks", list(self.blocks), f"needs one for each of the {len(self.tokens)} stages"
        if self.part_stage > len(self.tokens):
            yield "part_stage", self.part_stage, f"must be between 1 and the {len(self.tokens)} stages"
        for key, width, heads in (
            ("heads", self.width, self.heads),
            ("text.heads", self.text.width, self.text.heads),
            ("grounding.heads", self.embed_dim, self.grounding.heads),
        ):
            if width % heads:
                yield key, heads, f"must divide the width {width}"
        if self.width % 4:
            yield "width", self.width, "must be a multiple of 4, for the position encodings"


class LossWeights(_Model):
    """Weight of each term; zero leaves it out."""

    part: Number
    part_cls: Number
    whole: Number


class RecipeParams(_Model):
    """How a model is trained."""

    batch: Positive
    epochs: Positive | None
    samples: Positive | None
    learning_rate: PositiveNumber
    betas: Annotated[tuple[Share, Share], Field(strict=False)]
    eps: PositiveNumber
    weight_decay: Number
    warmup_steps: Count
    clip_norm: PositiveNumber | None
    precision: Literal["float32", "bf16", "fp16"]
    loss: LossWeights
    negatives: Literal["sampled", "all"]
    scale_start: PositiveNumber
    bias_start: float
    part_scale_max: PositiveNumber
    whole_scale_max: PositiveNumber
    splitter: SplitterName
    sub_captions: Positive
    chunks: Positive
    max_sentences: Positive
    balanced_rule: Literal["paper", "release"]
    crop_scale: Annotated[tuple[Share, Share], Field(strict=False)] | None
    validation_images: Annotated[int, Field(ge=2)]
    validate_every: Positive
    checkpoint_every: Positive

    def problems(self) -> Iterator[tuple[str, Any, str]]:
        """Rules between the values: key, value and what is wrong."""
        if (self.epochs is None) == (self.samples is None):
            yield "samples", self.samples, "exactly one of epochs and samples must be given"
        if self.chunks > self.sub_captions:
            yield "chunks", self.chunks, f"must be at most sub_captions ({self.sub_captions})"
        if not (self.loss.part or self.loss.part_cls or self.loss.whole):
            yield "loss", "all zero", "at least one term needs a weight"

    def steps(self, images: int) -> int:
        """Steps of the optimizer on a corpus of `images` images; the last partial batch is left out.

        Raises:
            ParamsError: The budget holds no batch.
        """
        samples = self.samples if self.samples is not None else (self.epochs or 0) * images
        steps = samples // self.batch
        if not steps:
            raise ParamsError(
                f"train.batch = {self.batch}: the budget of {samples} samples holds no batch; "
                f"largest batch is {samples}"
            )
        if self.warmup_steps > steps / 3:
            logger.warning(
                "train.batch = %d leaves %d steps of the budget of %d samples, and warm-up takes %d of them: "
                "more than a third; lower train.warmup_steps or raise train.samples",
                self.batch,
                steps,
                samples,
                min(steps, self.warmup_steps),
            )
        return steps


class Faults(_Model):
    """How many rows of the rendered corpus go wrong on purpose, by kind."""

    missing: Count
    server_error: Count
    stalled: Count
    corrupt: Count
    opt_out: Count
    duplicate: Count


class RecaptionCorpus(_Model):
    """A corpus that is a CSV in DreamLIP's columns."""

    kind: Literal["recaption"]
    csv: str
    paper_images: Positive
    licence: str
    fetch: FetchOverrides = FetchOverrides()


class ScenesCorpus(_Model):
    """The corpus that is rendered here."""

    kind: Literal["scenes"]
    images: Annotated[int, Field(ge=8)]
    image_size: Positive
    evaluation_images: Annotated[int, Field(ge=4, multiple_of=4)]
    regions: Positive
    seed: Count
    evaluation_seed: Count
    port: Annotated[int, Field(ge=1024, le=65535)]
    faults: Faults
    licence: str
    fetch: FetchOverrides = FetchOverrides()


CorpusParams = Annotated[RecaptionCorpus | ScenesCorpus, Field(discriminator="kind")]


class LauncherParams(_Model):
    """Where training runs."""

    executor: Literal["local", "slurm"]
    nodes: Positive
    tasks_per_node: Positive
    gpus_per_node: Count
    cpus_per_task: Positive
    workers: Count
    time_minutes: Positive

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.nodes * self.tasks_per_node


class BenchmarkParams(_Model):
    """One evaluation set."""

    kind: Literal["retrieval", "referring", "regions"]
    layout: Literal["urban1k", "docci", "refer", "fg_ovd"]
    path: str
    pairs: Positive | None = None
    name: str | None = None
    split: str | None = None
    split_by: str | None = None


class Params(_Model):
    """The whole file; `selected_*` are what this run uses."""

    corpora: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    model: str
    recipe: str
    launch: str
    weights: str | None
    seed: Count
    storage: StorageParams
    train: TrainOverrides
    fetch: FetchParams
    superpixels: SuperpixelTraining
    evaluation: EvaluationParams
    models: dict[str, ModelParams]
    recipes: dict[str, RecipeParams]
    corpus: dict[str, CorpusParams]
    launchers: dict[str, LauncherParams]
    benchmarks: dict[str, BenchmarkParams]

    @property
    def selected_model(self) -> ModelParams:
        """Sizes of the selected model."""
        return self.models[self.model]

    @property
    def selected_recipe(self) -> RecipeParams:
        """The selected recipe with the overrides of `train`."""
        given = self.train.model_dump(exclude_none=True)
        if "samples" in given:
            given["epochs"] = None
        return self.recipes[self.recipe].model_copy(update=given)

    @property
    def selected_launcher(self) -> LauncherParams:
        """The selected launcher."""
        return self.launchers[self.launch]

    def fetch_for(self, corpus: str) -> FetchParams:
        """Fetch settings of one corpus."""
        return self.fetch.model_copy(update=self.corpus[corpus].fetch.model_dump(exclude_none=True))

    def effective(self) -> dict[str, tuple[Any, str]]:
        """Value and origin of every setting that this run uses, by dotted key."""
        table: dict[str, tuple[Any, str]] = {}
        for key in ("corpora", "model", "recipe", "launch", "weights", "seed"):
            table[key] = (getattr(self, key), "selection")
        overridden = self.train.model_dump(exclude_none=True)
        for key, value in _flat(self.selected_recipe.model_dump()):
            origin = f"override train.{key}" if key in overridden else f"recipes.{self.recipe}"
            table[f"train.{key}"] = (value, origin)
        for prefix, model, origin in (
            ("model", self.selected_model, f"models.{self.model}"),
            ("launcher", self.selected_launcher, f"launchers.{self.launch}"),
            ("superpixels", self.superpixels, "superpixels"),
            ("evaluation", self.evaluation, "evaluation"),
            ("storage", self.storage, "storage"),
        ):
            for key, value in _flat(model.model_dump()):
                table[f"{prefix}.{key}"] = (value, origin)
        for corpus in self.corpora:
            replaced = self.corpus[corpus].fetch.model_dump(exclude_none=True)
            for key, value in _flat(self.fetch_for(corpus).model_dump()):
                table[f"fetch.{corpus}.{key}"] = (value, f"corpus.{corpus}.fetch" if key in replaced else "fetch")
        return table


def load_params(path: Path | str = "params.yaml", overlays: Sequence[Path | str] = ()) -> Params:
    """Reads and validates the settings.

    Args:
        path: The file.
        overlays: Files merged over it one after the other, key by key.

    Returns:
        The settings, selection and overrides resolved.

    Raises:
        ParamsError: Lists every problem with file, key, value, reason and the nearest valid name or value.
    """
    content = _read(Path(path))
    origin = str(path)
    for overlay in overlays:
        content = _merge(content, _read(Path(overlay)))
        origin += f" with {overlay}"
    lines: list[str] = []
    params = None
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        problems = [dict(problem) for problem in error.errors()]
        lines = [_explain(problem, content) for problem in problems]
        if all(problem["type"] == "extra_forbidden" for problem in problems):
            # Unknown keys do not hide what else is wrong.
            params = Params.model_validate(_without(content, [problem["loc"] for problem in problems]))
    if params is not None:
        lines += [f"{key} = {value}: {reason}" for key, value, reason in _rules(params)]
    if lines:
        raise _report(origin, lines)
    assert params is not None
    return params


def _rules(params: Params) -> Iterator[tuple[str, Any, str]]:
    """Rules between parts of the file."""
    known = True
    for key, table in (("model", params.models), ("recipe", params.recipes), ("launch", params.launchers)):
        name = getattr(params, key)
        if name not in table:
            known = False
            yield key, name, "unknown name" + _nearest(name, table)
    for name in params.corpora:
        if name not in params.corpus:
            yield "corpora", name, "unknown corpus" + _nearest(name, params.corpus)
    if len(set(params.corpora)) < len(params.corpora):
        yield "corpora", list(params.corpora), "names a corpus twice"
    for name, model in params.models.items():
        for key, value, reason in model.problems():
            yield f"models.{name}.{key}", value, reason
    for name, recipe in params.recipes.items():
        for key, value, reason in recipe.problems():
            yield f"recipes.{name}.{key}", value, reason
    if not known:
        return
    ranks, recipe = params.selected_launcher.world_size, params.selected_recipe
    if recipe.batch % ranks:
        lower = recipe.batch // ranks * ranks
        nearest = f"nearest are {lower} and {lower + ranks}" if lower else f"nearest is {ranks}"
        yield "train.batch", recipe.batch, f"must be a multiple of the world size ({ranks}); {nearest}"
    if params.train.sub_captions is not None and recipe.chunks > recipe.sub_captions:
        yield "train.sub_captions", recipe.sub_captions, f"must be at least the chunks ({recipe.chunks})"


def _explain(problem: dict[str, Any], content: dict[str, Any]) -> str:
    """One line for one of pydantic's problems."""
    # A discriminated union puts its tag into the location; it is no key of the file.
    location = [part for part in problem["loc"] if part not in ("recaption", "scenes") or len(problem["loc"]) == 2]
    key = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        parent: Any = content
        for part in location[:-1]:
            parent = parent[part]
        siblings = _known_keys(location[:-1], content)
        return f"{key}: unknown key" + _nearest(str(location[-1]), siblings, ".".join(map(str, location[:-1])))
    if problem["type"] == "missing":
        return f"{key}: missing"
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{key} = {problem['input']}: {message}"


def _known_keys(location: list[Any], content: dict[str, Any]) -> list[str]:
    """Names that may stand at a place of the file."""
    model: Any = Params
    for part in location:
        if isinstance(model, type) and issubclass(model, BaseModel):
            annotation = model.model_fields[part].annotation if part in model.model_fields else None
            model = {
                "models": ModelParams,
                "recipes": RecipeParams,
                "launchers": LauncherParams,
                "benchmarks": BenchmarkParams,
                "corpus": ScenesCorpus,
            }.get(part, annotation) if model is Params else annotation
            table = model
        else:
            model = table
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _nearest(name: str, known: Any, prefix: str = "") -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    if close:
        return f"; did you mean {prefix + '.' if prefix else ''}{close[0]}?"
    return f"; known are {', '.join(known)}" if known else ""


def _report(origin: str, lines: list[str]) -> ParamsError:
    count = f"{len(lines)} problem{'s' if len(lines) > 1 else ''}"
    return ParamsError("\n".join([f"{origin}: {count}", *(f"  {line}" for line in lines)]))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except FileNotFoundError:
        raise ParamsError(f"{path}: not found; run from the project's folder, or give --params") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: is no valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ParamsError(f"{path}: expected keys and values, found {type(content).__name__}")
    return content


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key given twice, which YAML's loader would let win silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merge(base[key], value) if both else value
    return merged


def _without(content: dict[str, Any], locations: list[tuple[Any, ...]]) -> dict[str, Any]:
    stripped = copy.deepcopy(content)
    for location in locations:
        parent: Any = stripped
        for part in location[:-1]:
            # The tag of a corpus entry's kind stands in the location, not in the file.
            parent = parent.get(part, parent) if isinstance(parent, dict) else parent[part]
        parent.pop(location[-1], None)
    return stripped


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
