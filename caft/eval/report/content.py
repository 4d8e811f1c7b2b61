"""What a report shows; an empty part is left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from caft.data.sets import RetrievalSet
from caft.eval.analysis.attributes import Binding
from caft.eval.analysis.corpus import Corpus, Leak
from caft.eval.analysis.curves import Interval
from caft.eval.analysis.examples import Look, Nested, Retrieved, Segmented
from caft.eval.analysis.granularity import Asked, Granularity
from caft.eval.analysis.levels import Level
from caft.eval.analysis.superpixel_methods import MethodCase, MethodScores
from caft.eval.paper.compare import Cell
from caft.eval.paper.models import PaperModel

SIDE = 224  # pixels of a picture's longer side in the file; shown at 140 to 224


@dataclass(frozen=True)
class RetrievalCases:
    """A set with examples of texts that look for images, and of images that look for texts."""

    name: str
    benchmark: RetrievalSet
    of_texts: list[Retrieved]
    of_images: list[Retrieved]


@dataclass(frozen=True)
class Fact:
    """A row of a list of facts: what it is, its value in words, and what to know of it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Origin:
    """Where pictures and scores are from, in words."""

    pictures: Mapping[str, str] = field(default_factory=dict)  # what the pictures of each corpus are, by its name
    rendered: Sequence[str] = ()  # evaluation sets whose pictures this project renders
    commit: str | None = None  # of the code that made the report
    changes: str | None = None  # digest of what that code differed in from its commit
    run: str | None = None  # in MLflow
    launch: Mapping[str, str] = field(default_factory=dict)  # the run's parameters: model, recipe, launch, ranks, ...
    machine: str | None = None  # what the run was launched on
    root: str = ""  # the way from the page's folder to the project's, such as ../
    publishers: Mapping[str, str] = field(default_factory=dict)  # address of an evaluation set's own page, by name


@dataclass(frozen=True)
class Report:
    """Everything that the page is made of."""

    card: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]  # content of metrics/<name>.json by name
    curves: Sequence[Mapping[str, float]]  # rows of plots/train.csv, numbers; absent values left out
    blend: Sequence[Mapping[str, Any]]  # rows of plots/blend.csv
    notes: Mapping[str, str]  # what to know about a benchmark, by its name
    origin: Origin = field(default_factory=Origin)
    live: str = ""  # address of the page on which the model runs; empty without one
    intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)  # of referring sets, by score
    boxes: Mapping[str, Mapping[str, int]] = field(
        default_factory=dict
    )  # of region sets in the settings' order, by level
    paper: Sequence[Cell] = ()
    scored: Sequence[PaperModel] = ()  # the models behind the cells
    other_seeds: Mapping[int, Sequence[Mapping[str, float]]] = field(default_factory=dict)  # `curves` by seed
    corpus: Corpus | None = None
    leaks: Sequence[Leak] = ()
    expected: Mapping[str, int] = field(
        default_factory=dict
    )  # images that the paper had or the user expects, by corpus
    retrieval: Sequence[RetrievalCases] = ()
    looks: Sequence[Look] = ()
    referring: str = ""  # name of the set of the referring examples, the levels and the superpixels
    segmented: Sequence[Segmented] = ()
    levels: Sequence[Level] = ()
    bound: str = ""  # name of the set of the attributes
    bindings: Sequence[Binding] = ()
    granularity: Sequence[Granularity] = ()
    asked: Sequence[Asked] = ()
    nested: Sequence[Nested] = ()
    methods: Sequence[MethodScores] = ()
    method_cases: Sequence[MethodCase] = ()

    @property
    def is_given(self) -> bool:
        """Whether the weights were given, not trained by this project's run."""
        return "name" in self.card
