"""The README and the page of results say what the committed metrics say."""

import functools
import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from pipelines import committed, results

PROJECT = Path(__file__).parents[1]
README, RESULTS = PROJECT / "README.md", PROJECT / "docs/results.md"
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
        if "whole" in scores
    ]
    rows += [
        row(f"`{name}`", *(f"{scores['accuracy'][kind]['text']:.1f}" for kind in KINDS))
        for name, scores in metrics("retrieval").items()
        if "accuracy" in scores
    ]
    grounding = metrics("grounding")
    rows += [
        row(f"`{name}`", *(f"{scores[control]:.1f}" for control in CONTROLS))
        for name, scores in grounding.items()
        if "miou" in scores
    ]
    rows += [
        row(f"`{name}`", *(f"{scores['segmentation'][way]['miou']:.1f}" for way in ("value", "token", "attention")))
        for name, scores in grounding.items()
        if "segmentation" in scores
    ]
    regions = metrics("regions")
    rows.append(row("accuracy", *(f"{regions[level]:.1f}" for level in LEVELS)))
    superpixels = metrics("superpixels")
    rows.append(
        row(*(f"{superpixels[name]:.1f}" for name in ("boundary_recall", "oracle_miou", "grid_oracle_miou", "live")))
    )
    return rows


def test_results_are_those_of_the_committed_run() -> None:
    lines = RESULTS.read_text().splitlines()
    missing = [line for line in expected_rows() if line not in lines]
    assert not missing, "docs/results.md lacks these rows of the default run:\n" + "\n".join(missing)


def test_training_budget_is_that_of_the_committed_run() -> None:
    training = metrics("train")
    assert f"{training['steps']:,} steps" in RESULTS.read_text()


def test_what_the_readme_shows_is_what_make_repro_ends_with() -> None:
    blocks = re.findall(r"^```text\n(.*?)^```", README.read_text(), re.S | re.M)
    (block,) = blocks
    *compared, report, files, experiments = block.splitlines()
    weights = metrics("train")["weights"]
    assert compared == [
        *(f"weights:     {path} {weights[path.stem]} as committed" for path in committed.WEIGHTS),
        "metrics:     as committed",
    ]
    makefile = (PROJECT / "Makefile").read_text()
    assert all(f'@echo "{line}"' in makefile for line in (report, files, experiments))


# ---- seeds


def over_seeds(key: str) -> str:
    """Mean and standard deviation of a score over the seeds."""
    values = json.loads((PROJECT / "metrics/seeds.json").read_text())["scores"][key]
    return f"{statistics.mean(values):.1f} \u00b1 {statistics.stdev(values):.1f}"


def rows_over_seeds() -> list[str]:
    rows = [
        row(f"`{name}` {way}", *(over_seeds(f"retrieval/{name}/{kind}/{key}") for kind in KINDS))
        for name in ("random", "look_alike")
        for way, key in (("I2T", "i2t_r1"), ("T2I", "t2i_r1"))
    ]
    wanted = ("miou", "miou_wrong_expression", "pointing")
    rows += [
        row(f"`{name}`", *(over_seeds(f"grounding/{name}/{key}") for key in wanted))
        for name, scores in metrics("grounding").items()
        if "miou" in scores
    ]
    return [*rows, row("accuracy", *(over_seeds(f"regions/{level}") for level in LEVELS))]


@pytest.mark.parametrize("page", [README, RESULTS], ids=str)
def test_printed_figures_are_means_over_seeds(page: Path) -> None:
    lines = page.read_text().splitlines()
    missing = [line for line in rows_over_seeds() if line not in lines]
    assert not missing, f"{page} lacks these rows:\n" + "\n".join(missing)


def test_printed_figures_by_kind_are_means_over_seeds() -> None:
    lines = RESULTS.read_text().splitlines()
    for kind in metrics("retrieval")["look_alike"]["by_kind"]:
        keys = [f"{score}/{way}_r1" for score in ("whole", "blend_0.7") for way in ("i2t", "t2i")]
        cells = (over_seeds(f"retrieval/look_alike/by_kind/{kind}/{key}/value") for key in keys)
        assert row(kind, *cells) in lines


def test_the_committed_run_is_the_first_of_the_seeds() -> None:
    scores = json.loads((PROJECT / "metrics/seeds.json").read_text())["scores"]
    for key, values in scores.items():
        name, *path = key.split("/")
        found = functools.reduce(lambda table, part: table[part], path, metrics(name))
        assert found == values[0], key


