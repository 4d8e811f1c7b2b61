"""The ledger of claims: the page is the rendered file, its numbers are those of the metrics, its counts those of a hand."""

import json
from pathlib import Path

import pytest

from benchmarks.text_length import ratios
from caft.errors import DataError
from caft.eval.paper.claims import STATUSES, Claim, claims_page, read_claims
from pipelines.claims import page

PROJECT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def in_project(monkeypatch):
    monkeypatch.chdir(PROJECT)


def test_the_page_is_what_the_command_writes():
    assert (PROJECT / "docs/claims.md").read_text() == page(), "run `python -m pipelines.claims`"


def test_every_claim_has_a_command_that_is_there_and_its_numbers():
    claims = read_claims(PROJECT / "docs/claims.yaml")
    assert {claim.status for claim in claims} == set(STATUSES)
    for claim in claims:
        words = claim.command.split()
        if words[1] == "-m":
            assert (PROJECT / words[2].replace(".", "/")).with_suffix(".py").is_file(), claim.command
        for word in words:
            assert not word.endswith(".yaml") or (PROJECT / word).is_file(), claim.command
    grounding = json.loads((PROJECT / "metrics/grounding.json").read_text())["phrase"]
    assert f"mIoU of phrases {grounding['miou']:.1f};" in page()


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
    claim = {"claim": "c", "section": "1", "command": "x", "status": "seen on scenes", "seen": "{retrieval[none]}"}
    path.write_text(json.dumps([{**claim, "status": "proved"}]))
    with pytest.raises(DataError, match="claim 1: status: Input should be 'seen on scenes', 'counted' or 'not run'"):
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
