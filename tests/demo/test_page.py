"""The live page in Chromium, by keys, files and clicks: it shows what the library gives, and asks nobody for anything."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caft.demo import page as pages
from caft.demo import scenes
from caft.demo.engine import engine_source
from caft.demo.page import LARGEST, absent_page, demo_page
from caft.demo.parts import page_parts, script_text
from caft.demo.scenes import Scenes, of_folder
from caft.errors import CheckpointError, DataError
from caft.model.maps import label_maps
from caft.model.model import Model
from caft.model.shares import score_shares
from caft.network.caft import CAFT
from caft.params import load_params
from tests.demo.chromium import Chromium

PROJECT = Path(__file__).parents[2]
CAPTIONS = [
    f"A {colour} square is at the left. A striped {shape} is at the top. The {shape} is right of the square. It rains."
    for colour, shape in zip(
        ("red", "green", "blue", "black", "white", "pink", "olive"), ("star", "heart") * 4, strict=False
    )
]
RESULTS, STATUS = "document.querySelectorAll('#results li').length", "document.getElementById('status').textContent"


@pytest.fixture(scope="module")
def model(small_model):
    return small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven PNG files, which a browser decodes to the same pixels, some wider than high, with captions beside them."""
    folder, rng = tmp_path_factory.mktemp("scenes"), np.random.default_rng(0)
    for number, caption in enumerate(CAPTIONS):
        pixels = np.full((64, 96 if number % 2 else 64, 3), rng.integers(0, 255, 3), np.uint8)
        for _ in range(4):
            y, x = rng.integers(0, 44), rng.integers(0, 44)
            pixels[y : y + 20, x : x + 20] = rng.integers(0, 255, 3)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"{caption}\n")
    return folder


