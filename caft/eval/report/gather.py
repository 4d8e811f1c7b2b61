"""What the report shows, gathered from the files of the other stages and by asking the model."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caft import storage
from caft.data.sets import Missing, folder_of, load_referring, load_regions, load_retrieval
from caft.eval.analysis.attributes import most_telling, score_attributes
from caft.eval.analysis.corpus import Corpus, Leak, describe_corpus, read_leaks
from caft.eval.analysis.curves import Interval
from caft.eval.analysis.examples import looks, nested, retrieved, score_examples, segmented
from caft.eval.analysis.granularity import score_granularity
from caft.eval.analysis.intervals import of_expressions
from caft.eval.analysis.levels import score_levels
from caft.eval.analysis.seeds import curves_of_other_seeds
from caft.eval.analysis.superpixel_methods import compare_methods
from caft.eval.paper.compare import compare
from caft.eval.paper.models import PaperModel
from caft.eval.paper.statistics import statistics_of_sets
from caft.eval.paper.targets import load_targets
from caft.eval.place import Place
from caft.eval.report.content import Origin, Report, RetrievalCases
from caft.eval.sets import each_set, present_sets
from caft.locking import locked
from caft.model.maps import part_network
from caft.model.model import Model
from caft.model.protocols import RetrievalModel
from caft.network.caft import CAFT
from caft.params import Params

SCORES = ("retrieval", "grounding", "regions")  # metrics that given weights have
METRICS = ("data", "leakage", "superpixels", "train", *SCORES)
INDEX, LEAKS = Path("data/index"), Path("data/leakage.parquet")
SCENES = Path("data/benchmarks/scenes")  # sets that the stage `source` renders
# What the pictures of a corpus are, by its kind in the settings.
_PICTURES = {
    "scenes": "rendered shapes, no photographs",
    "recaption": "pictures of the web, most of them photographs",
    "custom": "pictures of your own table",
}
IMAGES = 128  # of a referring set are analysed, so that a set of thousands stays a matter of seconds


def gather(
    params: Params,
    model: RetrievalModel,
    place: Place,
    metrics: Mapping[str, Mapping[str, Any]],
    scored: Sequence[PaperModel],
    launch: Mapping[str, str],
) -> Report:
    """Returns everything that the page shows; given weights have neither training curves nor a corpus.

    Args:
        params: The settings.
        model: The model of the page.
        place: Where its scores are.
        metrics: Content of the metrics files by name.
        scored: This model and others, as rows of the paper; the first is the page's.
        launch: Parameters of the model's tracked run.

    Raises:
        DataError: Tables of a corpus that was trained on, or images of a set, are missing or damaged.
    """
    trained = place.number is None
    network = part_network(model)
    return Report(
        card=model.card.record(),
        metrics=metrics,
        curves=_numbers(Path("plots/train.csv")) if trained else [],
        blend=_rows(place.plots / "blend.csv"),
        notes={name: benchmark.note for name, benchmark in params.benchmarks.items() if benchmark.note},
        origin=_origin(params, place, scored[0], launch),
        intervals=_intervals(network, place, metrics) if network else {},
        boxes=_boxes(params),
        other_seeds=curves_of_other_seeds(storage.runs_folder(params), model.card.record()) if trained else {},
        corpus=_corpus(params) if trained else None,
        leaks=_leaks(params) if trained else (),
        expected=params.expected_images,
        paper=compare(load_targets(), scored, statistics_of_sets(params)),
        scored=scored,
        **_retrieval(params, model),
        **_grounding(params, network),
    )


def read_metrics(params: Params, place: Place) -> dict[str, dict[str, Any]]:
    """Returns the content of the metrics files by name; benchmarks in the order of the settings, not of the alphabet."""
    known = {name: number for number, name in enumerate(params.benchmarks)}
    metrics = {}
    for name in METRICS if place.number is None else SCORES:
        scores = json.loads((place.metrics / f"{name}.json").read_text())
        metrics[name] = dict(sorted(scores.items(), key=lambda item: known.get(item[0], len(known))))
    return metrics


def _origin(params: Params, place: Place, scored: PaperModel, launch: Mapping[str, str]) -> Origin:
    """What is known of where pictures and scores come from."""
    return Origin(
        pictures={name: _PICTURES[corpus.kind] for name, corpus in params.corpus.items()},
        rendered=[name for name, benchmark in params.benchmarks.items() if Path(benchmark.path).is_relative_to(SCENES)],
        commit=scored.tags.get("commit"),
        changes=scored.tags.get("changes"),
        run=scored.tags.get("mlflow_run"),
        launch=launch,
        machine=_machine(params, launch),
        root="../" * len(place.reports.parts),
        publishers={name: benchmark.page for name, benchmark in params.benchmarks.items() if benchmark.page},
    )


def _machine(params: Params, launch: Mapping[str, str]) -> str | None:
    """What a run was launched on; None if the settings now select another launcher, or one of other ranks."""
    launcher = params.selected_launcher
    if launch.get("launch") != params.launch or launch.get("ranks") != str(launcher.world_size):
        return None
    nodes = "1 node" if launcher.nodes == 1 else f"{launcher.nodes} nodes"
    gpus = f"{launcher.gpus_per_node or 'no'} GPU{'' if launcher.gpus_per_node == 1 else 's'}"
    cores = "1 CPU core" if launcher.cpus_per_task == 1 else f"{launcher.cpus_per_task} CPU cores"
    return f"{nodes}, {gpus}{' each' if launcher.nodes > 1 else ''}, {cores} a process"


def _intervals(model: CAFT, place: Place, metrics: Mapping[str, Any]) -> dict[str, dict[str, Interval]]:
    """Intervals of the referring sets' means, from the table of their expressions."""
    level = model.config.tokens[model.config.part_stage - 1]
    return of_expressions(place.reports / "expressions", metrics["grounding"], level)


