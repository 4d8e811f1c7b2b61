"""Stage report: reports/index.html, one file that shows data, scores with controls, curves and what the model sees."""

import argparse
import csv
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from caft import storage
from caft.data.sets import Missing, ReferringSet, folder_of, load_referring, load_retrieval
from caft.eval.analysis.attributes import most_telling, score_attributes
from caft.eval.analysis.corpus import Corpus, describe_corpus
from caft.eval.analysis.examples import looks, nested, retrieved, scored, segmented
from caft.eval.analysis.granularity import score_granularity
from caft.eval.analysis.leaks import Leak, read_leaks
from caft.eval.analysis.levels import score_levels
from caft.eval.analysis.seeds import curves_of_other_seeds
from caft.eval.analysis.superpixel_methods import compare_methods
from caft.eval.given import card_of, settings_of
from caft.eval.paper.compare import compare
from caft.eval.paper.scored import Scored, of_model
from caft.eval.paper.statistics import statistics_of
from caft.eval.paper.targets import load_targets
from caft.eval.report import render
from caft.eval.report.content import Report, RetrievalCases
from caft.eval.scores.features import load_model
from caft.eval.scores.metrics import run_of
from caft.locking import locked
from caft.model.maps import part_network
from caft.model.model import Model
from caft.model.protocols import RetrievalModel
from caft.network.caft import CAFT
from caft.params import Params
from caft.train.tracking.runs import Run, commit
from pipelines.place import place_of
from pipelines.stage import run

logger = logging.getLogger(__name__)
METRICS = ("data", "leakage", "superpixels", "train", "retrieval", "grounding", "regions")
SCORES = METRICS[4:]  # all that given weights have
INDEX, LEAKS, SIZES = Path("data/index"), Path("data/leakage.parquet"), Path("metrics/external/sizes.json")
IMAGES = 128  # of a referring set are analysed, so that a set of thousands stays a matter of seconds


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    # Images are asked one at a time, too little work to share among threads: they would wait for each other.
    torch.set_num_threads(1)
    place = place_of(arguments)
    model = place.given(params) or load_model()
    trained = place.number is None
    names = METRICS if trained else SCORES
    metrics = {name: _ordered(json.loads((place.metrics / f"{name}.json").read_text()), params) for name in names}
    tracked = run_of(params, model.card)
    scored = [model_of_page(params, model.card.record(), metrics, tracked), *([] if trained else other_sizes(params))]
    tracked.finish()
    cells = compare(load_targets(), scored, statistics(params))
    report = Report(
        card=model.card.record(),
        metrics=metrics,
        curves=_numbers(Path("plots/train.csv")) if trained else [],
        blend=_rows(place.plots / "blend.csv"),
        notes={name: benchmark.note for name, benchmark in params.benchmarks.items() if benchmark.note},
        other_seeds=curves_of_other_seeds(storage.runs_folder(params), model.card.record()) if trained else {},
        corpus=corpus(params) if trained else None,
        leaks=leaks(params) if trained else (),
        expected=params.expected_images,
        paper=cells,
        scored=scored,
        **retrieval(params, model),
        **grounding(params, part_network(model)),
    )
    page = place.reports / "index.html"
    with storage.replacing(page) as temporary:
        temporary.write_text(render(report), encoding="utf-8")
    storage.write_json(place.reports / "paper.json", [cell.record() for cell in cells])
    tracked.log_file(page)
    tracked.log_file(place.reports / "paper.json")
    counts = Counter(cell.status for cell in cells)
    logger.info("the paper's cells: %s", ", ".join(f"{count} {status}" for status, count in counts.items()))
    logger.info("%s: %.1f MB; open it in a browser", page, page.stat().st_size / 1e6)


def model_of_page(params: Params, card: dict[str, Any], metrics: dict[str, Any], tracked: Run) -> Scored:
    """The model of the page as one that may fill cells of the paper."""
    tags = {"commit": commit(), "mlflow_run": tracked.run_id, "recipe": _recipe(params, card)}
    deviations = {key: value for name in SCORES for key, value in tracked.deviations(name).items()}
    return of_model(card, params, metrics, tags, deviations)


def other_sizes(params: Params) -> Iterator[Scored]:
    """The further given weights, of which retrieval alone was scored."""
    settings = settings_of(params)
    for setting, entry in list(zip(settings, storage.read_json(SIZES, "pipelines/score/dvc.yaml"), strict=True))[1:]:
        card = card_of(setting, entry["weights"], params)
        tracked = run_of(params, card)
        yield model_of_page(params, card.record(), {"retrieval": entry["retrieval"]}, tracked)
        tracked.finish()