@pytest.fixture(scope="module")
def page(model, folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "demo.html"
    path.write_text(demo_page(model, of_folder(folder)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(require_system, tmp_path_factory):
    found = Chromium(require_system("chromium"), tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def opened(browser, page):
    """The page, as it opens on a wide screen: the first scene with its caption, and what a search by it finds."""
    browser.size(1280, 800)
    browser.open(page.as_uri())
    browser.wait(RESULTS)
    return browser


def rows(browser):
    """Of each sentence its words, and its numbers as they are shown."""
    found = browser.run("""[...document.querySelectorAll(".row")].map(row => [row.querySelector(".words").textContent,
      ...[...row.querySelectorAll("b")].map(number => number.textContent)])""")
    return [(words, *map(number, numbers)) for words, *numbers in found]


def number(shown):
    """A number as it is shown; of a share in percent within a half."""
    value = float(re.sub(r"[^\d.−]", "", shown).replace("−", "-"))
    return value / 100 if "%" in shown else value


def picture(browser):
    """Pixels of the large picture, as a digest."""
    return browser.run("""(async () => {
      const canvas = document.getElementById("picture");
      const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return data.reduce((sum, value, place) => (sum * 31 + value * (place % 7 + 1)) % 1000003, 7);
    })()""")


def write(browser, caption):
    """Types a caption, and waits until it was read and searched by."""
    browser.run("""document.getElementById("caption").select(); document.getElementById("status").textContent = "";
      document.getElementById("results").replaceChildren()""")
    browser.run("document.getElementById('caption').focus()")
    browser.type(caption)
    browser.wait(f"{STATUS} && {RESULTS}")


def test_a_scene_has_a_row_for_each_sentence_with_the_numbers_of_the_library(opened, model, folder):
    matches = model.match(folder / "0.png", CAPTIONS[0])
    shares = score_shares(model, folder / "0.png", CAPTIONS[0])
    found = rows(opened)
    assert [words for words, *_ in found] == [match.text for match in matches]
    for (_, fits, part, share), match, wanted in zip(found, matches, shares.sentences, strict=True):
        assert abs(fits - match.probability) <= 0.0051
        assert part == pytest.approx(wanted.alone, abs=0.006) and share == pytest.approx(wanted.share, abs=0.006)
    score = number(opened.run("document.getElementById('score').textContent").split(" = ")[0].removeprefix("CAFT++"))
    assert score == pytest.approx(float(model.similarity([folder / "0.png"], [CAPTIONS[0]])), abs=0.006)
    assert opened.run("document.getElementById('caption').value") == CAPTIONS[0]


def test_a_chosen_sentence_is_drawn_and_described(opened):
    seen = set()
    for place in range(4):
        opened.run(f"document.querySelectorAll('.row input')[{place}].click()")
        words = opened.run("document.getElementById('picture').getAttribute('aria-label')")
        assert words.startswith(f"0.png: “{rows(opened)[place][0]}” looks at the ") and "its mask covers" in words
        seen.add(picture(opened))
    assert len(seen) > 1


def test_the_slider_goes_through_the_nested_segments(opened, model, folder):
    counts = [len(np.unique(labels)) for labels in label_maps(model.network, Image.open(folder / "0.png"))]
    seen = set()
    opened.run("document.getElementById('level').focus()")
    for _ in range(4):
        opened.key("ArrowLeft", 37)
    for stage, count in enumerate(counts):
        if stage:
            opened.key("ArrowRight", 39)
        assert (
            opened.run("document.getElementById('level').getAttribute('aria-valuetext')") == f"{16 >> stage} segments"
        )
        words = opened.run("document.getElementById('picture').getAttribute('aria-label')")
        assert words == f"0.png: {count} segments"
        seen.add(picture(opened))
    assert len(seen) == len(counts) and opened.run("document.querySelector('#views :checked').value") == "lines"
    opened.run("document.querySelector('#views [value=means]').click()")
    assert picture(opened) not in seen
    opened.run("document.querySelector('#views [value=map]').click()")


def test_a_search_finds_what_the_library_finds_and_names_the_sentence_that_decided(opened, model, folder):
    write(opened, CAPTIONS[3])
    paths = [folder / f"{number}.png" for number in range(len(CAPTIONS))]
    scores = model.similarity(paths, [CAPTIONS[3]])[:, 0].numpy()
    places = opened.run("[...document.querySelectorAll('#results button')].map(button => Number(button.value))")
    shown = opened.run("[...document.querySelectorAll('#results p:nth-of-type(1)')].map(line => line.textContent)")
    found = [number(line.split("score ")[1].split(",")[0]) for line in shown]
    assert len(places) == 6 and found == pytest.approx(scores[places], abs=0.02)
    assert found == sorted(found, reverse=True) and min(found) >= sorted(scores)[-6] - 0.02
    reasons = opened.run("[...document.querySelectorAll('#results p:nth-of-type(2)')].map(line => line.textContent)")
    taken = [score_shares(model, paths[place], CAPTIONS[3]) for place in places]
    for rank, reason in enumerate(reasons):
        one, other = taken[rank], taken[0 if rank else 1]
        gains = np.array([s.share - o.share for s, o in zip(one.sentences, other.sentences, strict=True)])
        said = int(re.search(r"decided: (\d)", reason)[1]) - 1
        assert (-gains if rank else gains)[said] >= (-gains if rank else gains).max() - 0.02
        assert f"“{one.sentences[said].text}”" in reason
        assert number(re.search(r"\((.*?)\)", reason)[1]) == pytest.approx(gains[said], abs=0.02)


def test_a_result_shows_its_picture_with_the_same_caption(opened):
    place = opened.run("document.querySelectorAll('#results button')[1].value")
    opened.run("document.querySelectorAll('#results button')[1].click()")
    opened.wait(f"document.getElementById('seen').textContent.startsWith('{place}.png: “')")
    assert opened.run("document.getElementById('caption').value") == CAPTIONS[3]
    opened.wait("document.querySelector('#results .own').textContent.startsWith('2.')")
    assert opened.run("document.querySelector('.strip :checked').value") == place


def test_another_scene_brings_its_own_caption(opened):
    opened.run("document.querySelectorAll('.strip input')[2].click()")
    opened.wait("document.getElementById('seen').textContent.startsWith('2.png: “')")
    assert opened.run("document.getElementById('caption').value") == CAPTIONS[2]


def test_a_caption_may_be_empty_and_longer_than_the_model_reads(opened, model):
    opened.run("document.getElementById('caption').select()")
    opened.run("document.getElementById('caption').focus()")
    opened.key("Delete", 46)
    opened.wait(f"{STATUS} === 'The caption has no sentence yet.'")
    assert rows(opened) == []
    opened.wait("document.getElementById('search').hidden")
    text = "A red heart, " * 60 + "and a star. <b>It</b> & rains."
    write(opened, text)
    assert [words for words, *_ in rows(opened)] == model.sentences(text)


def test_own_pictures_are_taken_by_file_and_by_drop_in_any_shape(opened, model, tmp_path):
    own = tmp_path / "own <i>.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (30, 90, 4), np.uint8), "RGBA").save(own)
    write(opened, "A red heart. A blue star.")
    opened.choose_file("#file", own)
    opened.wait("document.getElementById('seen').textContent.startsWith('own <i>.png: “')")
    matches = model.match(own, "A red heart. A blue star.")
    assert [fits for _, fits, *_ in rows(opened)] == pytest.approx([m.probability for m in matches], abs=0.0151)
    assert opened.run("document.querySelectorAll('.strip :checked').length") == 0
    # Whoever chooses the same file once more means it.
    assert opened.run("""(() => { const file = document.getElementById("file"), before = file.value;
      file.click(); return [before !== "", file.value]; })()""") == [True, ""]
    other = tmp_path / "dropped.png"
    Image.new("RGB", (40, 20), "teal").save(other)
    opened.drop(other, 600, 300)
    opened.wait("document.getElementById('seen').textContent.startsWith('dropped.png: “')")


@pytest.mark.parametrize(("kind", "is_taken"), [("text", False), ("file", True)])
def test_of_what_is_dragged_files_alone_are_taken(opened, kind, is_taken):
    """A text may be dropped on the caption."""
    script = """(kind => {
      const dataTransfer = new DataTransfer();
      kind === "file" ? dataTransfer.items.add(new File([], "a.png")) : dataTransfer.setData("text/plain", "A star.");
      const event = new DragEvent("dragover", {dataTransfer, bubbles: true, cancelable: true});
      const taken = !document.getElementById("caption").dispatchEvent(event);
      document.getElementById("drop").classList.remove("over");
      return taken;
    })"""
    taken = opened.run(f"{script}('{kind}')")
    assert taken == is_taken


def test_a_picture_longer_than_a_canvas_is_taken(opened, tmp_path):
    Image.new("RGB", (70_000, 2), "teal").save(tmp_path / "long.png")
    opened.choose_file("#file", tmp_path / "long.png")
    opened.wait("document.getElementById('seen').textContent.startsWith('long.png: “')")


def test_what_is_no_picture_is_said(opened, tmp_path):
    before = opened.run("document.getElementById('seen').textContent")
    (tmp_path / "letter.txt").write_text("Dear reader")
    opened.choose_file("#file", tmp_path / "letter.txt")
    assert "letter.txt is no picture that this browser opens" in opened.wait(f"{STATUS}.includes('letter') && {STATUS}")
    assert opened.run("document.getElementById('seen').textContent") == before
    opened.run("document.querySelectorAll('.strip input')[2].click()")
    opened.wait("document.getElementById('seen').textContent.startsWith('2.png: “')")
    opened.choose_file("#file", tmp_path / "letter.txt")
    opened.wait(f"{STATUS}.includes('letter')")
    assert opened.run("document.querySelector('.strip :checked').value") == "2"  # it is still the one shown


def test_all_of_it_is_reached_by_the_keys_and_has_a_name(opened):
    write(opened, CAPTIONS[0])
    opened.run("document.activeElement.blur(); scrollTo(0, 0)")
    reached = []
    for _ in range(40):
        opened.key("Tab", 9)
        reached.append(
            opened.run("""(() => { const at = document.activeElement;
          return [at.id || at.name || at.tagName, at === document.body || at.matches(":focus-visible")]; })()""")
        )
    assert {name for name, _ in reached} >= {
        "scene", "file", "view", "level", "caption", "sentence", "SUMMARY", "BUTTON"
    } and all(visible for _, visible in reached)  # fmt: skip
    opened.run("document.querySelector('.row input:checked').focus()")
    before = opened.run("document.querySelector('.row input:checked').value")
    opened.key("ArrowDown", 40)
    chosen = opened.run("document.querySelector('.row input:checked').value")
    assert chosen != before and opened.run("document.querySelector('.row.chosen input').value") == chosen
    nodes = opened.call("Accessibility.getFullAXTree")["nodes"]
    names = {
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node.get("ignored", True)
    }
    roles = ("button", "radio", "slider", "textbox", "image", "img", "canvas", "region")
    assert {role for role, _ in names} >= {"radio", "slider", "textbox", "button"}
    assert not [(role, name) for role, name in names if role in roles and not name.strip()]
    assert any(
        role == "radio" and re.search("% (fits|not borne out) .*part score .*share", name) for role, name in names
    )


def accessible(browser):
    """What a screen reader is given, in its order: of each node role, name, properties and the element's id."""
    found, nodes = [], browser.call("Accessibility.getFullAXTree")["nodes"]
    known, todo = {node["nodeId"]: node for node in nodes}, [nodes[0]["nodeId"]]
    while todo:
        node = known[todo.pop()]
        todo += reversed(node.get("childIds", []))
        if not node["ignored"] and "backendDOMNodeId" in node:
            element = browser.call("DOM.describeNode", backendNodeId=node["backendDOMNodeId"])["node"]
            pairs = element.get("attributes", [])
            states = {entry["name"]: entry["value"].get("value") for entry in node.get("properties", [])}
            states |= {key: node[key]["value"] for key in ("value", "description") if "value" in node.get(key, {})}
            attributes = dict(zip(pairs[::2], pairs[1::2], strict=True))
            found.append((node["role"]["value"], node.get("name", {}).get("value", ""), states, attributes.get("id")))
    return found


def test_a_screen_reader_is_given_names_states_and_changes(opened):
    opened.run("document.querySelectorAll('.strip input')[0].click()")
    opened.wait(
        "document.getElementById('caption').value.startsWith('A red') && document.querySelector('.row') !== null"
    )
    write(opened, CAPTIONS[0])
    opened.run("document.querySelectorAll('.row input')[0].click()")
    tree = accessible(opened)
    title = opened.run("document.querySelector('#scenes legend').textContent")
    groups = [
        name for role, name, *_ in tree if role in ("region", "group") and name
    ]  # <details> is a group without one
    assert groups == ["Pick a picture", title, "Picture", "Show", "Caption", "Sentences", "Search by this caption"]
    headings = [(name, states["level"]) for role, name, states, _ in tree if role == "heading"]
    assert headings == [("CAFT, live", 1), ("Picture", 2), ("Caption", 2), ("Search by this caption", 2)]
    radios = [name for role, name, *_ in tree if role == "radio"]
    assert radios[:7] == [f"Picture {number}.png" for number in range(7)]
    shown = ["map and mask", "mask", "segments", "segments in their mean colours", "picture"]
    assert radios[7:12] == shown and all(re.match(r"A |The |It ", name) for name in radios[12:]) and len(radios) == 16
    checked = [name for role, name, states, _ in tree if role == "radio" and states["checked"] == "true"]
    assert checked == ["Picture 0.png", "map and mask", radios[12]]
    by_id = {identity: (role, name, states) for role, name, states, identity in tree if identity}
    role, name, states = by_id["caption"]
    assert (role, name, states["value"]) == ("textbox", "Caption", CAPTIONS[0])
    assert states["description"] == "Choose a sentence below to see where it looks."
    assert by_id["level"][:2] == ("slider", "Segments, nested")
    assert by_id["file"][1].startswith("A picture of your own") and by_id["earlier"][2]["disabled"]
    assert by_id["picture"][1].startswith("0.png: “A red square is at the left.” looks at ")
    results = [name for role, name, *_ in tree if role == "button"][-6:]
    assert all(re.match(rf"\d\.png {place}\. score ", name) for place, name in enumerate(results, 1)), results
    # What changes by itself is read out: the state, what is seen, the count of segments, what was found.
    assert {identity for identity, (*_, states) in by_id.items() if states.get("live") == "polite"} == {
        "status", "seen", "count", "found"
    }  # fmt: skip
    opened.run("document.querySelector('.row input').focus()")
    opened.key("ArrowDown", 40)
    assert opened.run("document.getElementById('seen').textContent").startswith(
        "0.png: “A striped star is at the top.” looks"
    )


def test_the_keys_go_through_the_page_in_the_order_in_which_it_is_read(opened):
    opened.run("document.activeElement.blur(); scrollTo(0, 0); getSelection().removeAllRanges()")
    opened.run("document.querySelector('h1').tabIndex = -1; document.querySelector('h1').focus()")
    reached = []
    for _ in range(13):
        opened.key("Tab", 9)
        reached.append(
            opened.run("document.activeElement.name || document.activeElement.id || document.activeElement.tagName")
        )
    assert reached == ["scene", "file", "view", "level", "caption", "sentence", "SUMMARY", *["BUTTON"] * 6]
    opened.key("Tab", 9, modifiers=8)  # back
    assert opened.run("[...document.querySelectorAll('#results button')].indexOf(document.activeElement)") == 4


@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_as_wide_as_the_screen(opened, width):
    opened.size(width, 844)
    opened.run("document.querySelector('details').open = true")
    assert opened.run("[document.documentElement.scrollWidth, document.documentElement.clientWidth]") == [width, width]
    outside = opened.run("""[...document.querySelectorAll("body *")]
      .filter(one => one.getBoundingClientRect().right > innerWidth + 0.5).map(one => one.outerHTML.slice(0, 90))""")
    assert outside == []


def test_nothing_was_asked_of_anybody_and_nothing_complained(opened, page):
    """Stands behind the others, whose questions are counted too."""
    asked = {address for address in opened.requests if not address.startswith(("data:", "blob:"))}
    assert asked == {page.as_uri()} and opened.console == []


def test_a_request_would_be_stopped(opened):
    refused = opened.run("""Promise.all(["http://127.0.0.1:9/", "https://example.org/"].map(address =>
      fetch(address).then(() => "went", error => error.name)))""")
    assert refused == ["TypeError"] * 2
    complaints = [line for line in map(str, opened.console) if "Content Security Policy" in line]
    assert len(complaints) >= 2
    # An image, a form, a script and a worker of the network would be too.
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page_text(opened))[1]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'" and directives["form-action"] == directives["base-uri"] == "'none'"
    assert directives["img-src"] == "data:" and directives["worker-src"] == "blob:"
    assert all(
        value.startswith("'sha256-") for name, value in directives.items() if name in ("script-src", "style-src")
    )


@pytest.fixture(scope="module")
def half_captioned(browser, model, folder, tmp_path_factory):
    """A page of three pictures of which the first alone has a caption; the others come after it."""
    place = tmp_path_factory.mktemp("half")
    for number in range(3):
        (place / f"{number}.png").write_bytes((folder / f"{number}.png").read_bytes())
    (place / "0.txt").write_text(CAPTIONS[0])
    path = place / "demo.html"
    path.write_text(demo_page(model, of_folder(place)), encoding="utf-8")
    browser.open(path.as_uri())
    browser.wait(RESULTS)
    return browser


def pick(browser, number):
    browser.run(f"document.querySelectorAll('.strip input')[{number}].click()")
    browser.wait(f"document.getElementById('seen').textContent.startsWith('{number}.png')")
    return browser.run("document.getElementById('caption').value")


def test_a_scene_without_a_caption_takes_away_that_of_another_and_no_words_of_ones_own(half_captioned):
    assert pick(half_captioned, 1) == ""
    half_captioned.wait(f"{STATUS} === 'The caption has no sentence yet.'")
    assert rows(half_captioned) == [] and half_captioned.run("document.getElementById('score').textContent") == ""
    assert pick(half_captioned, 0) == CAPTIONS[0] and pick(half_captioned, 2) == ""
    write(half_captioned, "It rains.")
    assert pick(half_captioned, 1) == "It rains."
    half_captioned.wait("document.querySelectorAll('.row').length === 1")
    assert pick(half_captioned, 0) == CAPTIONS[0]


def test_text_that_the_command_line_would_repair_is_told(half_captioned):
    write(half_captioned, "A red cafÃ© is at the left.")
    assert "the command caft repairs that" in half_captioned.run(STATUS)
    write(half_captioned, "A red café is at the left.")
    assert half_captioned.run(STATUS).startswith("Asked 1 sentence in ") and half_captioned.run(STATUS).endswith(" ms.")


def test_a_question_asks_the_part_level_once_for_each_text(half_captioned, model):
    """The worker, with a count of the queries of its pooling."""
    counting = """
      let queries = 0;
      const {open} = Caft, post = self.postMessage.bind(self);
      Caft.open = whole => {
        const model = open(whole), tensor = model.weights.tensor.bind(model.weights);
        model.weights.tensor = name => { queries += name === "pool.query.weight"; return tensor(name); };
        return model;
      };
      self.postMessage = (message, moved) => post({...message, queries}, moved);
    """
    source = engine_source() + counting + (PROJECT / "caft/demo/static/work.js").read_text(encoding="utf-8")
    given = {"source": source, "parts": script_text(page_parts(model)), "captions": [CAPTIONS[0], CAPTIONS[1]]}
    script = """(async ({source, parts, captions}) => {
      const worker = new Worker(URL.createObjectURL(new Blob([source], {type: "text/javascript"})));
      const call = (kind, content) => new Promise(resolve => {
        worker.onmessage = ({data}) => resolve(data);
        worker.postMessage({id: 0, kind, ...content});
      });
      await call("open", {parts, pictures: 0});
      const rgba = Uint8ClampedArray.from({length: 4 * 48 * 32}, (_, place) => place % 251);
      await call("see", {rgba, width: 48, height: 32, mapWidth: 48, mapHeight: 32});
      const counts = [];
      for (const caption of captions) counts.push(await call("ask", {caption}));
      worker.terminate();
      return counts.map(({answer, queries, error}) => error ?? [answer.sentences.length, queries]);
    })"""
    (sentences, first), (_, both) = half_captioned.run(f"{script}({json.dumps(given)})")
    # The sentences for their maps and matches; chunks and sentences for CAFT++; the references once for a picture.
    once = sentences + model.card.chunks + sentences
    assert (sentences, first, both) == (4, once + len(model.card.references), 2 * once + len(model.card.references))


def page_text(browser):
    return Path(browser.run("location.pathname")).read_text(encoding="utf-8")


# ---------------------------------------------------------------------- without a browser


def test_the_page_is_small_enough_and_the_same_each_time(model, folder, page):
    text = page.read_text(encoding="utf-8")
    assert len(text.encode()) < LARGEST == 20_000_000
    assert demo_page(model, of_folder(folder)) == text
    assert text.count(" inert") == 2  # until the model is there


def test_names_that_are_no_text_are_shown_as_far_as_they_are(model, tmp_path):
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff & co"))
    place.mkdir()
    Image.new("RGB", (9, 9)).save(os.fsdecode(os.fsencode(place) + b"/\xfe.png"))
    page = demo_page(model, of_folder(place))
    assert "<legend>? &amp; co: 1 picture</legend>" in page and page.encode()


def test_a_page_that_would_be_too_large_is_refused(model, folder, page, monkeypatch):
    monkeypatch.setattr(pages, "LARGEST", page.stat().st_size - 1)
    with pytest.raises(
        CheckpointError, match=r"the page would have \d+\.\d MB, at most \d+\.\d MB: give fewer pictures"
    ):
        demo_page(model, of_folder(folder))


def test_models_that_no_page_runs_are_refused(model):
    settings = load_params(PROJECT / "params.yaml", [PROJECT / "pipelines/ablation/flair.yaml"]).models["tiny"]
    flat = Model(CAFT(settings, chunks=1), model.card.model_copy(update={"model": settings}))
    with pytest.raises(CheckpointError, match="the model has no superpixels"):
        demo_page(flat, Scenes(""))
    text = model.network.config.text.model_copy(update={"width": 256})
    wide = model.network.config.model_copy(update={"text": text})
    large = Model(CAFT(wide), model.card.model_copy(update={"model": wide}))
    with pytest.raises(
        CheckpointError, match=r"weights alone would take \d+\.\d MB of a page, at most 20.0 MB; pages run"
    ):
        demo_page(large, Scenes(""))
    assert "&lt;why&gt;" in absent_page("<why>") and "<why>" not in absent_page("<why>")


def test_scenes_are_the_first_of_a_folder_with_the_texts_beside_them(folder, tmp_path, monkeypatch):
    found = of_folder(folder)
    assert [scene.name for scene in found.pictures] == [f"{number}.png" for number in range(7)]
    assert [scene.caption for scene in found.pictures] == CAPTIONS
    assert [scene.content for scene in found.pictures] == [
        (folder / f"{number}.png").read_bytes() for number in range(7)
    ]
    monkeypatch.setattr(scenes, "MOST", 3)
    assert of_folder(folder).title.endswith(": the first 3 of 7 pictures")
    for name, place in (("10", "image/10.jpg"), ("9", "image/9.jpg")):
        (tmp_path / "image").mkdir(exist_ok=True)
        (tmp_path / "caption").mkdir(exist_ok=True)
        Image.effect_noise((900, 600), 80).convert("RGB").save(tmp_path / place, quality=95)
        (tmp_path / "caption" / f"{name}.txt").write_text(f"Number {name}.", encoding="utf-8")
    (tmp_path / "image/8.jpg").write_bytes(b"no picture")
    found = of_folder(tmp_path)
    assert [(scene.name, scene.caption, scene.type) for scene in found.pictures] == [
        ("9.jpg", "Number 9.", "image/webp"), ("10.jpg", "Number 10.", "image/webp")
    ]  # fmt: skip
    assert len(found.left_out) == 1 and "8.jpg" in found.left_out[0]


def test_folders_without_pictures_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        of_folder(tmp_path / "absent")
    (tmp_path / "a.md").write_text("text")
    with pytest.raises(DataError, match="no picture in it or below; found 1 .md"):
        of_folder(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="none of its 1 pictures can be read; the first: .*a.png"):
        of_folder(tmp_path)
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="a.txt: cannot be read as a text in UTF-8"):
        of_folder(tmp_path)


# ---------------------------------------------------------------------- the look


def colours(style, dark):
    """Colours of a style sheet's root by name."""
    light, night = re.findall(r":root \{(.*?)\}", style, re.S)[:2]
    return dict(re.findall(r"--(\w+): (#\w+)", light + night if dark else light))


@pytest.mark.parametrize("dark", [False, True])
def test_its_colours_are_the_reports_and_can_be_read(dark):
    style = (PROJECT / "caft/demo/static/page.css").read_text()
    own = colours(style, dark)
    report = colours((PROJECT / "caft/eval/report/templates/style.css").read_text(), dark)
    assert own and own.items() <= report.items()

    def luminance(colour):
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        values = np.frombuffer(bytes.fromhex(digits), np.uint8) / 255
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    for ink in ("ink", "soft", "accent", "good", "bad"):
        for ground in ("paper", "card"):
            low, high = sorted((luminance(own[ink]), luminance(own[ground])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)