def _boxes(params: Params) -> dict[str, dict[str, int]]:
    """How many boxes each level of the region sets has; none of a set that is not there."""
    sets = each_set(params, {"regions": load_regions})
    return {
        name: {} if isinstance(found, Missing) else {level: len(rows) for level, rows in found.regions.items()}
        for name, found in sets
    }


def _corpus(params: Params) -> Corpus | None:
    """What was trained on; None without a training index."""
    if not INDEX.exists():
        return None
    captions, sentences, urls = (Path("data") / name for name in ("captions", "sentences", "urls"))
    images, work = storage.root(params) / "images", storage.scratch_folder(params, "report")
    with locked(work, "looking for repeated captions"):
        memory_gb = params.storage.memory_gb
        return describe_corpus(INDEX, captions, sentences, urls, images, work, 24, memory_gb)


def _leaks(params: Params) -> Sequence[Leak]:
    """Evaluation images that look like training images; none without the stage's table."""
    if not LEAKS.exists():
        return []
    folders = {name: folder_of(benchmark) for name, benchmark in params.benchmarks.items()}
    return read_leaks(LEAKS, folders, INDEX, storage.root(params) / "images", count=4)


def _retrieval(params: Params, model: RetrievalModel) -> dict[str, Any]:
    """Examples of every retrieval set that is there; sentences and segments of the first."""
    shown: dict[str, Any] = {"retrieval": []}
    for name, pairs in present_sets(params, {"retrieval": load_retrieval}):
        pairs = pairs.one_to_one()
        if not shown["retrieval"]:
            if isinstance(model, Model) and model.network.has_part:
                shown["looks"] = looks(model, pairs, 5, 6, params.evaluation.membership)
            if isinstance(model, Model) and model.network.superpixels is not None:
                shown["nested"] = nested(model.network, pairs.images, count=4)
        shown["retrieval"].append(RetrievalCases(name, pairs, *retrieved(model, pairs, params.evaluation, each=1)))
    return shown


def _grounding(params: Params, model: CAFT | None) -> dict[str, Any]:
    """Examples and analysis of the referring sets that are there, by models that have a part level and superpixels."""
    if model is None or model.superpixels is None:
        return {}
    sets = dict(present_sets(params, {"referring": load_referring}))
    if not sets:
        return {}
    batch, membership = params.evaluation.batch, params.evaluation.membership
    name, first = next(iter(sets.items()))
    table, asked = score_granularity(model, sets, IMAGES, 2, membership)
    methods, cases = compare_methods(model, first, IMAGES, cases=2)
    shown: dict[str, Any] = {
        "referring": name,
        "segmented": segmented(model, score_examples(model, first, batch, IMAGES, membership), 6, membership),
        "levels": score_levels(model, first, batch, IMAGES),
        "granularity": table,
        "asked": asked,
        "methods": methods,
        "method_cases": cases,
    }
    if telling := most_telling(sets):
        found = score_examples(model, sets[telling], batch, IMAGES, membership)
        shown |= {"bound": telling, "bindings": score_attributes(model, found, batch)}
    return shown


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
