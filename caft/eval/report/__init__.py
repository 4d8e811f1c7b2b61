"""The report of a run: what was trained on what, how it scores beside chance and controls, and what it sees."""

from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup

from caft.eval.report import paper, pictures, scores, training
from caft.eval.report.content import SIDE, Report
from caft.eval.report.first import first_screen
from caft.eval.report.page import render
from caft.model.drawing.figures import fit
from caft.params import flat


def _leakage(report: Report) -> dict[str, Any]:
    sets = report.metrics.get("leakage", {}).get("sets", {})
    scored = {name: entry for name, entry in sets.items() if "images" in entry}
    corpora = next((list(entry["training_images"]) for entry in scored.values()), [])
    pairs = [(leak, fit(leak.evaluated, SIDE), fit(leak.trained, SIDE)) for leak in report.leaks]
    return {
        "scored": scored,
        "corpora": corpora,
        "counts": [f"images of {corpus}" for corpus in corpora],
        "pairs": pairs,
    }


def _settings(report: Report) -> dict[str, Any]:
    return {"settings": list(flat({key: value for key, value in report.card.items() if key != "data"}))}


# Sections in their order, each with the values that its template gets beside the report.
_SECTIONS: Mapping[str, Callable[[Report], dict[str, Any]]] = {
    "Results": scores.results,
    "Paper": paper.paper,
    "Analysis": lambda _: {},
    "Referring": pictures.referring,
    "Granularity": pictures.granularity,
    "Attention": pictures.attention,
    "Segments": pictures.segments,
    "Superpixels": pictures.superpixels,
    "Retrieval": pictures.retrieval,
    "Training": training.training,
    "Data": training.data,
    "Leakage": _leakage,
    "Settings": _settings,
}


def report_page(report: Report) -> str:
    """Returns the report as one HTML document without external requests; sections without content are left out."""
    # Of given weights, the paper's numbers are what a reader comes for.
    order = sorted(_SECTIONS, key=lambda name: name != "Paper") if report.is_given else list(_SECTIONS)
    shown = {name: content for name in order if (content := section(name, report))}
    return render("report.html", report=report, sections=shown, **first_screen(report))


def section(name: str, report: Report) -> Markup:
    """Returns one section of the page as HTML, empty if the report has nothing for it."""
    return Markup(render(f"{name.lower()}.html", report=report, **_SECTIONS[name](report)).strip())
