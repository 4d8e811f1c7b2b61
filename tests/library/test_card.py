"""The model card says what the model's facts are, and nothing that is not one."""

import json
import re

import pytest
from torch import nn

from caft.errors import CheckpointError
from caft.model.card import ModelCard
from caft.model.card_page import render, saw_scenes_alone
from caft.weights.files import read_card, save_model
from caft.weights.load import load

DATA = [{"name": "cc3m", "count": 2_823_019, "fingerprint": "ab" * 32, "manifest": "cd" * 32, "first": 0}]


def tables(markdown):
    """Rows of every table, as lists of cells without the header's rule."""
    rows = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("|")]
    return [row for row in rows if set("".join(row)) != {"-", "|", " "}]


def test_every_number_of_a_trained_models_card_is_there(model):
    facts = {
        **model.card.record(), "data": DATA, "seed": 3,
        "recipe": {"batch": 48, "loss": {"part": 1.0}, "betas": [0.9, 0.98], "epochs": None},
    }  # fmt: skip
    text = render(
        ModelCard.model_validate(facts, strict=False),
        {"train": {"steps": 1250, "losses": {"loss": 8.08}, "images_per_s": 213.4}},
    )
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
    recall = {"i2t_r1": 42.58, "t2i_r1": 43.36}
    metrics = {
        "retrieval": {"a": {"pairs": 256, "whole": recall, "part": None}, "b": {"not_run": "no files"}},
        "grounding": {"c": {"expressions": 9, "miou": 58.76, "miou_wrong_expression": 5.49, "pointing": 81.01}},
        "regions": {"hard": 17.33, "trivial": 74.0, "rows": 600},
    }
    rows = tables(render(model.card, metrics))
    assert ["a", "256", "42.6 / 43.4"] in rows and not any(row[0] == "b" for row in rows)
    assert ["c", "9", "58.8", "5.5", "-", "81.0"] in rows
    assert ["", "hard", "trivial"] in rows or ["hard", "trivial"] in rows
    assert ["accuracy", "17.3", "74.0"] in rows


def test_given_weights_say_where_they_are_from_and_no_more(model):
    text = render(model.card.model_copy(update={"source": "release.pt"}))
    assert "weights that were given: `release.pt`" in text
    assert "## Recipe" not in text and "## Training run" not in text
    assert "Not recorded with these weights" in text


def test_a_training_from_given_weights_says_so(model):
    """What it was fine-tuned on is not all that the weights saw, nor all whose terms bind them."""
    facts = {**model.card.record(), "data": [{**DATA[0], "name": "scenes"}], "recipe": {"batch": 48}}
    drawn, given = (
        ModelCard.model_validate(facts | more, strict=False) for more in ({}, {"init": {"sha256": "e" * 64}})
    )
    assert "started from given weights" not in render(drawn) and saw_scenes_alone(drawn)
    assert f"started from given weights, a file of sha256 `{'e' * 64}`" in render(given) and not saw_scenes_alone(given)


def test_weights_may_be_read_by_whoever_may_read_their_card(model, tmp_path):
    save_model(model.network, tmp_path / "caft.safetensors", model.card)
    (card, weights) = (path.stat().st_mode for path in sorted(tmp_path.iterdir()))
    assert weights == card


def test_equal_weights_are_equal_files_whatever_their_card(model, tmp_path):
    for name, card in (("one", model.card), ("two", model.card.model_copy(update={"name": "another"}))):
        save_model(model.network, tmp_path / f"{name}.safetensors", card)
    content = (tmp_path / "one.safetensors").read_bytes()
    assert content == (tmp_path / "two.safetensors").read_bytes()
    assert "__metadata__" not in json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def test_a_card_of_an_older_or_newer_version_goes_through_a_file_unchanged(model, tmp_path):
    """Facts that this version does not know are kept; what nobody recorded is not written."""
    record = {**model.card.record(), "data": DATA, "recipe": {"an_old_key": [1, None]}, "subset": {"fraction": 0.5}}
    path = tmp_path / "model.json"
    path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    card = read_card(tmp_path / "model.safetensors")
    assert card.sizes == model.network.config and card.data[0].name == "cc3m"
    written = path.read_bytes()
    save_model(nn.Linear(1, 1), tmp_path / "model.safetensors", card)
    assert path.read_bytes() == written


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "is not a model's card (content: Input should be a valid dictionary"),
        (
            '{"splitter": "nltk", "chunks": 4}',
            "(splitter: Input should be 'spacy' or 'dreamlip'; balanced_rule: Field ",
        ),
        ("{", "is not JSON (Expecting property name"),
    ],
)
def test_a_file_that_is_not_a_card_is_named_with_what_is_wrong(tmp_path, content, message):
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(CheckpointError, match=re.escape(message)) as raised:
        read_card(tmp_path / "model.safetensors")
    assert str(raised.value).startswith(f"{tmp_path}/model.json: ") and "restore the file that came" in str(
        raised.value
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunks": "four"}, "chunks: Input should be a valid integer"),
        ({"chunks": None}, "found chunks = None"),
        ({"splitter": None, "chunks": 0, "balanced_rule": 3}, "found splitter = None, chunks = 0, balanced_rule = 3"),
        ({"model": []}, "found model = []"),
        ({"model": {}}, "model.image_size: Field required"),
        ({"data": "cc3m"}, "data: Input should be a valid tuple"),
    ],
)
def test_what_is_wrong_in_a_card_is_said_with_what_was_found(model, tmp_path, change, message):
    (tmp_path / "model.json").write_text(json.dumps({**model.card.record(), **change}))
    with pytest.raises(CheckpointError, match=re.escape(message)) as raised:
        read_card(tmp_path / "model.safetensors")
    assert str(raised.value).startswith(f"{tmp_path}/model.json: is not a model's card (")
    assert "pydantic" not in str(raised.value) and len(str(raised.value).splitlines()) == 1


def test_a_card_whose_sizes_make_no_model_says_the_rule(model, tmp_path):
    record = model.card.record()
    record["model"]["heads"] = 7
    (tmp_path / "model.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=r"model.heads.*must divide the width 64"):
        read_card(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty (0 bytes)"), (b"\xff\xfe\x00", "is not a text in UTF-8"), (b"[" * 100_000, "is not JSON")],
)
def test_a_card_that_is_no_text_is_named(tmp_path, content, message):
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(message)):
        read_card(tmp_path / "model.safetensors")


def test_a_card_with_a_byte_order_mark_is_read_and_a_folder_is_none(model, tmp_path):
    (tmp_path / "model.json").write_text(json.dumps(model.card.record()), encoding="utf-8-sig")
    assert read_card(tmp_path / "model.safetensors") == model.card
    (tmp_path / "other.json").mkdir()
    with pytest.raises(CheckpointError, match="other.json: cannot be read"):
        read_card(tmp_path / "other.safetensors")


def test_a_card_without_sizes_names_its_file(model, model_file, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(model_file.read_bytes())
    record = {key: value for key, value in model.card.record().items() if key != "model"}
    (tmp_path / "model.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=f"{tmp_path}/model.json: has no sizes"):
        load(tmp_path / "model.safetensors")
