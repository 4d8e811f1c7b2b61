"""The report as a stranger reads it, in Chromium at 1280 and 390 pixels: how long, how wide, what stands first, and that all
of it can be reached; for a default run, for every published set and several seeds, for given weights, and with little."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from caft.data.sets import RetrievalSet
from caft.eval.analysis.ablation import summarize
from caft.eval.analysis.curves import Interval
from caft.eval.analysis.examples import KINDS, Answers, Look, Nested, Retrieved, Segmented
from caft.eval.analysis.granularity import Asked
from caft.eval.analysis.scaling import summarize as summarize_scaling
from caft.eval.paper.compare import compare
from caft.eval.paper.models import of_model
from caft.eval.report import report_page
from caft.eval.report.ablation import ablation_page
from caft.eval.report.content import Origin, Report, RetrievalCases
from caft.eval.report.gather import _origin
from caft.eval.report.scaling import scaling_page
from caft.params import load_params
from tests.eval.browser import SCREENS, browse, problems, read
from tests.eval.test_paper import GIVEN, TARGETS, metrics_of, retrained
from tests.test_curves import COMPARED, METHODS, NEIGHBOURS, curve
from tests.test_curves import rows as rows_of_table_3

PROJECT = Path(__file__).parents[2]
LARGEST = 5_000_000  # bytes; a default run's page has 1.8 million, one with pictures of every published set 3.7
LONG = "a_very_long_name_of_a_set_that_somebody_has_given_to_photographs_of_their_own"


def photograph(seed):
    """Smooth noise, which compresses as badly as a photograph."""
    noise = np.random.default_rng(seed).integers(0, 256, (384, 512, 3), dtype=np.uint8)
    return Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1.2))


def of_every_set(folder, card, long=False):
    """A report on photographs with every published set scored, three seeds, and as many pictures as a run has."""
    sentence = "A dog with a brown collar lies in the grass, and behind it a red ball rolls towards an open gate. "
    word = "Donaudampfschifffahrtsgesellschaftskapitänsmütze" if long else "It rains."
    pictures = [photograph(n) for n in range(6)]
    paths = []
    for number, picture in enumerate(pictures):
        paths.append(folder / f"{number}.jpg")
        picture.save(paths[-1], quality=95)
    metrics = metrics_of(set(TARGETS.sets))
    if long:
        metrics = {file: {LONG: next(iter(sets.values())), **sets} for file, sets in metrics.items()}
    captions = [(sentence * 6 + word).strip()] * 6
    pairs = RetrievalSet([str(n) for n in range(6)], paths, captions)
    answers = Answers([0, 1, 2, 3, 4], 1)
    examples = [Retrieved(0, kind, answers, answers) for kind in KINDS]
    values = np.add.outer(np.arange(48.0), np.arange(64.0)).astype(np.float32)
    mask = values > 60
    labels = (np.add.outer(np.arange(16), np.arange(16)) // 4).astype(np.int64)
    scored = of_model(card, load_params(PROJECT / "params.yaml"), metrics, {}, {})
    given, train = "name" in card, {"steps": 44_000, "samples": 90_336_608, "images_per_s": 2090.0}
    launch = {} if given else {"launch": LONG if long else "a100x8", "recipe": "paper"}
    curve = [
        {"step": float(step), "part_loss": 9.0 - step, "grad_norm": 1.0, "validation_i2t_r1": 40.0} for step in range(5)
    ]
    side = {"space": "logit", "i2t_r1": 40.0, "t2i_r1": 50.0}
    sides = [{**side, "set": name, "weight": weight} for name in metrics["retrieval"] for weight in (0, 1)]
    return Report(
        card=card,
        metrics=metrics if given else metrics | {"train": train},
        curves=[] if given else curve,
        blend=sides,
        notes={},
        origin=Origin({"cc3m": "pictures"}, [], "c" * 40, "d" * 16, "e" * 32, launch, None if given else "8 GPUs", "../"),
        intervals={n: {"miou": Interval(28.0, 27.0, 29.0)} for n in metrics["grounding"]},
        live="" if given else "demo.html",
        boxes={"fg_ovd": dict.fromkeys(("hard", "medium", "easy", "trivial"), 4000)},
        paper=compare(TARGETS, [scored], {}),
        scored=[scored],
        other_seeds={} if given else {1: curve, 2: curve},
        retrieval=[RetrievalCases(n, pairs, examples, examples) for n in list(metrics["retrieval"])[: 2 if given else None]],
        looks=[Look(picture, [sentence + word] * 6, [values] * 6) for picture in pictures[:5]],
        referring="refcoco_val",
        segmented=[Segmented(k, pictures[n], word * 3, values, mask, mask, 0.5) for k in KINDS for n in range(6)],
        asked=[Asked(k, pictures[n], [sentence] * 4, [values] * 4, [mask] * 4, [mask] * 4) for k in KINDS for n in (0, 1)],
        nested=[Nested(picture, [labels, labels // 2, labels // 4]) for picture in pictures[:4]],
    )  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Every kind of page by name."""
    folder = tmp_path_factory.mktemp("pages")
    name = {**GIVEN, "name": f"{LONG}.pt"}
    some = metrics_of({"urban1k", "refcoco_val"})
    scored = of_model(GIVEN, load_params(PROJECT / "params.yaml"), some, {}, {})
    summary = summarize(rows_of_table_3(), COMPARED, NEIGHBOURS)
    curves, points = summarize_scaling({"equal epochs": curve((0.2, 0.4, 0.6), (0.1, 0.3, 0.5))}, METHODS)
    return {
        "every set": report_page(of_every_set(folder, {**retrained(), "seed": 0})),
        "given weights": report_page(of_every_set(folder, GIVEN)),
        "long names": report_page(of_every_set(folder, name, long=True)),
        "some sets": report_page(
            Report(GIVEN, some, [], [], {}, paper=compare(TARGETS, [scored], {}), scored=[scored])
        ),
        "no set": report_page(Report(GIVEN, metrics_of(set()), [], [], {})),
        "nothing": report_page(Report({}, {}, [], [], {})),
        "ablation": ablation_page(summary, compare(TARGETS, [scored], {})[:30], {"siglip": [0, 1], "flair": [3, 4]}),
        "scaling": scaling_page(curves, points),
    }


