"""What the report says of scores: the first screen's words and pictures, tables with intervals, folded columns, axes."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from caft.eval.analysis.curves import Interval
from caft.eval.analysis.examples import Look, Segmented
from caft.eval.paper.compare import Cell
from caft.eval.paper.targets import load_targets
from caft.eval.report import report_page, section
from caft.eval.report.charts import Series, close_range, line_chart
from caft.eval.report.content import Origin, Report
from caft.eval.report.first import first_screen
from caft.eval.report.left_out import left_out
from caft.eval.report.page import cell
from caft.eval.report.paper import grid
from caft.eval.report.tables import CHANCE, Row, fold

CARD = {"fingerprint": "e0a1", "seed": 3, "arithmetic": "portable", "data": [{"name": "scenes", "count": 4000}]}
TRAIN = {"steps": 1250, "samples": 60000}


def recalls(i2t, t2i):
    return {
        "i2t_r1": i2t[0],
        "i2t_r5": i2t[1],
        "i2t_r10": i2t[2],
        "t2i_r1": t2i[0],
        "t2i_r5": t2i[1],
        "t2i_r10": t2i[2],
    }


RETRIEVAL = {
    "random": {
        "pairs": 256, "tied_rows": 0, "part": None, "blend_0.3": recalls((90.0, 99.0, 100.0), (92.97, 100.0, 100.0)),
        "whole": recalls((82.03, 99.61, 100.0), (80.08, 100.0, 100.0)),
    },
    "coco": {
        "pairs": 500, "images": 100, "tied_rows": 2, "part": None, "blend_0.3": None,
        "whole": recalls((50.0, 80.0, 100.0), (40.0, 100.0, 100.0)),
    },
    "dci": {"not_run": "not there"},
}  # fmt: skip
GROUNDING = {
    "phrase": {
        "miou": 61.63, "miou_wrong_expression": 3.4, "miou_all_foreground": 33.07, "miou_whole_image": 4.37,
        "overall_iou": 58.89, "pointing": 84.39, "expressions": 387,
    }
}  # fmt: skip
LEVELS = ("hard", "medium", "easy", "trivial")
REGIONS = {
    "rows": 600, "box_mode": "masked_pool", "by_box_mode": {},
    **{f"{level}{ending}": 100.0 if level == "easy" else 20.0 for level in LEVELS for ending in ("", "_optimistic")},
    **{f"{level}_chance": 9.09 for level in LEVELS},
}  # fmt: skip


def report(**changes):
    metrics = {"train": TRAIN, "retrieval": RETRIEVAL, "grounding": GROUNDING, "regions": REGIONS}
    return Report(**{"card": CARD, "metrics": metrics, "curves": [], "blend": [], "notes": {}, **changes})


def lines_of(page):
    page = re.sub(r"\s*<small class=\"interval *\">([^<]*)</small>", r" [\1]", page)
    return [" ".join(re.sub(r"<[^>]*>", " ", re.sub("</t[dh]>", " | ", line)).split()) for line in page.splitlines()]


# ---- tables


def test_recalls_have_wilsons_interval_of_their_queries():
    """Texts look for images 500 times where images look for their texts 100 times."""
    rows = lines_of(section("Results", report()))

    def shown(percent, items):
        ends = binomtest(round(percent * items / 100), items).proportion_ci(method="wilson")
        return f"{percent:.1f} [{100 * ends.low:.1f}–{100 * ends.high:.1f}]"

    recall = [shown(82.03, 256), shown(99.61, 256), shown(80.08, 256), shown(100.0, 256)]
    # R@10 and T2I R@5 are 100 in every row, chance aside.
    assert f"whole score | {' | '.join(recall[:3])} |" in rows
    assert f"whole score | {shown(50.0, 100)} | {shown(80.0, 100)} | {shown(40.0, 500)} |" in rows
    assert "100.0 in every row, and so not shown: I2T R@10, T2I R@5, T2I R@10." in rows
    assert "score | I2T R@1 | I2T R@5 | T2I R@1 |" in rows
    assert "chance | 0.4 | 2.0 | 0.4 |" in rows
    assert "coco, 500 pairs, 100 images |" in rows and "2 tied rows, counted as misses |" in rows


def test_masks_and_boxes_have_the_intervals_that_are_known():
    intervals = {"phrase": {"miou": Interval(61.63, 59.6, 63.6), "pointing": Interval(84.39, 81.5, 87.1)}}
    boxes = {"regions": {"hard": 150, "medium": 150, "easy": 150}}
    rows = lines_of(section("Results", report(intervals=intervals, boxes=boxes)))
    assert "phrase, 387 expressions | 61.6 [59.6–63.6] | 58.9 | 84.4 [81.5–87.1] |" in rows
    assert "mask of one expression, object of another | 3.4 | | |" in rows
    # Easy is 100 in every row, chance aside; trivial has an unknown number of boxes.
    assert "regions, 600 boxes | hard | medium | trivial |" in rows
    assert "right description above all wrong ones | 20.0 [14.4–27.1] | 20.0 [14.4–27.1] | 20.0 |" in rows
    assert "boxes | 150 | 150 | – |" in rows


def ends(value, low, high):
    return {
        "i2t_r1": {"value": value, "low": low, "high": high},
        "t2i_r1": {"value": value + 1, "low": low, "high": high},
    }


def test_look_alikes_are_a_line_for_each_kind():
    kind = {
        "groups": 37,
        "queries": 148,
        "chance": 25.0,
        "whole": ends(24.3, 18.2, 31.1),
        "blend_0.3": ends(40.0, 33.0, 47.0),
    }
    entry = RETRIEVAL["random"] | {"by_kind": {"place": kind | {"part": ends(30.0, 23.0, 37.0)}}}
    rows = lines_of(
        section("Results", report(metrics={"retrieval": {"look_alike": entry, "random": RETRIEVAL["random"]}}))
    )
    columns = "T2I, whole | I2T, whole | T2I, part | I2T, part | T2I, CAFT++ 0.3 | I2T, CAFT++ 0.3"
    assert f"look_alike, pairs that differ in | {columns} | chance | pairs | groups |" in rows
    scores = "25.3 [18.2–31.1] | 24.3 [18.2–31.1] | 31.0 [23.0–37.0] | 30.0 [23.0–37.0] | 41.0 [33.0–47.0] | 40.0 [33.0–47.0]"
    assert f"place | {scores} | 25.0 | 148 | 37 |" in rows
    assert sum(", pairs that differ in" in row for row in rows) == 1  # a set without groups has no table


def test_scores_without_leaked_images_stand_below_those_as_published():
    rest = {
        **RETRIEVAL["random"],
        "pairs": 200,
        "whole": recalls((60.0, 99.0, 100.0), (50.0, 98.0, 100.0)),
        "blend_0.3": None,
    }
    masks = GROUNDING["phrase"] | {"miou": 50.0, "expressions": 300}
    boxes = {key: value for key, value in REGIONS.items() if not key.startswith("trivial")} | {"rows": 40, "hard": 11.0}
    metrics = {
        "retrieval": {
            "random": RETRIEVAL["random"] | {"leaked_images": 56, "without_leaked": rest},
            "coco": RETRIEVAL["coco"] | {"leaked_images": 0},
            "all": RETRIEVAL["random"] | {"leaked_images": 256, "without_leaked": None},
            "imagenet": {
                "top1": 50.0, "top5": 70.0, "images": 90, "classes": 10, "leaked_images": 1,
                "without_leaked": {"top1": 40.0, "top5": 60.0, "images": 89, "classes": 10},
            },
        },
        "grounding": {"phrase": GROUNDING["phrase"] | {"leaked_images": 3, "without_leaked": masks}},
        "regions": REGIONS | {"leaked_images": 2, "without_leaked": boxes},
    }  # fmt: skip
    rows = lines_of(section("Results", report(metrics=metrics)))
    said = "Evaluation images that were trained on: random 56, all 256, imagenet 1, phrase 3, regions 2. Scores of these sets"
    assert any(row.startswith(said) for row in rows)
    assert any("No image of the other sets looks like one that was trained on" in row for row in rows)
    first = rows.index("random without the 56 images that were trained on: 200 pairs |")
    ends = binomtest(100, 200).proportion_ci(method="wilson")
    assert f"50.0 [{100 * ends.low:.1f}–{100 * ends.high:.1f}]" in rows[first + 1]
    assert "without the 256 images that were trained on nothing is left |" in rows
    assert any(row.startswith("imagenet without the image that was trained on: 89 images | 40.0 [") for row in rows)
    assert "phrase without the 3 images that were trained on: 300 expressions | 50.0 | 58.9 | 84.4 |" in rows
    place = rows.index("the same without the 2 images that were trained on: 40 boxes |")
    assert rows[place + 1] == "right description above all wrong ones | 11.0 | 20.0 | – |"
    # No set of regions of its own.
    assert not any(row.startswith("without_leaked") for row in rows)


def test_suites_without_leaked_images_stand_below_those_as_published():
    def answers(text, questions):
        by_category = {name: {"text": text} for name in ("swap_obj", "add_obj")}
        found = {"text": text, "text_macro": text, "tied": 0, "by_category": by_category}
        return {"accuracy": {"whole": found, "part": None}, "chance": {"text": 50.0}, "questions": questions}

    def pixels(miou, images):
        ends = {"low": miou - 5, "high": miou + 5}
        found = {"miou": miou, "miou_interval": ends, "pixel_accuracy": 30.0, "miou_one_class": 12.0}
        return {"segmentation": {"value": found}, "images": images, "classes": 20}

    metrics = {
        "retrieval": {
            "sugar_crepe": answers(70.0, 400) | {"leaked_images": 9, "without_leaked": answers(60.0, 200)},
            "winoground": answers(30.0, 40) | {"leaked_images": 80, "without_leaked": None},
        },
        "grounding": {
            "voc20": pixels(40.0, 90) | {"leaked_images": 1, "without_leaked": pixels(35.0, 89)},
            "ade20k": pixels(20.0, 50) | {"leaked_images": 50, "without_leaked": None},
        },
    }
    rows = lines_of(section("Results", report(metrics=metrics)))
    said = (
        "Evaluation images that were trained on: sugar_crepe 9, winoground 80, voc20 1, ade20k 50. Scores of these sets"
    )
    assert any(row.startswith(said) for row in rows)
    first = rows.index("sugar_crepe without the 9 images that were trained on: 200 questions |")
    ends = binomtest(120, 200).proportion_ci(method="wilson")
    assert rows[first + 1] == f"all questions | 60.0 [{100 * ends.low:.1f}–{100 * ends.high:.1f}] |"
    assert "without the 80 images that were trained on nothing is left |" in rows
    first = rows.index("voc20 without the image that was trained on: 89 images |")
    assert rows[first + 1] == "segments as the pooling gives them back | 35.0 [30.0–40.0] | 12.0 | 30.0 |"
    assert "without the 50 images that were trained on nothing is left |" in rows


def test_where_the_training_data_is_unknown_no_second_score_is_invented():
    metrics = {"retrieval": {"random": RETRIEVAL["random"] | {"leaked_images": "unknown"}}}
    page = section("Results", report(metrics=metrics))
    assert "Which evaluation images were trained on is unknown, and scores without them cannot be given." in page
    metrics["grounding"] = {"phrase": GROUNDING["phrase"] | {"leaked_images": 0}}
    page = section("Results", report(metrics=metrics))
    assert (
        "Which evaluation images of random were trained on is unknown" in page and "No image of the other sets" in page
    )
    metrics = {"grounding": metrics["grounding"]}
    page = section("Results", report(metrics=metrics))
    assert "No image of these sets looks like one that was trained on, so that their scores stand once." in page


def test_overall_iou_and_superpixels_have_theirs_too():
    intervals = {"phrase": {"overall_iou": Interval(58.89, 55.2, 62.1)}}
    superpixels = {
        "oracle_miou": 77.27, "grid_oracle_miou": 52.49, "boundary_recall": 98.93, "live": 64.0,
        "intervals": {
            "oracle_miou": {"low": 76.61, "high": 77.94}, "grid_oracle_miou": {"low": 51.12, "high": 53.86},
            "boundary_recall": {"low": 98.82, "high": 99.04}, "live": {"low": 63.9, "high": 64.0},
        },
    }  # fmt: skip
    metrics = {"grounding": GROUNDING, "superpixels": superpixels}
    page = section("Results", report(metrics=metrics, intervals=intervals))
    rows = lines_of(page)
    assert "phrase, 387 expressions | 61.6 | 58.9 [55.2–62.1] | 84.4 |" in rows
    assert "learnt without labels | 77.3 [76.6–77.9] | 98.9 [98.8–99.0] | 64.0 [63.9–64.0] |" in rows
    assert "plain grid | 52.5 [51.1–53.9] | | |" in rows
    assert "Overall IoU has none" not in page
    nothing = dict.fromkeys(superpixels.keys() - {"intervals"})  # no referring set was there
    assert "<h3>Superpixels" not in section("Results", report(metrics=metrics | {"superpixels": nothing}))


def test_columns_are_folded_only_where_every_score_is_100():
    full, other = [["a", 100.0, Interval(100.0, 98.5, 100.0), 100.0, 7], ["b", 100.0, 100.0, 99.98, 100]]
    rows = [Row(["a title"], "head"), Row(full), Row(other), Row(["chance", 1.0, 2.0, 3.0, 4], CHANCE)]
    found = fold(["name", "first", "second", "third", "count"], rows)
    assert (found.header, found.full) == (["name", "third", "count"], ["first", "second"])
    assert [row.values for row in found.rows] == [["a title"], ["a", 100.0, 7], ["b", 99.98, 100], ["chance", 3.0, 4]]
    control = fold(["name", "first"], [Row(["a", 100.0]), Row(["b", 99.0], "control")])
    assert control.full == []  # a control is a result too
    assert fold(["name", "first"], []).full == []


def test_what_was_left_out_of_a_set_is_said_with_its_reasons():
    entry = {"dropped": 3, "dropped_items": ["empty captions: 2 (row 4; row 592)", "masks without area: 1 (ann 7)"]}
    assert list(left_out(entry)) == [
        "3 items left out: empty captions: 2 (row 4; row 592); masks without area: 1 (ann 7)"
    ]
    assert list(
        left_out({"skipped_objects": 1, "turned": 1200, "skipped": {"easy": "no file", "pattern": "no file"}})
    ) == [
        "1 object without a mask left out of the controls; no expression means them",
        "1,200 pictures were turned upright, as the annotations have them",
        "easy was not run: no file",
    ]
    assert list(left_out(RETRIEVAL["coco"])) == []
    lacking = {key: value for key, value in REGIONS.items() if "easy" not in key} | {"skipped": {"easy": "no file"}}
    metrics = {
        "retrieval": {"random": RETRIEVAL["random"] | entry},
        "grounding": {"phrase": GROUNDING["phrase"] | {"turned": 2}},
        "regions": lacking,
    }
    rows = lines_of(section("Results", report(metrics=metrics)))
    assert f"{next(left_out(entry))} |" in rows
    assert (
        "2 pictures were turned upright, as the annotations have them |" in rows
        and "easy was not run: no file |" in rows
    )
    assert "right description above all wrong ones | 20.0 | 20.0 | – | 20.0 |" in rows


def test_the_match_score_is_shown_by_what_is_false():
    match = {
        "auroc": {"colour": 93.21, "nonsense": 99.0, "all": 95.5},
        "auroc_percentile": {"colour": 90.0, "nonsense": 98.0, "all": 94.0},
        "greyed": {"true": 4.0, "colour": 61.0, "nonsense": 97.0, "all": 70.0},
        "sentences": {"true": 387, "colour": 2709, "nonsense": 768, "all": 3477},
    }
    metrics = {"grounding": {"phrase": GROUNDING["phrase"] | {"match": match}, "dci": {"not_run": "not there"}}}
    rows = lines_of(section("Results", report(metrics=metrics)))
    assert "changed | true | colour | nonsense | all |" in rows
    assert "AUROC of the probability | – | 93.2 | 99.0 | 95.5 |" in rows
    assert "AUROC of the percentile | – | 90.0 | 98.0 | 94.0 |" in rows
    assert "mask grey | 4.0 | 61.0 | 97.0 | 70.0 |" in rows
    assert "sentences | 387 | 2,709 | 768 | 3,477 |" in rows
    assert not any("AUROC" in row for row in lines_of(section("Results", report())))


def test_a_value_without_interval_is_shown_alone():
    assert cell(Interval(12.34, None, None)) == "12.3"
    assert cell(Interval(12.34, 10.0, 15.06)) == '12.3<small class="interval">10.0–15.1</small>'


# ---- axes


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([80.08, 95.7], (79.0, 97.0)),  # a twentieth of the range at either side, to whole numbers
        ([90.0, 90.5], (87.0, 93.0)),  # five points at the least
        ([98.9, 100.0], (96.0, 100.0)),
        ([0.0, 0.4], (0.0, 3.0)),
        ([5.0, 99.0], (0.0, 100.0)),
    ],
)
def test_an_axis_of_recall_spans_what_is_drawn(values, ends):
    series = [Series("a", list(enumerate(values)), 0)]
    assert close_range(series) == ends
    chart = line_chart("a", series, "x", "R@1, percent", span="close")
    assert chart.unit == f"axis from {ends[0]:g} to {ends[1]:g}" and "R@1, percent" in chart.svg


def test_the_band_of_a_line_is_inside_its_axis():
    assert close_range([Series("a", [(0, 50.0)], 0, band=[(0, 40.0, 62.0)])]) == (38.0, 64.0)


def test_recall_by_part_weight_does_not_begin_at_zero():
    blend = [
        {"set": "random", "space": "logit", "weight": w, "i2t_r1": 82.0 + 10 * w, "t2i_r1": 80.0 + 15 * w}
        for w in (0.0, 0.5, 1.0)
    ]
    page = section("Results", report(blend=blend))
    assert "R@1 by part weight, random <small>axis from 79 to 96</small>" in page
    ticks = [float(tick) for tick in re.findall(r"<text[^>]*>(\d+(?:\.\d+)?)</text>", page)]
    assert min(tick for tick in ticks if tick > 1) >= 79  # the x axis ends at 1


# ---- the first screen

ORIGIN = Origin(
    pictures={"scenes": "rendered shapes, no photographs", "cc3m": "pictures of the web, most of them photographs"},
    rendered=["random", "phrase", "regions"],
    commit="746d4884db13" + "0" * 28,
    run="64b451f7f8b0" + "0" * 20,
    launch={"model": "tiny", "recipe": "smoke", "launch": "local", "ranks": "2"},
    machine="1 node, no GPUs",
)


def test_the_first_screen_says_what_ran_on_what():
    shown = first_screen(report(origin=ORIGIN, boxes={"regions": {"hard": 150}}))
    assert shown["lead"] == "Rendered shapes, no photographs (scenes)."
    assert shown["run"] == (
        "Model tiny was trained on 4,000 images with 60,000 samples in 1,250 steps by two processes"
    )
    assert shown["scored"] == (
        "Scored on 4 sets: random, coco, phrase, regions (rendered shapes: random, phrase, regions)."
    )
    assert [(fact.label, fact.value) for fact in shown["facts"]] == [
        ("seed", "3"), ("on", "local: 1 node, no GPUs"), ("recipe", "smoke"), ("arithmetic", "portable"),
        ("commit", "746d4884db13"), ("run", "e0a1"), ("MLflow run", "64b451f7f8b0"),
    ]  # fmt: skip
    assert shown["absent"] == 1


def test_words_for_photographs_several_corpora_and_given_weights():
    data = [{"name": "cc3m", "count": 2_800_000}, {"name": "scenes", "count": 4000}]
    shown = first_screen(report(origin=ORIGIN, card=CARD | {"data": data}))
    assert shown["lead"] == (
        "Pictures of the web, most of them photographs (cc3m); rendered shapes, no photographs (scenes)."
    )
    assert "on 2,804,000 images" in shown["run"]
    photographs = first_screen(report(origin=ORIGIN, card=CARD | {"data": data[:1]}))
    assert "rendered" not in photographs["lead"].lower()
    given = {"name": "CAFT-30M.pt", "size": "30M", "fingerprint": "ab" * 8}
    shown = first_screen(report(card=given, metrics={"retrieval": {"random": RETRIEVAL["random"]}}))
    assert shown["lead"] == "Given weights, trained elsewhere on the paper's 30M pairs; nothing was trained here."
    assert shown["run"] == "Model CAFT-30M.pt, sha256 abababababababab, is scored as it came" and shown["facts"] == []
    unknown = first_screen(report(card=CARD, metrics={}))
    assert "pictures that the settings no longer name" in unknown["lead"].lower()
    assert unknown["scored"] == "No evaluation set was there."


@pytest.mark.parametrize(
    ("speed", "shown"),
    [(1500.0, "40 s"), (239.5, "4 min 11 s"), (5.0, "3 h 20 min"), (0.0001, "166,666 h 40 min")],
)
def test_the_time_is_samples_over_speed(speed, shown):
    """60,000 samples; at 239.5 a second, 250.5 seconds, and at 5, 12,000."""
    metrics = {"train": TRAIN | {"images_per_s": speed, "data_wait_share": 0.0186}}
    facts = first_screen(report(metrics=metrics))["facts"]
    assert ("trained for", shown) in [(fact.label, fact.value) for fact in facts]
    rows = lines_of(section("Training", report(metrics=metrics)))
    assert f"time of the steps | {shown} | samples over images a second; without validation and stops |" in rows
    assert "waiting for data | 1.9 % | of the time of the steps |" in rows
    assert section("Training", report(metrics={})) == ""


def shown_tiles(**changes):
    tiles = first_screen(report(**changes))["tiles"]
    return [
        (tile.short, [(round(score.percent, 1), score.name, score.level) for score in tile.scores]) for tile in tiles
    ]


def test_a_tile_has_the_lowest_and_the_highest_score_each_with_its_chance():
    assert shown_tiles(boxes={"regions": {}}) == [
        ("T2I R@1, whole score", [(40.0, "coco", "chance 1.0"), (80.1, "random", "chance 0.4")]),
        ("T2I R@1, CAFT++ 0.3", [(93.0, "random", "chance 0.4")]),  # coco has none
        ("referring mIoU", [(61.6, "phrase", "words ignored 33.1")]),
        ("region accuracy", [(20.0, "hard", "chance 9.1"), (100.0, "easy", "chance 9.1")]),
    ]
    assert shown_tiles(metrics={}) == []


def test_easy_is_never_without_hard_whatever_sets_and_levels_there_are():
    levels = {"rows": 600, "easy": 99.3, "medium": 80.0, "hard": 24.7, "easy_chance": 9.09, "hard_chance": 9.09}
    other = {"rows": 100, "easy": 50.0, "easy_chance": 9.09, "trivial": None}
    for regions, boxes, expected in [
        (levels, {}, [(24.7, "hard"), (99.3, "easy")]),
        (levels | {"fg_ovd": {"not_run": "not there"}}, {"regions": {}}, [(24.7, "hard"), (99.3, "easy")]),
        ({"fg_ovd": other} | levels, {"regions": {}}, [(24.7, "regions hard"), (99.3, "regions easy")]),
        ({"not_run": "not there", "fg_ovd": other}, {"regions": {}, "fg_ovd": {"easy": 10}}, [(50.0, "easy")]),
    ]:
        (_, scores), *_ = shown_tiles(metrics={"regions": regions}, boxes=boxes)
        assert [score[:2] for score in scores] == expected
    tile = first_screen(report(metrics={"regions": levels}, boxes={"regions": {"hard": 150, "easy": 150}}))["tiles"][0]
    ends = [binomtest(round(1.5 * percent), 150).proportion_ci(method="wilson") for percent in (24.7, 99.3)]
    assert [(score.value.low, score.value.high) for score in tile.scores] == [
        (pytest.approx(100 * end.low, abs=0.2), pytest.approx(100 * end.high, abs=0.2)) for end in ends
    ]


def mask(left):
    found = np.zeros((8, 8), bool)
    found[2:6, left : left + 3] = True
    return found


def segmented(kind, text, value):
    values = mask(2).astype(np.float32)
    return Segmented(kind, Image.new("RGB", (8, 8), "blue"), text, values, mask(2), mask(3), value)


def test_three_pictures_show_the_best_the_middle_and_the_worst_mask():
    cases = [segmented("best", f"b{n}", 0.9) for n in range(6)] + [segmented("median", f"m{n}", 0.6) for n in range(6)]
    cases += [segmented("worst", f"w{n}", 0.1 - n / 100) for n in range(6)]
    shown = first_screen(report(segmented=cases))["overlays"]
    assert [(one.text, one.result) for one in shown] == [
        ("b0", "best, IoU 90"), ("m3", "median, IoU 60"), ("w5", "worst, IoU 5"),
    ]  # fmt: skip
    pixels = np.asarray(shown[0].image).reshape(-1, 3).tolist()
    assert [46, 204, 113] in pixels and [255, 64, 129] in pixels  # outlines of truth and mask
    page = report_page(report(segmented=cases))
    assert page.index('alt="Inside a pink line the mask found') < page.index('class="tiles"') < page.index("<nav")


def test_without_masks_the_pictures_show_where_sentences_look():
    looks = [Look(Image.new("RGB", (8, 8)), [f"s{n}", "more"], [mask(n).astype(np.float32)] * 2) for n in range(5)]
    shown = first_screen(report(looks=looks))
    assert [one.text for one in shown["overlays"]] == ["s0", "s1", "s2"] and not shown["has_masks"]
    assert first_screen(report())["overlays"] == []


# ---- Table 1


def test_a_table_of_the_paper_has_its_form_with_ours_below():
    cells = [
        Cell("Table 1", "OpenCLIP", "dci.i2t_r1", 56.0, status="quoted"),
        Cell("Table 1", "CAFT", "dci.i2t_r1", 69.4, 69.5, "match", evaluated=7805),
        Cell("Table 1", "CAFT", "iiw.t2i_r1", 96.1),
        Cell("Table 1", "Gain", "dci.i2t_r1", 7.6, 7.4, "match", evaluated=7805),
    ]
    found = grid(cells)
    names = load_targets().tables[0].columns
    assert list(found.columns) == list(dict.fromkeys(name.split(".")[0] for name in names))
    assert set(map(tuple, found.columns.values())) == {("I2T", "T2I")}
    assert [(row.name, row.is_ours) for row in found.rows] == [
        ("OpenCLIP", False), ("CAFT", False), ("CAFT", True), ("Gain", False), ("Gain", True),
    ]  # fmt: skip
    dci, iiw = names.index("dci.i2t_r1"), names.index("iiw.t2i_r1")
    assert found.rows[1].cells[dci] == (69.4, "") and found.rows[1].cells[iiw] == (96.1, "")
    value, verdict = found.rows[2].cells[dci]
    assert (value.value, round(value.low, 1), round(value.high, 1), verdict) == (69.5, 68.5, 70.5, "match")
    assert found.rows[2].cells[iiw] == (None, "not run") and found.rows[4].cells[dci] == (7.4, "match")


def test_given_weights_begin_with_table_1_open_and_a_trained_model_with_its_results():
    cells = [Cell("Table 1", "CAFT", "dci.i2t_r1", 69.4), Cell("Table 2", "CAFT", "refcoco_val.miou", 28.85)]
    given = report_page(report(card={"name": "CAFT-30M.pt", "fingerprint": "ab"}, paper=cells))
    assert re.findall(r'<section id="(\w+)">', given)[:2] == ["paper", "results"]
    assert re.findall(r"<details( open)?><summary>(Table \d)", given) == [(" open", "Table 1"), ("", "Table 2")]
    trained = report_page(report(paper=cells))
    assert re.findall(r'<section id="(\w+)">', trained)[:2] == ["results", "paper"]
    assert "<details open>" not in trained


# ---- colours

PROJECT = Path(__file__).parents[2]


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_the_contrast_that_wcag_asks_for():
    """At least 4.5 against the page and the cards, in both schemes; dark on white without a preference."""
    style = (PROJECT / "caft/eval/report/templates/style.css").read_text()
    schemes = [
        dict(re.findall(r"--(\w+): #(\w+);", part))
        for part in re.split(r"@media [^{]*prefers-color-scheme: dark", style)
    ]
    schemes[1] = dict(re.findall(r"--(\w+): #(\w+);", style.split("prefers-color-scheme: dark")[1].split("}\n}")[0]))
    assert schemes[0]["paper"] == "fff"
    for scheme in schemes:
        light = {}
        for name, code in scheme.items():
            code = code if len(code) == 6 else "".join(2 * letter for letter in code)
            light[name] = luminance([int(code[place : place + 2], 16) / 255 for place in (0, 2, 4)])
        for ink in ("ink", "soft", "accent", "good", "bad"):
            for ground in ("paper", "card"):
                low, high = sorted((light[ink], light[ground]))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)
