"""The entries of the table `benchmarks`: what a set is, where it lies, and what must be found in it."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from caft.params.section import Positive, Section

Kind = Literal["retrieval", "referring", "regions", "zero_shot", "composition", "segmentation"]
Layout = Literal[
    "urban1k", "docci", "dci", "sharegpt4v", "iiw", "karpathy", "refer", "fg_ovd", "imagenet",
    "sugar_crepe", "winoground", "aro", "voc", "ade20k",
]  # fmt: skip

# The kind of every layout, the keys that only some layouts read, and those of them that it needs.
_RETRIEVAL = {"pairs", "images"}
_LAYOUTS: dict[str, tuple[Kind, set[str], set[str]]] = {
    "urban1k": ("retrieval", _RETRIEVAL, set()),
    "docci": ("retrieval", _RETRIEVAL | {"split", "text"}, set()),
    "dci": ("retrieval", _RETRIEVAL | {"split", "text"}, set()),
    "sharegpt4v": ("retrieval", _RETRIEVAL | {"first"}, {"first"}),
    "iiw": ("retrieval", _RETRIEVAL | {"split", "text"}, set()),
    "karpathy": ("retrieval", _RETRIEVAL | {"split", "captions"}, set()),
    "refer": ("referring", {"name", "split", "split_by", "pairs", "images", "references"}, {"name", "split"}),
    "fg_ovd": ("regions", {"pairs", "boxes"}, set()),
    "imagenet": ("zero_shot", {"images", "classes"}, set()),
    "sugar_crepe": ("composition", {"pairs", "questions"}, set()),
    "winoground": ("composition", {"pairs"}, set()),
    "aro": ("composition", {"pairs", "name"}, {"name"}),
    "voc": ("segmentation", {"images", "classes", "split", "prompts"}, set()),
    "ade20k": ("segmentation", {"images", "classes", "split", "prompts"}, set()),
}
# Folders beside its own in which a layout looks for pictures, too.
_BESIDE = {"iiw": ("docci", "dci"), "refer": ("images", "coco"), "fg_ovd": ("coco",), "sugar_crepe": ("coco",)}
_SPECIFIC = set().union(*(read for _, read, _ in _LAYOUTS.values()))


class BenchmarkParams(Section):
    """One evaluation set.

    `pairs`, `images`, `references`, `boxes`, `questions` and `classes` are what its publisher counts. Another count is refused;
    with `partial` fewer are scored, images that are not there are left out, and the result says how many it is of.

    - `page`, `licence`, `gated`: where it comes from, on which terms, and whether these must be accepted first.
    - `split`: the part that is scored; where several are joined, their names with + between them, in that order.
    - `split_by`: who split a set of `refer`; `name` is its folder. Of `aro`, `name` is the file, without its ending.
    - `first`: as many rows of the file, from its start.
    - `text`: the fields of a record that make the caption, joined by a line break; none: the layout's own.
    - `prompts`: texts in which a class of a segmentation set stands, as {name}; none: CLIP's 80, as for zero-shot sets.
    - `captions`: as many of an image, from the first.
    - `pairs`: captions of a retrieval set, expressions of a referring set, boxes of all files of a region set, questions
      of a composition set.
    - `boxes`: the files of a region set that are scored, by level, with their boxes; null: any number.
    - `questions`: the files of `sugar_crepe` that are scored, by category, with how many each holds; null: any number.
    """

    kind: Kind
    layout: Layout
    path: str
    page: str | None = None
    licence: str | None = None
    gated: bool = False
    name: str | None = None
    split: str | None = None
    split_by: str | None = None
    first: Positive | None = None
    text: Annotated[tuple[str, ...], Field(strict=False)] = ()
    prompts: Annotated[tuple[str, ...], Field(strict=False)] = ()
    captions: Positive | None = None
    pairs: Positive | None = None
    images: Positive | None = None
    references: Positive | None = None
    boxes: dict[str, Positive | None] = {}
    questions: dict[str, Positive | None] = {}
    classes: Positive | None = None
    partial: bool = False
    note: str | None = None

    @property
    def beside(self) -> tuple[str, ...]:
        """Names of folders beside its own from which the set's pictures may be taken."""
        return _BESIDE.get(self.layout, ())

    def problems(self) -> Iterator[tuple[str, Any, str]]:
        """Rules between the values: key, value and what is wrong."""
        kind, read, needed = _LAYOUTS[self.layout]
        if self.kind != kind:
            layouts = ", ".join(name for name, entry in _LAYOUTS.items() if entry[0] == self.kind)
            yield "layout", self.layout, f"must be one of {layouts} where kind is {self.kind}"
            return
        for key in sorted(_SPECIFIC):
            value = getattr(self, key)
            if key in needed and value is None:
                yield key, value, f"must be given where layout is {self.layout}"
            elif key not in read and value not in (None, (), {}):
                layouts = ", ".join(name for name, entry in _LAYOUTS.items() if key in entry[1])
                yield key, value, f"only where layout is one of {layouts}"
        for prompt in self.prompts:
            if prompt.count("{name}") != 1 or any(brace in prompt.replace("{name}", "") for brace in "{}"):
                yield "prompts", prompt, "each must have {name} once, and no other braces"
