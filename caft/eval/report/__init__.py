"""The report of a run: what was trained on what, how it scores beside chance and controls, and what it sees."""

from collections.abc import Iterator, Mapping
from typing import Any

from caft.eval.report import analysis, data, leakage, paper, pictures, scores, training
from caft.eval.report.content import Report
from caft.eval.report.page import page, safe, table


def render(report: Report) -> str:
    """Returns the report as one HTML document without external requests."""
    sections = [
        ("Results", scores.results(report)),
        ("Paper", paper.paper(report)),
        ("Analysis", analysis.analysis(report)),
        ("Referring", pictures.referring(report)),
        ("Granularity", pictures.granularity(report)),
        ("Attention", pictures.attention(report)),
        ("Segments", pictures.segments(report)),
        ("Superpixels", pictures.superpixels(report)),
        ("Retrieval", pictures.retrieval(report)),
        ("Training", training.curves(report)),
        ("Data", data.data(report)),
        ("Leakage", leakage.leakage(report)),
        ("Settings", _settings(report)),
    ]
    shown = [(name, content) for name, content in sections if content]
    links = "".join(f'<a href="#{name.lower()}">{name}</a>' for name, _ in shown)
    body = _opening(report) + f"<nav>{links}</nav>\n" + _tiles(report)
    for name, content in shown:
        body += f'<section id="{name.lower()}">\n{content}</section>\n'
    return page("CAFT: report of a run", body)


def _opening(report: Report) -> str:
    corpora = ", ".join(report.metrics.get("data", {})) or "data that this project did not train on"
    train = report.metrics.get("train", {})
    trained = f", {train['steps']:,} steps, {train['samples']:,} samples" if "steps" in train else ""
    fingerprint, given = safe(str(report.card.get("fingerprint", ""))), report.card.get("name")
    what = f"{safe(str(given))}, sha256 {fingerprint}" if given else f"Run {fingerprint}"
    return (
        "<h1>CAFT: forest and trees, aligned</h1>\n"
        f'<p class="soft">{what} on {safe(corpora)}{trained}. '
        "All scores are in percent. Grey rows are levels that need no skill: chance, or a control that ignores the "
        "words.</p>\n"
    )


def _tiles(report: Report) -> str:
    """The few numbers to remember, each with what it has to beat."""
    tiles = []
    for name, entry in report.metrics.get("retrieval", {}).items():
        if "whole" in entry:
            level = f"chance {100 / entry.get('images', entry['pairs']):.1f}"
            tiles.append((entry["whole"]["t2i_r1"], f"T2I R@1, whole score, {name}", level))
            # A model without a part level has null for its blends.
            blends = {key: entry[key]["t2i_r1"] for key in entry if key.startswith("blend_") and entry[key]}
            if blends:
                best = max(blends, key=lambda key: blends[key])
                tiles.append((blends[best], f"T2I R@1, CAFT++ {best[6:]}, {name}", level))
            break
    for name, entry in report.metrics.get("grounding", {}).items():
        if "miou" in entry:
            level = entry["miou_all_foreground"]
            tiles.append((entry["miou"], f"referring mIoU, {name}", f"all objects, words ignored: {level:.1f}"))
            break
    regions = report.metrics.get("regions", {})
    if "easy" in regions:
        tiles.append((regions["easy"], "region accuracy, easy", f"chance {regions['easy_chance']:.1f}"))
    cells = "".join(
        f'<div class="tile"><b>{value:.1f}</b>{safe(what)}<span>{safe(level)}</span></div>'
        for value, what, level in tiles
    )
    return f'<div class="tiles">{cells}</div>\n' if cells else ""


def _settings(report: Report) -> str:
    rows = [[key, value] for key, value in _flat("", {k: v for k, v in report.card.items() if k != "data"})]
    inner = table(["key", "value"], rows)
    return (
        "<h2>Settings</h2>\n<p>What the model was trained with; params.yaml says where in the paper each value stands.</p>\n"
        f"<details><summary>All {len(rows)} values</summary>\n{inner}</details>\n"
    )


def _flat(prefix: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield prefix + key, str(value)
