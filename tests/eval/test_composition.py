"""Accuracies of composition suites against their publishers' own scripts, plain loops, and a model asked one by one."""

from itertools import permutations

import numpy as np
import pytest
import torch
from PIL import Image

from caft.captions.chunking import caption_chunks
from caft.captions.tokenizer import encode, pad
from caft.data.sets import CompositionSet, Question, View, load_composition
from caft.eval.scores import composition
from caft.eval.scores.composition import accuracies, chances, score_composition
from caft.params import load_params
from caft.params.sets import BenchmarkParams
from caft.transforms import center_crop
from tests.data.published import write_aro, write_winoground

SETTINGS = load_params("params.yaml").evaluation


def with_ties(number, seed):
    """Scores of one picture with a true and a false caption, which are equal in a quarter of the cases."""
    return np.random.default_rng(seed).integers(0, 4, (number, 1, 2)).astype(np.float32)


# The values below are what the scripts gave, run on these very scores: `evaluate` of SugarCrepe's main_eval.py (95c4548);
# `evaluate_scores` of ARO's aro_datasets.py (09e1fcf) and the mean of its notebook; the three functions of Winoground's
# notebook.


def test_sugar_crepes_script_gives_the_same():
    categories = ["add_obj"] * 40 + ["replace_att"] * 25 + ["swap_obj"] * 15
    found = accuracies(with_ties(80, 0), categories, ("add_obj", "replace_att", "swap_obj"))
    theirs = {"add_obj": 40.0, "replace_att": 52.0, "swap_obj": 26.666666666666666}
    assert {name: entry["text"] for name, entry in found["by_category"].items()} == pytest.approx(theirs)
    assert found["text_macro"] == pytest.approx((40 + 52 + 80 / 3) / 3)
    assert found["text"] == pytest.approx(100 * (16 + 13 + 4) / 80) and found["tied"] > 10


def test_aros_script_gives_the_same():
    rng = np.random.default_rng(1)
    relations = [("on", "near", "holding", "standing next to", "behind")[place] for place in rng.integers(0, 5, 400)]
    found = accuracies(with_ties(400, 2), relations, ("behind", "holding", "on"))
    theirs = {
        "behind": 0.3793103448275862, "holding": 0.3875, "near": 0.4523809523809524, "on": 0.4117647058823529,
        "standing next to": 0.38271604938271603,
    }  # fmt: skip
    assert {name: entry["text"] / 100 for name, entry in found["by_category"].items()} == pytest.approx(theirs)
    assert found["text_macro"] == pytest.approx(100 * 0.39285835023664645)


def test_winogrounds_functions_give_the_same():
    scores = np.random.default_rng(3).integers(0, 6, (400, 2, 2))  # of views and captions
    found = accuracies(scores, ["Object"] * 400)
    assert {key: found[key] * 4 for key in ("text", "image", "group")} == {"text": 66, "image": 65, "group": 41}
    assert "text_macro" not in found


@pytest.mark.parametrize("views, captions", [(1, 2), (1, 5), (2, 2)])
def test_any_form_is_a_plain_loop(views, captions):
    rng = np.random.default_rng(views + captions)
    scores = rng.integers(0, 7, (60, views, captions))
    categories = [("a", "b")[place] for place in rng.integers(0, 2, 60)]
    text, image, tied = [], [], 0
    for matrix in scores:
        wrong = [(matrix[v, v], matrix[v, c]) for v in range(views) for c in range(captions) if c != v]
        other = [(matrix[c, c], matrix[v, c]) for c in range(views) for v in range(views) if v != c]
        text.append(all(right > false for right, false in wrong))
        image.append(all(right > false for right, false in other))
        tied += any(right == false for right, false in [*wrong, *other])
    found = accuracies(scores, categories)
    assert found["text"] == pytest.approx(100 * np.mean(text)) and found["tied"] == tied > 0
    if views > 1:
        assert found["image"] == pytest.approx(100 * np.mean(image))
        assert found["group"] == pytest.approx(100 * np.mean([a and b for a, b in zip(text, image, strict=True)]))
    else:
        assert "image" not in found and "group" not in found
    of_a = [hit for hit, category in zip(text, categories, strict=True) if category == "a"]
    assert found["by_category"]["a"]["text"] == pytest.approx(100 * np.mean(of_a))


