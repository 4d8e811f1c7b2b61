"""The README says what the committed metrics say."""

import json
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
KINDS = ("whole", "part", "blend_0.3", "blend_0.7")
CONTROLS = ("miou", "miou_wrong_expression", "miou_all_foreground", "miou_whole_image", "pointing")
LEVELS = ("hard", "medium", "easy", "trivial")


def metrics(name: str) -> Any:
    """What a metrics file has of the sets that were there."""
    content = json.loads((PROJECT / "metrics" / f"{name}.json").read_text())
    return {key: value for key, value in content.items() if not (isinstance(value, dict) and "not_run" in value)}


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def expected_rows() -> list[str]:
    rows = [
        row(f"`{name}`", *(f"{scores[kind]['i2t_r1']:.1f} / {scores[kind]['t2i_r1']:.1f}" for kind in KINDS))
        for name, scores in metrics("retrieval").items()
    ]
    rows += [
        row(f"`{name}`", *(f"{scores[control]:.1f}" for control in CONTROLS))
        for name, scores in metrics("grounding").items()
    ]
    regions = metrics("regions")
    rows.append(row("accuracy", *(f"{regions[level]:.1f}" for level in LEVELS)))
    superpixels = metrics("superpixels")
    rows.append(
        row(*(f"{superpixels[name]:.1f}" for name in ("boundary_recall", "oracle_miou", "grid_oracle_miou", "live")))
    )
    return rows


def test_results_are_those_of_the_committed_run() -> None:
    readme = (PROJECT / "README.md").read_text()
    missing = [line for line in expected_rows() if line not in readme]
    assert not missing, "README.md lacks these rows of the default run:\n" + "\n".join(missing)


def test_training_budget_is_that_of_the_committed_run() -> None:
    training = metrics("train")
    assert f"{training['steps']:,} steps" in (PROJECT / "README.md").read_text()


def interval(found: dict[str, float]) -> str:
    return f"{found['value']:.1f} ({found['low']:.1f} to {found['high']:.1f})"


def rows_of_curves() -> list[str]:
    columns = [(name, way) for name in ("random", "look_alike") for way in ("i2t", "t2i")]
    rows = []
    for name, entry in metrics("ablation")["rows"].items():
        for kind in entry["scores"]["random"].keys() - {"global"}:
            star = " *" if kind == entry["compared"] else ""
            cells = (interval(entry["scores"][place][kind][f"{way}_r1"]) for place, way in columns)
            rows.append(row(f"`{name}`, {kind}{star}", *cells, f"{entry['learning_rate']:g}"))
    fits = metrics("scaling")["fits"]
    for curve, method, kind in dict.fromkeys((fit["curve"], fit["method"], fit["score"]) for fit in fits):
        found = {(f["set"], f["direction"]): f for f in fits if (f["curve"], f["method"]) == (curve, method)}
        cells = (interval({**found[column], "value": found[column]["slope"]}) for column in columns)
        rows.append(row(f"{curve}, `{method}`, {kind}", *cells))
    return rows


def test_ablation_and_scaling_are_those_of_the_committed_runs() -> None:
    readme = (PROJECT / "README.md").read_text()
    rows = rows_of_curves()
    assert len(rows) == 11
    missing = [line for line in rows if line not in readme]
    assert not missing, "README.md lacks these rows:\n" + "\n".join(missing)


def test_an_order_is_claimed_only_if_there_is_one() -> None:
    readme = (PROJECT / "README.md").read_text()
    is_separated = any(claim["claim"] != "not separated" for claim in metrics("ablation")["order"])
    assert ("so no order is claimed" in readme) == (not is_separated)
