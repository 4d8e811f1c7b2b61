"""Rules between the parts of the settings: each yields the keys whose values do not go together."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from caft.params.problems import Problem, show

if TYPE_CHECKING:
    from caft.params import Params

# Those that do their work where they run; train is where `launch` says.
_STAGES = (
    *("source", "fetch", "captions", "sentences", "select", "index", "leakage", "superpixels"),
    *("evaluate_retrieval", "evaluate_grounding", "evaluate_regions", "report"),
)
_TABLES = {"model": "models", "recipe": "recipes", "launch": "launchers"}


def between_parts(params: Params, content: dict[str, Any]) -> list[Problem]:
    """Returns what rules between values find, in the parts that are valid by themselves."""
    rules = [_names, _entries, _per_corpora, _batch, _budget, _overridden_chunks, _levels, _micro_batch, _jobs]
    return [
        Problem(tuple(key.split(".")), f"{key} = {show(value)}: {reason}")
        for rule in rules
        for key, value, reason in rule(params, content)
    ]


def _names(params: Params, content: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    for key, table in _TABLES.items():
        name, known = getattr(params, key, None), content.get(table)
        if name is not None and isinstance(known, dict) and name not in known:
            yield key, name, f"no such key in {table}" + nearest(name, known)
    corpora, known = getattr(params, "corpora", ()), content.get("corpus")
    for name in corpora:
        if isinstance(known, dict) and name not in known:
            yield "corpora", name, "no such key in corpus" + nearest(name, known)
    for name in sorted({name for name in corpora if corpora.count(name) > 1}):
        yield "corpora", corpora, f"names {name} twice"


def _entries(params: Params, content: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    tables: dict[str, Mapping[str, Any]] = {
        "models": params.models,
        "recipes": params.recipes,
        "launchers": params.launchers,
        "benchmarks": getattr(params, "benchmarks", {}),
    }
    for table, entries in tables.items():
        for name, entry in entries.items():
            for key, value, reason in entry.problems():
                yield f"{table}.{name}.{key}", value, reason


def _per_corpora(params: Params, content: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    known = content.get("corpus")
    for recipe, entry in params.recipes.items():
        seen: dict[frozenset[str], str] = {}
        for key in entry.per_corpora:
            place, names = f"recipes.{recipe}.per_corpora", key.split("+")
            for name in names:
                if isinstance(known, dict) and name not in known:
                    yield place, key, f"{name} is no key in corpus" + nearest(name, known)
            if len(set(names)) < len(names):
                yield place, key, "names a corpus twice"
            if (other := seen.setdefault(frozenset(names), key)) != key:
                yield place, key, f"names the same corpora as {other}"


def _batch(params: Params, content: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    if _resolves(params, "recipe") and _resolves(params, "launch"):
        batch, ranks = params.selected_recipe.batch, params.selected_launcher.world_size
        if batch % ranks:
            lower = batch // ranks * ranks
            choices = f"nearest are {lower} and {lower + ranks}" if lower else f"nearest is {ranks}"
            yield _setter(params, "batch"), batch, f"must be a multiple of the world size ({ranks}); {choices}"


def _micro_batch(params: Params, content: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    if not (_resolves(params, "recipe") and _resolves(params, "launch")):
        return
    batch, launcher = params.selected_recipe.batch, params.selected_launcher
    local = batch // launcher.world_size
    if launcher.micro_batch is None or batch % launcher.world_size or local % launcher.micro_batch == 0:
        return
    fitting = max(size for size in range(1, min(local, launcher.micro_batch) + 1) if local % size == 0)
    yield (
        f"launchers.{params.launch}.micro_batch",
        launcher.micro_batch,
        f"must divide the {local} images of a rank (train.batch {batch} over {launcher.world_size} ranks); "
        f"nearest below is {fitting}",
    )


def _budget(params: Params, content: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    if _resolves(params, "recipe"):
        recipe = params.selected_recipe
        if recipe.samples is not None and recipe.samples < recipe.batch:
            yield (
                _setter(params, "samples"),
                recipe.samples,
                f"holds no batch; must be at least train.batch ({recipe.batch})",
            )


def _overridden_chunks(params: Params, content: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    if _resolves(params, "recipe") and params.train.sub_captions is not None:
        recipe = params.selected_recipe
        if recipe.chunks > recipe.sub_captions:
            yield "train.sub_captions", recipe.sub_captions, f"must be at least the recipe's chunks ({recipe.chunks})"


def _levels(params: Params, content: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """A level without a term would never be trained, and a term needs its level."""
    if not (_resolves(params, "model") and _resolves(params, "recipe")):
        return
    model, recipe = params.selected_model, params.selected_recipe
    at, name = f"recipes.{params.recipe}", f"models.{params.model}"
    grounded, flat = model.grounding is not None, model.is_flat_text
    if grounded and not recipe.loss.part:
        yield (
            f"{at}.loss.part",
            recipe.loss.part,
            f"must be above 0: {name} has a part level; without, grounding is null",
        )
    if not grounded:
        for term, weight in (("part", recipe.loss.part), ("part_cls", recipe.loss.part_cls)):
            if weight:
                yield f"{at}.loss.{term}", weight, f"must be 0: {name} has no part level, as its grounding is null"
    if grounded and flat:
        if recipe.loss.whole:
            yield (
                f"{at}.loss.whole",
                recipe.loss.whole,
                f"must be 0: {name} has no whole captions; part_cls stands for it",
            )
        if not recipe.loss.part_cls:
            yield f"{at}.loss.part_cls", recipe.loss.part_cls, f"must be above 0, for the whole score of {name}"
    elif not recipe.loss.whole:
        yield f"{at}.loss.whole", recipe.loss.whole, f"must be above 0, for the whole score of {name}"
    if flat and recipe.chunks > 1:
        yield (
            f"{at}.chunks",
            recipe.chunks,
            f"must be 1: {name} takes a long caption as one text (no text.whole_layers)",
        )
    if not flat and recipe.captions == "flair":
        yield f"{at}.captions", recipe.captions, f"must be caft: {name} needs the chunks of one long caption"


def _jobs(params: Params, content: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    for stage, name in getattr(params, "jobs", {}).items():
        key = f"jobs.{stage}"
        if stage not in _STAGES:
            yield key, name, "no such stage" + nearest(stage, dict.fromkeys(_STAGES))
        if name not in content.get("launchers", {}):
            yield key, name, "no such key in launchers" + nearest(name, content.get("launchers", {}))
        elif name in params.launchers:
            launcher = params.launchers[name]
            # A part of fetch runs on each node, as a job of its own, which takes a cluster.
            divided = stage == "fetch" and launcher.slurm is not None
            if (ranks := launcher.tasks_per_node if divided else launcher.world_size) != 1:
                each = "a node" if divided else "in all"
                yield key, name, f"must have one rank {each}, found {ranks}: the stage would run in each"


def _resolves(params: Params, key: str) -> bool:
    """Tells whether the selected entry of a table exists and is valid."""
    return getattr(params, key, None) in getattr(params, _TABLES[key])


def _setter(params: Params, key: str) -> str:
    """Returns the dotted key that gives the selected recipe's value."""
    return f"train.{key}" if getattr(params.train, key) is not None else f"recipes.{params.recipe}.{key}"


def nearest(name: str, known: Mapping[str, Any]) -> str:
    """Returns a suggestion for a name that is not in a table."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
