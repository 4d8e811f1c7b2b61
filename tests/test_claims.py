"""The ledger of claims: the page is the rendered file, its numbers are those of the metrics, its counts those of a hand."""

import json
from pathlib import Path

import pytest

from benchmarks.text_length import ratios
from caft.errors import DataError
from caft.eval.paper.claims import Claim, Need, claims_page, judge, read_claims
from pipelines.claims import page

PROJECT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def in_project(monkeypatch):
    monkeypatch.chdir(PROJECT)


def test_the_page_is_what_the_command_writes():
    assert (PROJECT / "docs/claims.md").read_text() == page(), "run `python -m pipelines.claims`"


def test_every_claim_has_a_command_that_is_there_and_its_numbers():
    claims = read_claims(PROJECT / "docs/claims.yaml")
    for claim in claims:
        words = claim.command.split()
        if words[1] == "-m":
            assert (PROJECT / words[2].replace(".", "/")).with_suffix(".py").is_file(), claim.command
        for word in words:
            assert not word.endswith(".yaml") or (PROJECT / word).is_file(), claim.command
    found = json.loads((PROJECT / "metrics/superpixels.json").read_text())
    assert f"oracle_miou {found['oracle_miou']:.1f} ({found['intervals']['oracle_miou']['low']:.1f} to " in page()


# ---- the rule


def entry(low: float | None, high: float | None, **where: str | int) -> dict[str, object]:
    return {"set": "random", "direction": "t2i", **where, "value": 3.0, "low": low, "high": high}


def claim_of(*needs: Need) -> Claim:
    return Claim(claim="c", section="1", command="x", needs=list(needs), seen="")


ROWS = {"first": "a", "second": "b"}


@pytest.mark.parametrize(
    ("lies", "ends", "status"),
    [
        ("above", [(0.5, 6.0)], "supported"),
        ("above", [(0.5, 6.0), (-0.5, 6.0)], "not supported"),  # all of them must
        ("above", [(-6.0, -0.5)], "not supported"),
        ("above", [(None, None)], "not supported"),  # one seed says nothing
        ("below", [(-6.0, -0.5)], "supported"),
        ("below", [(-6.0, 0.5)], "not supported"),
        (5.0, [(-4.0, 4.9)], "supported"),
        (5.0, [(-1.0, 5.1)], "not supported"),  # not being separated from zero is not being similar
    ],
)
def test_a_status_follows_from_all_intervals(lies, ends, status):
    need = Need(file="ablation", entries="differences", where=ROWS, lies=lies)
    others = [entry(1.0, 2.0, first="a", second="c"), entry(-2.0, -1.0, first="c", second="b")]
    content = {"differences": [*others, *(entry(low, high, **ROWS) for low, high in ends)]}
    found, figures = judge(claim_of(need), {"ablation": content})
    assert found == status and len(figures) == len(ends)
    if ends[0] == (0.5, 6.0):
        assert figures[0] == "`a` minus `b` T2I on random 3.0 (0.5 to 6.0)"


def test_a_claim_of_several_rules_and_one_that_was_not_run():
    first = Need(file="ablation", entries="contrasts", where={"set": ["random", "other"]}, lies="above")
    second = Need(file="superpixels", entries=["ours", "grid"], lies="above")
    numbers = {
        "ablation": {"contrasts": [entry(1.0, 2.0)]},
        "superpixels": {
            "ours": 70.0,
            "grid": 50.0,
            "intervals": {"ours": {"low": 69.0, "high": 71.0}, "grid": {"low": 49.0, "high": 51.0}},
        },
    }
    assert judge(claim_of(first, second), numbers)[0] == "supported"
    numbers["superpixels"]["intervals"]["grid"]["high"] = 69.5  # the two have values in common
    assert judge(claim_of(first, second), numbers)[0] == "not supported"
    assert judge(claim_of(first, second), {**numbers, "ablation": {"rows": {}}}) == ("not run yet with this code", [])
    assert judge(claim_of(first), {})[0] == "not run yet with this code"
    of_rows = Need(file="ablation", entries="contrasts", where={"row": ["a", "later"]}, lies="above")
    half = {"ablation": {"rows": {"a": {}}, "contrasts": [{**entry(1.0, 2.0), "row": "a"}]}}
    assert judge(claim_of(of_rows), half) == ("not run yet with this code", [])
    assert judge(claim_of(), {}) == ("cannot be tested here", [])
    assert judge(claim_of(Need(file="text", entries=["4x77"], lies="below")), {"text": {"4x77": 0.8}})[0] == "supported"
    absent = Need(file="ablation", entries="contrasts", where={"set": "none"}, lies="above")
    with pytest.raises(DataError, match="'c': ablation contrasts has no entry where"):
        judge(claim_of(absent), numbers)