def statistics(params: Params) -> dict[str, dict[str, Any]]:
    """Table 6 of the sets that are there."""
    found: dict[str, dict[str, Any]] = {}
    for name in load_targets().sets:
        if name in params.benchmarks and params.benchmarks[name].kind == "retrieval":
            pairs = load_retrieval(params.benchmarks[name])
            found[name] = {"not_run": pairs.reason} if isinstance(pairs, Missing) else dict(statistics_of(pairs))
    return found


def _recipe(params: Params, card: dict[str, Any]) -> str:
    """Name of the recipe that a model was trained with, or that its captions were read with."""
    own = card.get("recipe")
    return params.recipe if own in (None, params.selected_recipe.model_dump(mode="json")) else "another"


def corpus(params: Params) -> Corpus | None:
    """What was trained on; None without a training index."""
    if not INDEX.exists():
        return None
    captions, sentences, urls = (Path("data") / name for name in ("captions", "sentences", "urls"))
    images, work = storage.root(params) / "images", storage.scratch_folder(params, "report")
    with locked(work, "looking for repeated captions"):
        memory_gb = params.storage.memory_gb
        return describe_corpus(INDEX, captions, sentences, urls, images, work, 24, memory_gb)


def leaks(params: Params) -> Sequence[Leak]:
    """Evaluation images that look like training images; none without the stage's table."""
    if not LEAKS.exists():
        return []
    folders = {name: folder_of(benchmark) for name, benchmark in params.benchmarks.items()}
    return read_leaks(LEAKS, folders, INDEX, storage.root(params) / "images", count=4)


def retrieval(params: Params, model: RetrievalModel) -> dict[str, Any]:
    """Examples of every retrieval set that is there; sentences and segments of the first."""
    shown: dict[str, Any] = {"retrieval": []}
    for name, benchmark in params.benchmarks.items():
        pairs = load_retrieval(benchmark) if benchmark.kind == "retrieval" else None
        if pairs is None or isinstance(pairs, Missing):
            continue
        pairs = pairs.one_to_one()
        if not shown["retrieval"]:
            if isinstance(model, Model) and model.network.has_part:
                shown["looks"] = looks(model, pairs, 5, 6, params.evaluation.membership)
            if isinstance(model, Model) and model.network.superpixels is not None:
                shown["nested"] = nested(model.network, pairs.images, count=4)
        shown["retrieval"].append(RetrievalCases(name, pairs, *retrieved(model, pairs, params.evaluation, each=1)))
    return shown


def grounding(params: Params, model: CAFT | None) -> dict[str, Any]:
    """Examples and analysis of the referring sets that are there, by models that have a part level and superpixels."""
    if model is None or model.superpixels is None:
        return {}
    sets: dict[str, ReferringSet] = {}
    for name, benchmark in params.benchmarks.items():
        loaded = load_referring(benchmark) if benchmark.kind == "referring" else None
        if isinstance(loaded, ReferringSet):
            sets[name] = loaded
    if not sets:
        return {}
    batch, membership = params.evaluation.batch, params.evaluation.membership
    first = next(iter(sets))
    table, asked = score_granularity(model, sets, IMAGES, 2, membership)
    methods, cases = compare_methods(model, sets[first], IMAGES, cases=2)
    shown: dict[str, Any] = {
        "referring": first,
        "segmented": segmented(model, scored(model, sets[first], batch, IMAGES, membership), 6, membership),
        "levels": score_levels(model, sets[first], batch, IMAGES),
        "granularity": table,
        "asked": asked,
        "methods": methods,
        "method_cases": cases,
    }
    if telling := most_telling(sets):
        found = scored(model, sets[telling], batch, IMAGES, membership)
        shown |= {"bound": telling, "bindings": score_attributes(model, found, batch)}
    return shown


def _ordered(scores: dict[str, Any], params: Params) -> dict[str, Any]:
    """Scores with the benchmarks among their keys in the order of the settings; files have them by the alphabet."""
    known = list(params.benchmarks)
    return dict(sorted(scores.items(), key=lambda item: known.index(item[0]) if item[0] in known else len(known)))


def _rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a CSV file; what reads as a number is one."""
    with path.open(newline="") as file:
        return [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)]


def _numbers(path: Path) -> list[dict[str, float]]:
    """Rows of a CSV file without the cells that are empty."""
    return [{key: value for key, value in row.items() if isinstance(value, float)} for row in _rows(path)]


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


if __name__ == "__main__":
    run(main, external=True)
