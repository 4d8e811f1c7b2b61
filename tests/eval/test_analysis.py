"""The report's analysis on rendered scenes: levels of the hierarchy, kinds of query, attributes."""

from dataclasses import replace

import numpy as np
import pytest

from caft.data.scenes.captions import phrase
from caft.data.scenes.grammar import SceneObject
from caft.data.sets import ReferringSet
from caft.eval.analysis.attributes import ATTRIBUTES, changed, most_telling, score_attributes, value_in
from caft.eval.analysis.examples import score_examples
from caft.eval.analysis.granularity import WORD, score_granularity
from caft.eval.analysis.levels import score_levels
from caft.eval.scores.features import encode_pictures
from caft.eval.scores.referring import iou, otsu_mask, score_expressions
from caft.model.encoding import encode_sub_captions

# ---- levels


def test_the_part_level_has_the_published_score(network, scenes):
    levels = score_levels(network, scenes["phrase"], batch=8, images=100)
    assert [level.tokens for level in levels] == [64, 32, 16, 8]
    assert [level.trained for level in levels] == [False, True, False, False]
    assert levels[0].soft == pytest.approx(levels[0].hard)  # superpixels are not shared
    for membership in ("hard", "soft"):
        published = score_expressions(network, scenes["phrase"], 8, membership)[0]["miou"]
        assert getattr(levels[1], membership) == pytest.approx(published, abs=0.3)
    wrong = score_expressions(network, scenes["phrase"], 8)[0]["miou_wrong_expression"]
    assert levels[1].wrong == pytest.approx(wrong, abs=0.3)
    bounds = [level.oracle for level in levels]
    assert bounds == sorted(bounds, reverse=True)  # nested segments can only get worse
    for level in levels:
        assert level.hard <= 100 and level.oracle <= 100


def test_the_best_segment_has_its_pixels_alone(network, scenes):
    image = scenes["phrase"].images[0]
    picture = next(encode_pictures(network, [image.path], [(image.height, image.width)], 1))
    expected = []
    for expression in image.expressions:
        attention = network.attention(picture.part, encode_sub_captions(network, [expression.text], 1)[None])[0, 0]
        best = picture.assignments[0][0].argmax(1)
        values = np.array([[float(attention[best[label]]) for label in row] for row in picture.labels[0]])
        expected.append(iou(otsu_mask(values), image.masks[expression.annotation]))
    level = score_levels(network, scenes["phrase"], batch=8, images=1)[1]
    assert level.hard == pytest.approx(100 * np.mean(expected))


# ---- kinds of query


def test_every_object_is_asked_for_by_every_kind_of_query(network, scenes):
    table, cases = score_granularity(network, scenes, images=4, each=1, membership="hard")
    assert [kind.name for kind in table] == ["sentence", "phrase_place", "phrase", WORD]
    objects = sum(len(image.expressions) for image in scenes["phrase"].images[:4])
    assert {kind.objects for kind in table} == {objects}
    assert [kind.words for kind in table][2:] == [5, 1]
    phrases = score_examples(network, scenes["phrase"], batch=8, images=4, membership="hard")
    assert table[2].miou == pytest.approx(100 * np.mean([case.iou for case in phrases]))
    assert [case.kind for case in cases] == ["best", "median", "worst"]
    for case in cases:
        assert len(case.texts) == len(case.maps) == len(case.masks) == len(case.truths) == 4
        assert case.texts[2].endswith(case.texts[3])  # "a large striped red star", "star"
        assert (case.truths[3] | case.truths[0] == case.truths[3]).all()  # the category's objects hold the one


def test_one_kind_of_query_or_none_gives_no_table(network, scenes):
    bare = ReferringSet([replace(image, categories={}) for image in scenes["phrase"].images])
    assert score_granularity(network, {"phrase": bare}, images=4, each=1, membership="hard") == ([], [])
    assert score_granularity(network, {}, images=4, each=1, membership="hard") == ([], [])


# ---- attributes


def test_one_attribute_is_changed_and_nothing_else():
    item = SceneObject("star", "red", "striped", "large", 0)
    text = phrase(item, "at the top left")
    assert text == "a large striped red star at the top left"
    for attribute, count in (("colour", 7), ("shape", 5), ("pattern", 2), ("size", 1), ("place", 8)):
        others = changed(text, attribute)
        assert len(set(others)) == count and text not in others
        for other in others:
            same = [name for name in ATTRIBUTES if value_in(other, name) == value_in(text, name)]
            assert len(same) == 4 and attribute not in same
    assert "a large striped blue star at the top left" in changed(text, "colour")
    assert "a large striped red star at the middle left" in changed(text, "place")


def test_words_that_name_no_attribute_or_two_are_left_alone():
    assert changed("a boy in a hat", "colour") == []
    assert changed("the red star left of the blue star", "colour") == []
    assert changed("a redder one", "colour") == []
    assert "an orange star" in changed("a red star", "colour") and "a red star" in changed("an orange star", "colour")


def test_the_set_that_names_the_most_is_chosen(scenes):
    assert most_telling(scenes) == "phrase_place"
    assert most_telling({}) is None


def test_binding_is_that_of_the_logits(network, scenes):
    found = score_examples(network, scenes["phrase"], batch=8, images=3, membership="hard")
    bindings = {binding.attribute: binding for binding in score_attributes(network, found, batch=8)}
    assert set(bindings) == {"colour", "shape", "pattern", "size"}  # phrases name no place
    hits, pairs, all_right = 0, 0, 0
    for case in found:  # sizes by hand, one pair at a time
        picture = next(encode_pictures(network, [case.image.path], [(64, 64)], 1))
        (other,) = changed(case.expression.text, "size")
        if other in {expression.text for expression in case.image.expressions}:
            continue
        right, wrong = (
            float(network.part_logits(picture.part, encode_sub_captions(network, [text], 1)))
            for text in (case.expression.text, other)
        )
        hits, pairs, all_right = hits + (right > wrong), pairs + 1, all_right + (right > wrong)
    assert bindings["size"].against_one == pytest.approx(100 * hits / pairs)
    assert bindings["size"].against_all == pytest.approx(100 * all_right / pairs)
    assert bindings["size"].chance == 50 and bindings["pattern"].chance == pytest.approx(100 / 3)
    for binding in bindings.values():
        assert sum(count for count, _ in binding.by_value.values()) == len(found)
    mean = sum(count * miou for count, miou in bindings["shape"].by_value.values()) / len(found)
    assert mean == pytest.approx(100 * np.mean([case.iou for case in found]))