def test_every_rule_of_the_ledger_finds_its_entries_once_the_graphs_have_run():
    """On synthetic points of all rows: names of rows, scores and sets in the ledger are those of the summaries."""
    from caft.eval.analysis import ablation, batches, scaling
    from caft.eval.analysis.paired import STEPS
    from tests.test_curves import COMPARED, METHODS, NEIGHBOURS, curve, rows, runs_of

    def with_sets(points):
        for point in points:
            for place in (point["scores"], point["items"]["retrieval"]):
                place["look_alike"] = place["random"]
        return points

    pairs = [*NEIGHBOURS, ("hierarchical_loss", "flair")]
    runs = {row: with_sets(points) for row, points in rows().items()}
    forms = {f"{form}-{batch}": runs_of({"whole": (0.5, 0.5)}) for form in batches.FORMS for batch in (16, 256)}
    points = with_sets(curve((0.2, 0.4, 0.6), (0.1, 0.3, 0.5)))
    numbers = {
        "ablation": ablation.summarize(runs, COMPARED, pairs),
        "batches": batches.summarize(forms, [16, 256]),
        "scaling": scaling.summarize({"equal epochs": points}, METHODS)[0],
        "superpixels": json.loads((PROJECT / "metrics/superpixels.json").read_text()),
        "text": ratios(),
    }
    claims = read_claims(PROJECT / "docs/claims.yaml")
    found = {claim.claim: judge(claim, numbers)[0] for claim in claims}
    assert "not run yet with this code" not in found.values()
    # Five points of 40 queries are not separated; fifty are.
    assert found["The part score, mixed into the whole score, helps without training again"] == "not supported"
    assert found["CAFT is better than FLAIR trained on the same data"] == "supported"
    found_in_each = (
        "Texts find their object in an image though no mask was ever trained on, in each row from FLAIR to CAFT"
    )
    assert found[found_in_each] == "supported"
    assert found["Without the part-level loss the whole score is worse, too"] == "supported"
    assert found["The sigmoid loss is steadier than softmax at small batches"] == "not supported"
    assert found["CAFT gains from more data at a similar slope as FLAIR, at a higher level"] == "supported"
    assert "## Not run yet" not in claims_page(claims, numbers)
    # What is asked of each row fails with any of them.
    claim = next(claim for claim in claims if claim.claim == found_in_each)
    for row in STEPS:
        entries = [
            entry | ({"low": -1.0} if (entry.get("row"), entry["of"]) == (row, "margin") else {})
            for entry in numbers["ablation"]["contrasts"]
        ]
        worse = {"ablation": {**numbers["ablation"], "contrasts": entries}}
        status, figures = judge(claim, worse)
        assert status == "not supported" and len(figures) == len(STEPS) == 4


def test_a_longer_text_is_counted_as_by_hand():
    # A block of width 512: 24 W^2 operations a token, and 4 W for each pair of tokens; twelve of them, or eight.
    def blocks(layers, tokens):
        return layers * (24 * 512**2 * tokens + 4 * 512 * tokens**2)

    project = 2 * 512 * 512
    long = blocks(12, 248) + project
    assert long / 1e9 == pytest.approx(20.2, abs=0.05)
    whole = blocks(4, 5) + 4 * 4 * 512 * 341 + project
    for texts, tokens in ((8, 77), (8, 25), (4, 77)):
        expected = (texts * (blocks(8, tokens) + project) + whole) / long
        assert ratios()[f"{texts}x{tokens}"] == pytest.approx(expected, rel=1e-3)


def test_what_is_wrong_is_said(tmp_path):
    path = tmp_path / "claims.yaml"
    claim = {"claim": "c", "section": "1", "command": "x", "seen": "{retrieval[none]}"}
    path.write_text(json.dumps([{**claim, "status": "supported"}]))  # by hand
    with pytest.raises(DataError, match="claim 1: status: Extra inputs are not permitted"):
        read_claims(path)
    path.write_text(json.dumps([claim, {**claim, "section": 3.1}]))
    with pytest.raises(DataError, match="claim 2: section: Input should be a valid string"):
        read_claims(path)
    path.write_text(json.dumps([{**claim, "proof": "none"}]))
    with pytest.raises(DataError, match="claim 1: proof: Extra inputs are not permitted"):
        read_claims(path)
    path.write_text(json.dumps({"claim": claim}))
    with pytest.raises(DataError, match="the file: Input should be a valid list"):
        read_claims(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_claims(tmp_path / "none.yaml")
    with pytest.raises(DataError, match="'c' names a number that was not measured: 'none'"):
        claims_page([Claim(**claim)], {"retrieval": {}})
