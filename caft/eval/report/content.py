"""What a report shows; an empty part is left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from caft.data.sets import RetrievalSet
from caft.eval.analysis.attributes import Binding
from caft.eval.analysis.corpus import Corpus, Leak
from caft.eval.analysis.examples import Look, Nested, Retrieved, Segmented
from caft.eval.analysis.granularity import Asked, Granularity
from caft.eval.analysis.levels import Level
from caft.eval.analysis.superpixel_methods import MethodCase, MethodScores
from caft.eval.paper.compare import Cell
from caft.eval.paper.models import PaperModel

SIDE = 192  # pixels of a picture's longer side in the file; shown at 140, so still sharp on a fine screen


@dataclass(frozen=True)
class RetrievalCases:
    """A set with examples of texts that look for images, and of images that look for texts."""

    name: str
    benchmark: RetrievalSet
    of_texts: list[Retrieved]
    of_images: list[Retrieved]


@dataclass(frozen=True)
class Report:
    """Everything that the page is made of.

    Attributes:
        card: Of the model.
        metrics: Content of metrics/<name>.json by name.
        curves: Rows of plots/train.csv, numbers; absent values left out.
        blend: Rows of plots/blend.csv.
        notes: What to know about a benchmark, by its name.
        paper: Every cell of the paper with its verdict.
        scored: The models behind them.
        other_seeds: Rows like `curves` of runs that differ in the seed alone, by seed.
        corpus: What training reads.
        leaks: Evaluation images beside training images that look like them.
        expected: Images that the paper had, or that the user expects, by corpus.
        retrieval: Examples of each set.
        looks: Where sentences look.
        referring: Name of the set of the referring examples, the levels and the superpixels.
        segmented: Referring expressions with masks.
        levels: mIoU at each level of the hierarchy.
        bound: Name of the set of the attributes.
        bindings: Which attributes are told apart.
        granularity: mIoU by kind of query.
        asked: Objects asked for by several queries.
        nested: Superpixels and groupings.
        methods: Superpixel methods.
        method_cases: Images with the superpixels of each method.
    """

    card: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    curves: Sequence[Mapping[str, float]]
    blend: Sequence[Mapping[str, Any]]
    notes: Mapping[str, str]
    paper: Sequence[Cell] = ()
    scored: Sequence[PaperModel] = ()
    other_seeds: Mapping[int, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    corpus: Corpus | None = None
    leaks: Sequence[Leak] = ()
    expected: Mapping[str, int] = field(default_factory=dict)
    retrieval: Sequence[RetrievalCases] = ()
    looks: Sequence[Look] = ()
    referring: str = ""
    segmented: Sequence[Segmented] = ()
    levels: Sequence[Level] = ()
    bound: str = ""
    bindings: Sequence[Binding] = ()
    granularity: Sequence[Granularity] = ()
    asked: Sequence[Asked] = ()
    nested: Sequence[Nested] = ()
    methods: Sequence[MethodScores] = ()
    method_cases: Sequence[MethodCase] = ()
