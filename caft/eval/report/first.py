"""Values of the first screen: what was run on what, pictures with what the model found, the few numbers to remember."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image

from caft.eval.analysis.examples import KINDS
from caft.eval.report.absent import absent_sets
from caft.eval.report.content import Fact, Report
from caft.eval.report.tiles import tiles
from caft.eval.report.training import steps_time
from caft.model.drawing.figures import PREDICTION, TRUTH, fit, lit, outline, overlay

_SIDE = 288  # pixels of the longer side in the file; shown at 200, so still sharp on a fine screen
_COUNT = 3  # pictures
_NAMED = 6  # evaluation sets that are named; more are counted
_NUMBERS = {2: "two", 3: "three", 4: "four", 8: "eight"}
# Which of the cases of a kind is shown, by how many there are.
_PLACES: dict[str, Callable[[int], int]] = {"best": lambda _: 0, "median": lambda n: n // 2, "worst": lambda n: n - 1}


@dataclass(frozen=True)
class Overlay:
    """A picture with what the model found: the text, how well it was found, and words for readers that see no picture."""

    image: Image.Image
    text: str
    result: str
    description: str


def first_screen(report: Report) -> dict[str, Any]:
    """Values of first.html."""
    return {
        "lead": _pictures(report),
        "run": " ".join(_run(report)),
        "scored": _scored(report),
        "absent": len(absent_sets(report)),
        "facts": list(_facts(report)),
        "overlays": _overlays(report),
        "live": report.live,
        "has_masks": bool(report.segmented),
        "tiles": tiles(report),
    }


def _pictures(report: Report) -> str:
    """What the pictures that it was trained on are."""
    card, known = report.card, report.origin.pictures
    corpora = [corpus["name"] for corpus in card.get("data", [])]
    if not corpora:
        size = f" on the paper's {card['size']} pairs" if card.get("size") else ""
        return f"Given weights, trained elsewhere{size}; nothing was trained here."
    kinds = dict.fromkeys(known.get(name, "pictures that the settings no longer name") for name in corpora)
    words = "; ".join(f"{kind} ({', '.join(n for n in corpora if known.get(n, kind) == kind)})" for kind in kinds)
    return f"{words[0].upper()}{words[1:]}."


def _run(report: Report) -> Iterator[str]:
    """What was trained, on how much, and by how many processes."""
    card, launch, train = report.card, report.origin.launch, report.metrics.get("train", {})
    if report.is_given:
        yield f"Model {card['name']}, sha256 {card['fingerprint']},"
    elif name := launch.get("model"):
        yield f"Model {name}"
    else:
        yield "The model"
    if images := sum(corpus["count"] for corpus in card.get("data", [])):
        yield f"was trained on {images:,} images"
    elif report.is_given:
        yield "is scored as it came"
    if "samples" in train:
        yield f"with {train['samples']:,} samples in {train['steps']:,} steps"
    if ranks := int(launch.get("ranks", 0)):
        yield "by one process" if ranks == 1 else f"by {_NUMBERS.get(ranks, ranks)} processes"


def _scored(report: Report) -> str:
    """On which sets it is scored, and which of them this project renders."""
    names = [
        name
        for file in ("retrieval", "grounding")
        for name, entry in report.metrics.get(file, {}).items()
        if "not_run" not in entry
    ]
    names += [name for name, levels in report.boxes.items() if levels]
    if not names:
        return "No evaluation set was there."
    rendered = [name for name in names if name in report.origin.rendered]
    kind = ", all of rendered shapes" if rendered == names else ""
    some = f" (rendered shapes: {_listed(rendered)})" if rendered and not kind else ""
    sets = "1 set" if len(names) == 1 else f"{len(names)} sets"
    return f"Scored on {sets}{kind}: {_listed(names)}{some}."


def _listed(names: list[str]) -> str:
    """The first names; the number of the others."""
    more = len(names) - _NAMED
    return ", ".join(names) if more < 2 else f"{', '.join(names[:_NAMED])} and {more} more"


def _facts(report: Report) -> Iterator[Fact]:
    """What identifies the run and its rounding, where it ran and how long."""
    card, origin = report.card, report.origin
    if card.get("seed") is not None:
        yield Fact("seed", str(card["seed"]))
    if time := steps_time(report):
        yield Fact("trained for", time)
    if launch := ": ".join(part for part in (origin.launch.get("launch"), origin.machine) if part):
        yield Fact("on", launch)
    if "recipe" in origin.launch:
        yield Fact("recipe", origin.launch["recipe"])
    if card.get("arithmetic"):
        yield Fact("arithmetic", str(card["arithmetic"]))
    if origin.commit:
        yield Fact("commit", origin.commit[:12] + (f" with changes {origin.changes}" if origin.changes else ""))
    if card.get("fingerprint") and not report.is_given:
        yield Fact("run", str(card["fingerprint"]))
    if origin.run:
        yield Fact("MLflow run", origin.run[:12])


def _overlays(report: Report) -> list[Overlay]:
    """The best, the middle and the worst mask; without masks, where the first sentence of long captions looks."""
    found = []
    for kind in KINDS:
        cases = [case for case in report.segmented if case.kind == kind]  # best first
        if cases:
            case = cases[_PLACES[kind](len(cases))]
            shown = outline(lit(fit(case.image, _SIDE), case.mask), case.mask, PREDICTION, 2)
            text = f"Inside a pink line the mask found, inside a green one the object that is meant by: {case.text}"
            result = f"{kind}, IoU {100 * case.iou:.0f}"
            found.append(Overlay(outline(shown, case.truth, TRUTH), case.text, result, text))
    for look in () if found else report.looks[:_COUNT]:
        text, values = next(zip(look.texts, look.maps, strict=True))
        words = f"Bright where the attention lies for: {text}"
        found.append(Overlay(overlay(fit(look.image, _SIDE), values), text, "attention", words))
    return found
