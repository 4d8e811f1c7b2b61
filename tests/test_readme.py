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