def test_how_far_a_single_run_lies_from_the_mean() -> None:
    values = json.loads((PROJECT / "metrics/seeds.json").read_text())["scores"]["retrieval/random/whole/t2i_r1"]
    first, mean = values[0], statistics.mean(values)
    spread = f"lies between {min(values):.1f} and {max(values):.1f}, the committed one at {first:.1f}"
    line = f"of these five runs `random` whole T2I {spread}"
    assert line in " ".join(README.read_text().split()) and min(values) < mean < max(values)


def test_the_readme_is_short_and_names_every_page() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 130
    pages = [*(PROJECT / "docs").glob("*.md"), *PROJECT.glob("*.md"), PROJECT / "CITATION.cff"]
    pages += [PROJECT / folder / "README.md" for folder in ("benchmarks", "data", "data/benchmarks", "slurm")]
    names = {page.relative_to(PROJECT).as_posix() for page in pages} - {"README.md"}
    linked = {target.split("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text)}
    assert not names - linked


def interval(found: dict[str, float]) -> str:
    return f"{found['value']:.1f} ({found['low']:.1f} to {found['high']:.1f})"


def rows_of_earlier_code() -> list[str]:
    """What metrics/ has of the ablation and of scaling, as long as it is of the code before they were designed anew."""
    columns = [(name, way) for name in ("random", "look_alike") for way in ("i2t", "t2i")]
    rows = []
    for name, entry in metrics("ablation")["rows"].items() if "contrasts" not in metrics("ablation") else ():
        for kind in entry["scores"]["random"].keys() - {"global"}:
            star = " *" if kind == entry["compared"] else ""
            cells = (interval(entry["scores"][place][kind][f"{way}_r1"]) for place, way in columns)
            rows.append(row(f"`{name}`, {kind}{star}", *cells, f"{entry['learning_rate']:g}"))
    fits = metrics("scaling")["fits"] if "contrasts" not in metrics("scaling") else []
    for curve, method, kind in dict.fromkeys((fit["curve"], fit["method"], fit["score"]) for fit in fits):
        found = {(f["set"], f["direction"]): f for f in fits if (f["curve"], f["method"]) == (curve, method)}
        cells = (interval({**found[column], "value": found[column]["slope"]}) for column in columns)
        rows.append(row(f"{curve}, `{method}`, {kind}", *cells))
    return rows


@pytest.mark.parametrize("page", [README, RESULTS], ids=str)
def test_ablation_scaling_and_the_form_of_the_loss_are_what_was_measured(page: Path) -> None:
    text = page.read_text()
    assert results.written(text, PROJECT / "metrics") == text, "run `python -m pipelines.results`"


def test_what_is_of_earlier_code_says_so_and_is_what_was_measured_then() -> None:
    lines = RESULTS.read_text().splitlines()
    missing = [line for line in rows_of_earlier_code() if line not in lines]
    assert not missing, "docs/results.md lacks these rows:\n" + "\n".join(missing)
    old = [name for name in ("ablation", "scaling") if "contrasts" not in metrics(name)]
    assert RESULTS.read_text().count("**run with earlier code**") == len(old)


def test_the_places_of_a_page_are_filled_from_new_metrics_alone(tmp_path: Path) -> None:
    from caft.eval.analysis.ablation import summarize
    from tests.test_curves import COMPARED, NEIGHBOURS, rows

    before = RESULTS.read_text()
    marks = [f"<!-- {'end of ' * end}{place}{'' if end else ': by python -m pipelines.results'} -->"
             for place in ("ablation", "scaling", "batches") for end in (0, 1)]  # fmt: skip
    assert all(before.count(mark) == 1 for mark in marks)
    assert results.written(before, tmp_path) == before  # nothing has run
    summary = summarize(rows(), COMPARED, NEIGHBOURS)
    (tmp_path / "ablation.json").write_text(json.dumps(summary))
    after = results.written(before, tmp_path)
    # Of the three places one is new; all around it stays.
    assert (
        after.split(marks[0])[0] == before.split(marks[0])[0] and after.split(marks[1])[1] == before.split(marks[1])[1]
    )
    for line in summary["differences"]:
        assert line["claim"] in after
    assert "`visual_hierarchy` against `flair`, conditioned" in after and results.written(after, tmp_path) == after
