from caft.data.sets import RetrievalSet
from caft.eval.analysis.examples import Answers, picks, retrieved, spread
from caft.model.encoding import encode_captions, encode_cropped
from caft.params import load_params


def test_picks_are_the_best_the_middle_and_the_worst():
    scores = [0.5, 0.9, 0.1, 0.7, 0.3]
    assert picks(scores, 1) == [("best", 1), ("median", 0), ("worst", 2)]
    assert picks([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 2) == [
        ("best", 6), ("best", 5), ("median", 4), ("median", 3), ("worst", 1), ("worst", 0),
    ]  # fmt: skip


def test_no_case_is_picked_twice():
    assert picks([0.2, 0.8], 2) == [("best", 1), ("best", 0)]
    assert picks([], 3) == []
    assert picks([0.4], 1) == [("best", 0)]


def test_spread_covers_a_set_evenly():
    assert spread(100, 4) == [0, 25, 50, 75]
    assert spread(2, 5) == [0, 1]


def test_answers_of_both_scores_are_those_of_the_score_matrices(model, pictures):
    captions = [f"A picture with the number {n}. It has {'a red' if n % 2 else 'no'} bar." for n in range(6)]
    settings = load_params("params.yaml").evaluation
    of_texts, of_images = retrieved(model, RetrievalSet(list("abcdef"), pictures, captions), settings, each=2)
    assert [case.kind for case in of_texts] == ["best", "best", "median", "median", "worst", "worst"]
    assert sorted(case.query for case in of_images) == [0, 1, 2, 3, 4, 5]
    # By hand, one image and one text at a time; the temperature changes no rank.
    images = [encode_cropped(model.network, [path], 1).whole[0] for path in pictures]
    texts = [encode_captions(model, [caption], 1).whole[0] for caption in captions]
    whole = [[float(image @ text) for text in texts] for image in images]
    for case in of_images:
        row = whole[case.query]
        others = [score for text, score in enumerate(row) if text != case.query]
        rank = 1 + sum(score >= row[case.query] for score in others)
        assert case.whole == Answers(sorted(range(6), key=lambda text: -row[text])[:5], rank)
    assert of_texts[0].blended.rank <= of_texts[-1].blended.rank
