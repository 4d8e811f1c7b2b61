"""A model with its scores, and which row of the paper it may fill: by how it is built and what it was trained on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from caft import storage
from caft.eval.given import SIZES, card_of, settings_of
from caft.eval.place import GRAPH, Place
from caft.eval.scores.metrics import run_of
from caft.model.card import ModelCard
from caft.params import Params
from caft.params.models import ModelParams
from caft.train.tracking.origin import changes, commit
from caft.train.tracking.runs import Run

_SCORES = ("retrieval", "grounding", "regions")
# What makes a model one of the paper's; how it is built beyond these is its method.
_SIZES = ("image_size", "width", "heads", "embed_dim")


@dataclass(frozen=True)
class PaperModel:
    """A model with its scores."""

    name: str  # of its weights
    method: str | None  # caft, flair, open_clip or a row of the ablation; None for a model that is not in the paper
    size: str | None  # of its training data; None if it is not one of the paper's, or unknown
    reason: str | None  # why it fills no cell of the paper; None if it may
    retrained: bool  # by this project, so with another random seed and perhaps on fewer images than the paper's
    images: int | None  # that it was trained on; None where nothing says it
    retrieval: Mapping[str, Any]  # entries of metrics/retrieval.json, and of the files below, by set
    grounding: Mapping[str, Any]
    regions: Mapping[str, Any]
    training: Mapping[str, float] = field(default_factory=dict)  # columns of Table 5
    settings: Mapping[str, Any] = field(default_factory=dict)  # columns of Table 7
    tags: Mapping[str, str | None] = field(default_factory=dict)  # fingerprint, recipe, code and MLflow run
    deviations: Mapping[str, float] = field(default_factory=dict)  # over seeds, by the score's name in MLflow


def of_model(
    card: Mapping[str, Any],
    params: Params,
    metrics: Mapping[str, Mapping[str, Any]],
    tags: Mapping[str, str | None],
    deviations: Mapping[str, float],
) -> PaperModel:
    """A model as its card (that of given weights has name, kind and size) and its metrics files, by name, tell it."""
    retrained = bool(card.get("recipe"))
    corpora = {corpus["name"]: corpus["count"] for corpus in card.get("data", [])}
    size = SIZES.get(tuple(sorted(corpora))) or card.get("size")
    images = sum(corpora.values()) or None
    return PaperModel(
        name=str(card.get("name", card.get("fingerprint", ""))),
        method=_method(card),
        size=size,
        reason=_reason(card, params.models.get("base"), size, corpora),
        retrained=retrained,
        images=images,
        retrieval=metrics.get("retrieval", {}),
        grounding=metrics.get("grounding", {}),
        regions=_by_set(metrics.get("regions", {}), params),
        training=_training(metrics.get("train", {}), images, params) if retrained else {},
        settings=_settings(card) if retrained else {},
        tags={"fingerprint": str(card.get("fingerprint", "")), **tags},
        deviations=deviations,
    )


def of_page(params: Params, card: ModelCard, metrics: Mapping[str, Mapping[str, Any]], tracked: Run) -> PaperModel:
    """Returns the model of a report's page, its cells tagged with the tracked run.

    Raises:
        TrackingError: The tracker cannot be reached.
    """
    own = card.recipe
    recipe = params.recipe if own in (None, params.selected_recipe.model_dump(mode="json")) else "another"
    tags = {"commit": commit(), "changes": changes(), "mlflow_run": tracked.run_id, "recipe": recipe}
    deviations = {key: value for name in _SCORES for key, value in tracked.deviations(name).items()}
    return of_model(card.record(), params, metrics, tags, deviations)


def of_given_sizes(params: Params, place: Place) -> Iterator[PaperModel]:
    """Yields the given weights beyond the first, of which retrieval alone was scored; none of the trained model's place.

    Raises:
        DataError: The stage `sizes` has not run.
        TrackingError: The tracker cannot be reached.
    """
    if place.number is None:
        return
    entries = storage.read_json(place.metrics / "sizes.json", GRAPH)
    for setting, entry in list(zip(settings_of(params), entries, strict=True))[1:]:
        card = card_of(setting, entry["weights"], params)
        tracked = run_of(params, card)
        yield of_page(params, card, {"retrieval": entry["retrieval"]}, tracked)
        tracked.finish()


def _method(card: Mapping[str, Any]) -> str | None:
    """Which row of Table 3 a model is, by how it is built; the names are those of pipelines/ablation."""
    if card.get("kind") == "open_clip":
        return "open_clip"
    model = card["model"]
    flat_image, flat_text = model.get("patch") is not None, model["text"].get("whole_layers") is None
    if card.get("recipe", {}).get("loss", {}).get("form") == "softmax" or (flat_image and not flat_text):
        return None
    if model.get("grounding") is None:
        return None if flat_image or flat_text else "no_part"
    if flat_text:
        return "flair" if flat_image else "visual_hierarchy"
    return "textual_hierarchy" if model.get("levels") == "shared" else "caft"


def _reason(
    card: Mapping[str, Any], base: ModelParams | None, size: str | None, corpora: Mapping[str, int]
) -> str | None:
    """Why a model fills no cell of the paper."""
    if card.get("kind") == "open_clip":
        return None
    if corpora and size is None:
        return f"the model was trained on {' + '.join(corpora)}, which is none of the paper's corpora"
    if size is None:
        return (
            f"nothing says what {card.get('name', 'the model')} was trained on; put it in front of the path, as in "
            "weights=30M:/path/x.pt"
        )
    model = card["model"]
    if base is None or any(model.get(key) != getattr(base, key) for key in _SIZES):
        return "the model is not of the paper's size, models.base"
    if recipe := card.get("recipe"):
        if (recipe["batch"], recipe["epochs"]) != (2048, 32):
            budget = f"{recipe['epochs']} epochs" if recipe["epochs"] else f"{recipe['samples']:,} samples"
            return (
                f"the model was trained with batch {recipe['batch']:,} for {budget}; the paper has 2,048 and 32 epochs"
            )
    return None


def _by_set(regions: Mapping[str, Any], params: Params) -> dict[str, Any]:
    """Regions' file has the first set of the settings flat, and others by name."""
    names = [name for name, benchmark in params.benchmarks.items() if benchmark.kind == "regions"]
    nested = {name: regions[name] for name in names if isinstance(regions.get(name), Mapping)}
    flat = {key: value for key, value in regions.items() if key not in nested}
    return {**({names[0]: flat} if names and flat else {}), **nested}


def _training(train: Mapping[str, Any], images: int | None, params: Params) -> dict[str, float]:
    """Table 5: hours are samples over `images_per_s`, whose time is that of the steps; stops are said beside it."""
    found: dict[str, float] = {"images_millions": images / 1e6} if images else {}
    if train.get("images_per_s"):
        hours = train["samples"] / train["images_per_s"] / 3600
        found["wall_hours"] = hours
        if gpus := params.selected_launcher.nodes * params.selected_launcher.gpus_per_node:
            found |= {"gpu_hours": hours * gpus, "gpu_days": hours * gpus / 24}
    return found


def _settings(card: Mapping[str, Any]) -> dict[str, Any]:
    """Table 7; optimizer and schedule are the only ones that this project has."""
    recipe = card["recipe"]
    own = {key: recipe[key] for key in ("batch", "weight_decay", "epochs", "warmup_steps")}
    return {**own, "optimizer": "AdamW", "schedule": "cosine decay"}