NAMES = ["every set", "given weights", "long names", "some sets", "no set", "nothing", "ablation", "scaling"]


@pytest.fixture(scope="module", params=SCREENS)
def seen(request, pages, tmp_path_factory, require_system):
    """A width, and what a browser makes of every page at it."""
    return request.param, read(require_system("chromium"), pages, tmp_path_factory.mktemp("seen"), request.param)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_short_and_never_scrolls_sideways(seen, name):
    width, found = seen[0], seen[1][name]
    assert problems(found, width) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["every set", "given weights", "long names"])
def test_the_first_screen_holds_pictures_scores_and_what_ran_where(seen, name):
    width, found = seen[0], seen[1][name]["first"]
    kinds = [kind for kind, *_ in found]
    assert kinds.count("FIGURE") == 3 and kinds.count("tile") == 4 and kinds.count("lead") == kinds.count("facts") == 1
    low = SCREENS[width] * (1.5 if name == "long names" else 1)
    assert all(0 <= left < right <= width and 0 <= top < bottom <= low for _, left, top, right, bottom in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["every set", "given weights"])
def test_the_first_screen_leads_to_the_live_page_where_there_is_one(pages, name):
    first = pages[name][: pages[name].index('<nav aria-label="Sections">')]
    assert first.count('<a href="demo.html">Try it live</a>') == (name == "every set")


@pytest.mark.slow
def test_the_file_stays_small(pages):
    assert all(len(page.encode()) < LARGEST for page in pages.values())
    assert len(re.sub(r'"data:image/[^"]*"', '""', pages["every set"])) < 500_000  # without pictures


