"""Reads params.yaml with its overlays, and validates all of it before any work: each part, and rules between parts."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from caft.params.corpora import STALL_SECONDS, ScenesCorpus, name_problem
from caft.params.file import assigned, base_problems, merge, read, resolve
from caft.params.parts import named, parts
from caft.params.problems import Problem, explain, nearest, report, show
from caft.params.settings import Params

logger = logging.getLogger(__name__)
# Those that do their work where they run; train is where `launch` says.
_STAGES = (
    *("source", "fetch", "captions", "sentences", "select", "index", "leakage", "superpixels"),
    *("evaluate_retrieval", "evaluate_grounding", "evaluate_regions", "report"),
)

# Key, value and what is wrong.
_Broken = Iterator[tuple[str, Any, str]]


def load_params(
    path: Path | str = "params.yaml", overlays: Sequence[Path | str] = (), values: Sequence[str] = ()
) -> Params:
    """Reads and validates the settings.

    Args:
        path: The file.
        overlays: Files merged over it one after the other, key by key.
        values: Single values set after these, as `train.batch=96`.

    Raises:
        ParamsError: Lists every problem with file, key, value, reason and the nearest valid name or value. Rules between
            parts of the file are looked at once each part is valid by itself.
    """
    content = read(Path(path))
    over = (
        *((str(overlay), read(Path(overlay))) for overlay in overlays),
        *((f"--set {value}", assigned(value)) for value in values),
    )
    for _, overlay in over:
        content = merge(content, overlay)
    found = [Problem(*problem) for problem in base_problems(content)]
    if not found:
        resolved = resolve(content)
        try:
            params = Params.model_validate(resolved)
            found = _between_parts(params)
        except ValidationError as error:
            found = list(explain(Params, resolved, error))
    if found:
        raise report(str(path), over, content, found)
    params._content, params._overlays = content, over
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


# ---- rules between parts


def _between_parts(params: Params) -> list[Problem]:
    """Returns what is wrong between parts that are valid by themselves.

    Where the selection names an entry that is not there, rules on the selected entries wait until it is mended.
    """
    names = list(_names(params))
    found = [*names, *_corpus_names(params), *_answers(params), *_per_corpora(params), *_jobs(params), *_init(params)]
    if not names:
        for rule in (_batch, _micro_batch, _recomputed, _budget, _overridden_chunks, _levels, _frozen):
            found += rule(params)
    return [Problem(tuple(key.split(".")), reason, show(value)) for key, value, reason in found]


def _names(params: Params) -> _Broken:
    selected = (
        ("model", params.model, "models"),
        ("recipe", params.recipe, "recipes"),
        ("launch", params.launch, "launchers"),
    )
    for key, name, table in (*selected, *(("corpora", corpus, "corpus") for corpus in params.corpora)):
        if name not in getattr(params, table):
            yield key, name, f"no such key in {table}{nearest(name, getattr(params, table))}"
    for name in sorted({name for name in params.corpora if params.corpora.count(name) > 1}):
        yield "corpora", params.corpora, f"names {name} twice"


def _corpus_names(params: Params) -> _Broken:
    homes = {Path(entry.path).parts[:3]: name for name, entry in params.benchmarks.items()}
    for name, entry in params.corpus.items():
        if problem := name_problem(name):
            yield "corpus", name if name.isprintable() else ascii(name), problem
        # What a corpus brings takes the place of that folder.
        elif (taken := homes.get(("data", "benchmarks", name))) and not isinstance(entry, ScenesCorpus):
            yield "corpus", name, f"no name for a corpus: the evaluation set {taken} is in data/benchmarks/{name}"


def _answers(params: Params) -> _Broken:
    """An answer is waited for at least as long as a single read, and ends before the crawl would be taken for hanging."""
    places = [("fetch", params.fetch, "timeout_total")]
    for name, entry in params.corpus.items():
        if given := entry.fetch.model_dump(include={"timeout", "timeout_total"}, exclude_none=True):
            key = "timeout_total" if "timeout_total" in given else "timeout"
            places.append((f"corpus.{name}.fetch", params.fetch_for(name), key))
    for place, settings, key in places:
        wait, total = settings.timeout, settings.timeout_total
        if not wait <= total < STALL_SECONDS:
            reason = f"timeout_total ({total}) must be at least timeout ({wait}) and less than {STALL_SECONDS:g}"
            yield f"{place}.{key}", getattr(settings, key), reason
            if place == "fetch":
                return  # what corpora take from it is wrong there, too


def _per_corpora(params: Params) -> _Broken:
    for recipe, entry in params.recipes.items():
        seen: dict[frozenset[str], str] = {}
        for key in entry.per_corpora:
            place, names = f"recipes.{recipe}.per_corpora", key.split("+")
            for name in names:
                if name not in params.corpus:
                    yield place, key, f"{name} is no key in corpus{nearest(name, params.corpus)}"
            if len(set(names)) < len(names):
                yield place, key, "names a corpus twice"
            if (other := seen.setdefault(frozenset(names), key)) != key:
                yield place, key, f"names the same corpora as {other}"


def _jobs(params: Params) -> _Broken:
    for stage, name in params.jobs.items():
        key = f"jobs.{stage}"
        if stage not in _STAGES:
            yield key, name, f"no such stage{nearest(stage, _STAGES)}"
        if name not in params.launchers:
            yield key, name, f"no such key in launchers{nearest(name, params.launchers)}"
            continue
        launcher = params.launchers[name]
        # A part of fetch runs on each node, as a job of its own, which takes a cluster.
        divided = stage == "fetch" and launcher.slurm is not None
        if (ranks := launcher.tasks_per_node if divided else launcher.world_size) != 1:
            each = "on each node" if divided else "in all"
            yield key, name, f"must have one rank {each}, found {ranks}: the stage would run in each"


def _init(params: Params) -> _Broken:
    if params.init is not None and os.path.normpath(params.init) == os.path.normpath("models/caft.safetensors"):
        reason = "train itself writes this file, and DVC removes it before; copy it and its card, as to given/, and name that"
        yield "init", params.init, reason


def _batch(params: Params) -> _Broken:
    batch, ranks = params.selected_recipe.batch, params.selected_launcher.world_size
    if batch % ranks:
        lower = batch // ranks * ranks
        choices = f"nearest are {lower} and {lower + ranks}" if lower else f"nearest is {ranks}"
        yield _setter(params, "batch"), batch, f"must be a multiple of the world size ({ranks}); {choices}"


def _micro_batch(params: Params) -> _Broken:
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


def _recomputed(params: Params) -> _Broken:
    given, stages = params.selected_launcher.recompute_stages, len(params.selected_model.blocks)
    if given and (max(given) > stages or len(set(given)) < len(given)):
        reason = f"models.{params.model} has stages 1 to {stages}; name each at most once"
        yield f"launchers.{params.launch}.recompute_stages", list(given), reason


def _budget(params: Params) -> _Broken:
    recipe = params.selected_recipe
    if recipe.samples is not None and recipe.samples < recipe.batch:
        reason = f"holds no batch; must be at least train.batch ({recipe.batch})"
        yield _setter(params, "samples"), recipe.samples, reason


def _overridden_chunks(params: Params) -> _Broken:
    recipe = params.selected_recipe
    if recipe.chunks > recipe.sub_captions:
        yield "train.sub_captions", recipe.sub_captions, f"must be at least the recipe's chunks ({recipe.chunks})"


def _levels(params: Params) -> _Broken:
    """A level without a term would never be trained, and a term needs its level."""
    model, recipe = params.selected_model, params.selected_recipe
    at, name = f"recipes.{params.recipe}", f"models.{params.model}"
    grounded, flat, loss = model.grounding is not None, model.is_flat_text, recipe.loss
    if grounded and not loss.part:
        yield f"{at}.loss.part", loss.part, f"must be above 0: {name} has a part level; without, grounding is null"
    if not grounded:
        for term, weight in (("part", loss.part), ("part_cls", loss.part_cls)):
            if weight:
                yield f"{at}.loss.{term}", weight, f"must be 0: {name} has no part level, as its grounding is null"
    if grounded and flat:
        if loss.whole:
            reason = f"must be 0: {name} has no whole captions; part_cls stands for it"
            yield f"{at}.loss.whole", loss.whole, reason
        if not loss.part_cls:
            yield f"{at}.loss.part_cls", loss.part_cls, f"must be above 0, for the whole score of {name}"
    elif not loss.whole:
        yield f"{at}.loss.whole", loss.whole, f"must be above 0, for the whole score of {name}"
    if flat and recipe.chunks > 1:
        reason = f"must be 1: {name} takes a long caption as one text (no text.whole_layers)"
        yield f"{at}.chunks", recipe.chunks, reason
    if not flat and recipe.captions == "flair":
        yield f"{at}.captions", recipe.captions, f"must be caft: {name} needs the chunks of one long caption"


def _frozen(params: Params) -> _Broken:
    recipe, model = params.selected_recipe, params.selected_model
    if recipe.schedule == "cosine" and recipe.cooldown:
        yield _setter(params, "cooldown"), recipe.cooldown, "must be 0 where schedule is cosine, which falls by itself"
    known = [part.name for part in parts(model) if part.name != "superpixels"]
    for name in recipe.freeze:
        if not any(part.name != "superpixels" for part in named(name, model)):
            never = "is never trained; " if name == "superpixels" else ""
            yield _setter(params, "freeze"), name, f"{never}parts of models.{params.model} are {', '.join(known)}"
            return
    if {part.name for name in recipe.freeze for part in named(name, model)} >= set(known):
        yield _setter(params, "freeze"), list(recipe.freeze), "leaves nothing to train"


def _setter(params: Params, key: str) -> str:
    """Returns the dotted key that gives the selected recipe's value."""
    return f"train.{key}" if getattr(params.train, key) is not None else f"recipes.{params.recipe}.{key}"
