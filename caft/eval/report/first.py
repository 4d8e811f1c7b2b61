"""Values of the first screen: what was run on what, pictures with what the model found, the few numbers to remember."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from caft.eval.analysis.curves import Interval
from caft.eval.analysis.examples import KINDS
from caft.eval.analysis.intervals import wilson
from caft.eval.report.content import Report
from caft.model.drawing.figures import PREDICTION, TRUTH, fit, outline, overlay

_SIDE = 288  # pixels of the longer side in the file; shown at 200, so still sharp on a fine screen
_COUNT = 3  # pictures
_NUMBERS = {2: "two", 3: "three", 4: "four", 8: "eight"}
# Which of the cases of a kind is shown, by how many there are.
_PLACES: dict[str, Callable[[int], int]] = {"best": lambda _: 0, "median": lambda n: n // 2, "worst": lambda n: n - 1}


@dataclass(frozen=True)
class Tile:
    """A number to remember: its value, what it is, and what it has to beat."""

    value: Interval | float
    what: str
    level: str


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
        "facts": dict(_facts(report)),
        "overlays": _overlays(report),
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
    some = f" (rendered shapes: {', '.join(rendered)})" if rendered and not kind else ""
    return f"Scored on {len(names)} sets{kind}: {', '.join(names)}{some}."


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    """What identifies the run and its rounding."""
    card, origin = report.card, report.origin
    if card.get("fingerprint") and not report.is_given:
        yield "run", str(card["fingerprint"])
    if origin.commit:
        yield "commit", origin.commit[:12] + (f" with changes {origin.changes}" if origin.changes else "")
    for key in ("recipe", "launch"):
        if key in origin.launch:
            yield key, origin.launch[key]
    if card.get("seed") is not None:
        yield "seed", str(card["seed"])
    if card.get("arithmetic"):
        yield "arithmetic", str(card["arithmetic"])
    if origin.run:
        yield "MLflow run", origin.run[:12]


def _overlays(report: Report) -> list[Overlay]:
    """The best, the middle and the worst mask; without masks, where the first sentence of long captions looks."""
    found = []
    for kind in KINDS:
        cases = [case for case in report.segmented if case.kind == kind]  # best first
        if cases:
            case = cases[_PLACES[kind](len(cases))]
            shown = outline(overlay(fit(case.image, _SIDE), case.values), case.truth, TRUTH)
            text = f"In green the object that is meant, in pink the mask found over the attention for: {case.text}"
            result = f"{kind}, IoU {100 * case.iou:.0f}"
            found.append(Overlay(outline(shown, case.mask, PREDICTION), case.text, result, text))
    for look in () if found else report.looks[:_COUNT]:
        text, values = next(zip(look.texts, look.maps, strict=True))
        words = f"Bright where the attention lies for: {text}"
        found.append(Overlay(overlay(fit(look.image, _SIDE), values), text, "attention", words))
    return found


def tiles(report: Report) -> list[Tile]:
    """The first retrieval set's, the first referring set's and the first regions' scores."""
    found = []
    for name, entry in report.metrics.get("retrieval", {}).items():
        if "whole" in entry:
            level = f"chance {100 / int(entry.get('images', entry['pairs'])):.1f}"
            found.append(Tile(_t2i(entry, "whole"), f"T2I R@1, whole score, {name}", level))
            # A model without a part level has null for its blends.
            blends = {key: entry[key]["t2i_r1"] for key in entry if key.startswith("blend_") and entry[key]}
            if blends:
                best = max(blends, key=lambda key: blends[key])
                found.append(Tile(_t2i(entry, best), f"T2I R@1, CAFT++ {best[6:]}, {name}", level))
            break
    for name, entry in report.metrics.get("grounding", {}).items():
        if "miou" in entry:
            level = f"all objects, words ignored: {entry['miou_all_foreground']:.1f}"
            value = report.intervals.get(name, {}).get("miou", entry["miou"])
            found.append(Tile(value, f"referring mIoU, {name}", level))
            break
    regions = report.metrics.get("regions", {})
    if "easy" in regions:
        boxes: Mapping[str, int] = next(iter(report.boxes.values()), {})
        value = wilson(regions["easy"], boxes["easy"]) if boxes.get("easy") else regions["easy"]
        level = f"hard {regions['hard']:.1f}; chance {regions['easy_chance']:.1f}" if "hard" in regions else ""
        found.append(Tile(value, "region accuracy, easy", level or f"chance {regions['easy_chance']:.1f}"))
    return found


def _t2i(entry: Mapping[str, Any], score: str) -> Interval:
    return wilson(entry[score]["t2i_r1"], entry["pairs"])