@pytest.mark.slow
def test_equal_input_gives_equal_bytes(pages, tmp_path):
    assert report_page(of_every_set(tmp_path, GIVEN)) == pages["given weights"]


class Words(HTMLParser):
    """Words of a page: those in view, and those behind the line of a `details`."""

    def __init__(self, page):
        super().__init__()
        self.closed, self.summary, self.folded, self.view = [], False, "", ""
        self.feed(page[page.index("<main") :])

    def handle_starttag(self, tag, attributes):
        if tag == "details":
            self.closed.append(("open", None) not in attributes)
        self.summary = self.summary or tag == "summary"

    def handle_endtag(self, tag):
        if tag == "details":
            self.closed.pop()
        self.summary = self.summary and tag != "summary"

    def handle_data(self, data):
        if any(self.closed[:-1] if self.summary else self.closed):
            self.folded += data
        else:
            self.view += data


@pytest.mark.slow
@pytest.mark.parametrize("name", ["some sets", "no set", "every set", "given weights"])
def test_what_was_not_run_is_one_line_that_says_how_to_get_it(pages, name):
    words = Words(pages[name])
    view = " ".join(words.view.split())
    absent = {"some sets": len(TARGETS.sets) - 2, "no set": len(TARGETS.sets)}.get(name, 0)
    assert view.count("sets were not run: why, and how to get them") == (absent > 0)
    assert f"{absent} sets were not run" in view or not absent
    assert words.folded.count("was not run: its files were not found") == absent
    assert ('data/benchmarks/README.md">' in pages[name]) == (absent > 0)
    # Of the paper's cells, the count, and that of Table 1 where it is open.
    of_cells = view.replace(f"{absent} sets were not run", "").count("not run") - view.count("A dash: not run")
    assert of_cells <= 2 and not re.search(r"– ?not run|not run[ –]+not run", view)


@pytest.mark.slow
def test_a_click_on_what_is_not_there_unfolds_it(pages, tmp_path, require_system):
    script = """<script>addEventListener("load", () => {
      document.querySelector('.lead a').click();
      setTimeout(() => { document.title = "open:" + document.getElementById("not-run").closest("details").open; }, 50);
    });</script></head>"""
    page = tmp_path / "click.html"
    page.write_text(pages["some sets"].replace("</head>", script, 1), encoding="utf-8")
    flags = ("--virtual-time-budget=2000", "--dump-dom")
    document, console = browse(require_system("chromium"), page, tmp_path / "profile", *flags)
    assert console == [] and "<title>open:true</title>" in document


@pytest.mark.slow
def test_paper_has_what_the_screen_has(pages, tmp_path, require_system):
    """A run's page as it is folded takes few sheets, and none of them is wider than the paper, which would shrink it."""
    page, sheets = tmp_path / "print.html", tmp_path / "page.pdf"
    page.write_text(pages["every set"], encoding="utf-8")
    browse(require_system("chromium"), page, tmp_path / "profile", f"--print-to-pdf={sheets}")
    count = len(re.findall(rb"/Type\s*/Page\b", sheets.read_bytes()))
    assert 3 <= count <= 14
    assert "@media print" in pages["every set"]


def test_the_settings_say_what_a_run_was_launched_on():
    params = load_params(PROJECT / "params.yaml")
    eight = params.model_copy(update={"launch": "a100x8"})
    scored = of_model(GIVEN, params, {}, {}, {})

    class Place:
        reports = Path("reports/external")

    def origin(settings=params, **launch):
        return _origin(settings, Place, scored, launch)

    assert origin(launch="local", ranks="2").machine == "1 node, no GPUs, 1 CPU core a process"
    assert origin(eight, launch="a100x8", ranks="8").machine == "1 node, 8 GPUs, 12 CPU cores a process"
    assert origin(launch="local", ranks="3").machine is None  # the settings have changed since
    assert origin(eight, launch="local", ranks="2").machine is None and origin().machine is None
    assert origin().root == "../../"
    assert origin().publishers["dci"] == "https://github.com/facebookresearch/DCI"
