"""The model card says what the model's facts are, and nothing that is not one."""

import json

from caft.model.card import render

DATA = [{"name": "cc3m", "count": 2_823_019, "fingerprint": "ab" * 32, "manifest": "cd" * 32, "first": 0}]


def tables(markdown):
    """Rows of every table, as lists of cells without the header's rule."""
    rows = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("|")]
    return [row for row in rows if set("".join(row)) != {"-", "|", " "}]


def test_every_number_of_a_trained_models_card_is_there(model):
    card = {
        **model.card, "model": model.config.model_dump(mode="json"), "data": DATA, "seed": 3,
        "recipe": {"batch": 48, "loss": {"part": 1.0}, "betas": [0.9, 0.98], "epochs": None},
    }  # fmt: skip
    text = render(card, {"train": {"steps": 1250, "losses": {"loss": 8.08}, "images_per_s": 213.4}})
    rows = tables(text)
    for row in (
        ["image_size", "64"],
        ["text.context", "77"],
        ["tokens", "64, 32, 16, 8"],
        ["cc3m", "2,823,019", "`" + "ab" * 8 + "`"],
        ["splitter", "dreamlip"],
        ["loss.part", "1.0"],
        ["betas", "0.9, 0.98"],
        ["seed", "3"],
        ["steps", "1250"],
        ["losses.loss", "8.08"],
    ):
        assert row in rows
    # Not used by the recipe; the machine's speed.
    assert not any(row[0] in ("epochs", "images_per_s") for row in rows)
    assert text.startswith("# CAFT model `0123456789abcdef`\n") and "`train` stage" in text
    assert "Not with this card: `dvc repro` writes them" in text and "data/README.md" in text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(headings) == len(set(headings)) == 7


def test_scores_are_those_of_the_metrics_files(model):
    card = {**model.card, "model": {}}
    recall = {"i2t_r1": 42.58, "t2i_r1": 43.36}
    metrics = {
        "retrieval": {"a": {"pairs": 256, "whole": recall, "part": None}, "b": {"not_run": "no files"}},
        "grounding": {"c": {"expressions": 9, "miou": 58.76, "miou_wrong_expression": 5.49, "pointing": 81.01}},
        "regions": {"hard": 17.33, "trivial": 74.0, "rows": 600},
    }
    rows = tables(render(card, metrics))
    assert ["a", "256", "42.6 / 43.4"] in rows and not any(row[0] == "b" for row in rows)
    assert ["c", "9", "58.8", "5.5", "-", "81.0"] in rows
    assert ["", "hard", "trivial"] in rows or ["hard", "trivial"] in rows
    assert ["accuracy", "17.3", "74.0"] in rows


def test_given_weights_say_where_they_are_from_and_no_more():
    text = render({"model": {"image_size": 224}, "source": "release.pt", "fingerprint": "f" * 16})
    assert "weights that were given: `release.pt`" in text
    assert "## Recipe" not in text and "## Training run" not in text
    assert "Not recorded with these weights" in text


def test_a_card_goes_through_json_unchanged(model):
    card = {**model.card, "model": model.config.model_dump(mode="json")}
    assert render(json.loads(json.dumps(card))) == render(card)