def test_chances_are_those_of_all_orders():
    for views, captions in ((1, 2), (1, 3), (2, 2)):
        orders = np.array(list(permutations(range(views * captions)))).reshape(-1, views, captions)
        found = accuracies(orders, ["all"] * len(orders))
        assert chances(views, captions) == pytest.approx({key: found[key] for key in chances(views, captions)})
    with pytest.raises(ValueError, match="3 views and 3 captions"):
        chances(3, 3)


def test_scores_that_are_none_are_refused():
    with pytest.raises(ValueError, match="1 of 4 are NaN"):
        accuracies([[[1.0, float("nan")]], [[1.0, 2.0]]], ["a", "a"])
    for scores, categories in (([[1.0]], ["a"]), ([[[1.0, 2.0]]], ["a", "b"]), ([[[1.0], [2.0]]], ["a"])):
        with pytest.raises(ValueError, match="expected scores"):
            accuracies(scores, categories)


# ---------------------------------------------------------------------- a model


def one_by_one(model, view, caption):
    """Whole score, part score and their logits without bias, of one picture with one caption."""
    network, card = model.network, model.card
    picture = view.picture if view.box else Image.open(view.path).convert("RGB")
    chunks = caption_chunks(caption, card.splitter, card.chunks, card.balanced_rule)
    with torch.no_grad():
        image = network.image_features(center_crop(picture, network.image_size)[None])
        whole, parts = network.text_features(pad([encode(chunk) for chunk in chunks], network.context)[None])
        scale, bias = (value.detach() for value in network.temperature("whole"))
        part_bias = float(network.temperature("part")[1].detach())
        logit = float(scale.exp() * (image.whole @ whole.T) + bias)
        part = float(network.part_logits(image.part, parts[0]).mean())
    return logit, part, logit - float(bias), part - part_bias


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suites")
    write_aro(folder / "aro")
    write_winoground(folder / "winoground")
    relation = {"layout": "aro", "path": str(folder / "aro"), "name": "visual_genome_relation"}
    entries = {"aro": relation, "winoground": {"layout": "winoground", "path": str(folder / "winoground")}}
    return {name: load_composition(BenchmarkParams(kind="composition", **entry)) for name, entry in entries.items()}


@pytest.mark.parametrize("name", ["aro", "winoground"])
@pytest.mark.parametrize("space", ["logit", "cosine"])
def test_a_model_is_asked_as_one_picture_and_one_caption_at_a_time(model, sets, name, space, monkeypatch):
    monkeypatch.setattr(composition, "_AT_ONCE", 2)
    found = sets[name]
    settings = SETTINGS.model_copy(update={"blend_space": space, "batch": 3})
    levels = composition._levels(model, found.questions, 3)
    scores = {"whole": [], "part": [], "blend_0.3": []}
    scales = [
        float(model.network.temperature(level)[0].detach().exp()) if space == "cosine" else 1
        for level in ("whole", "part")
    ]
    for question in found.questions:
        asked = [[one_by_one(model, view, caption) for caption in question.captions] for view in question.views]
        for place, level in enumerate(("whole", "part")):
            scores[level].append([[pair[place] for pair in row] for row in asked])
        scores["blend_0.3"].append([[0.7 * p[2] / scales[0] + 0.3 * p[3] / scales[1] for p in row] for row in asked])
    for level, values in levels.items():
        assert values.numpy() == pytest.approx(np.array(scores[level]), abs=1e-4)
    result = score_composition(model, found, settings)
    categories = [question.category for question in found.questions]
    for level, values in scores.items():
        expected = accuracies(values, categories, found.macro)
        assert result["accuracy"][level] == {**expected, "tied": result["accuracy"][level]["tied"]}
    assert result["questions"] == 3 and set(result["accuracy"]) == {"whole", "part", "blend_0.3", "blend_0.7"}
    assert result["chance"] == chances(len(found.questions[0].views), 2) and "same_captions" not in result


def test_captions_that_are_read_alike_tie_and_are_counted(model, pictures):
    path = pictures[0]
    questions = [
        Question((View(path),), ("A red star.", "a red  STAR."), "a"),
        Question((View(path),), ("A red star.", "A blue star."), "a"),
    ]
    found = score_composition(model, CompositionSet(questions, ("a",), 5), SETTINGS)
    assert found["same_captions"] == 1 and found["questions"] == 2 and found["expected_questions"] == 5
    for scores in found["accuracy"].values():
        assert scores["tied"] == 1 and scores["text"] <= 50
