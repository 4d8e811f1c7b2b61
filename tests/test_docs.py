"""Every example of the README and of the pages in docs/ runs, and every link leads to what it names.

A block that cannot run here says why, in a comment above it: `<!-- not executed: reason -->`.
"""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import skimage.data
from PIL import Image

from caft.weights.files import save_model

PROJECT = Path(__file__).parents[1]
README = PROJECT / "README.md"
PAGES = [README, *sorted((PROJECT / "docs").glob("*.md"))]
# Whose links are followed, too.
OTHERS = [PROJECT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
# A fenced block, with the comment above it if there is one.
_BLOCK = re.compile(r"(?:<!-- not executed: (?P<reason>[^>]+) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)```", re.S)
_LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<target>[^)#\s]*)(?:#(?P<section>[^)\s]+))?\)")


def blocks(page, language):
    found = [match for match in _BLOCK.finditer(page.read_text()) if match["language"] == language]
    return [match["code"] for match in found if not match["reason"]]


@pytest.fixture(scope="module")
def user_folder(model, tmp_path_factory):
    """What a reader has: settings, a trained model (here of random weights), metrics, pictures; `caft` on the path."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "models").mkdir()
    save_model(model.network, folder / "models/caft.safetensors", model.card)
    for name in ("params.yaml", "pipelines"):
        (folder / name).symlink_to(PROJECT / name)
    (folder / "metrics").mkdir()
    (folder / "metrics/grounding.json").symlink_to(PROJECT / "metrics/grounding.json")
    (folder / "photos").mkdir()
    Image.fromarray(skimage.data.chelsea()).convert("RGB").save(folder / "photo.jpg")
    Image.fromarray(skimage.data.chelsea()).save(folder / "photos/cat.png")
    Image.fromarray(skimage.data.astronaut()).save(folder / "photos/astronaut.png")
    (folder / "bin").mkdir()
    script = folder / "bin/caft"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m caft "$@"\n')
    script.chmod(0o755)
    return folder


def test_there_are_pages():
    assert {page.name for page in PAGES} >= {
        "quickstart.md",
        "pipeline.md",
        "equations.md",
        "extending.md",
        "results.md",
    }


def test_how_well_a_match_tells_true_from_false_is_what_was_measured():
    match = json.loads((PROJECT / "metrics/grounding.json").read_text())["sentence"]["match"]
    text = (PROJECT / "docs/quickstart.md").read_text()
    shown = re.search(r"\| what is false .*\n\| ---.*\n((?:\|.*\n)+)", text)[1].splitlines()
    names = {"nothing (true sentences)": "true", "words without meaning": "nonsense",
             "sentences of another picture": "other_picture"}  # fmt: skip
    expected = {}
    for kind, count in match["sentences"].items():
        areas = ("", "") if kind == "true" else (f"{match[key][kind]:.1f}" for key in ("auroc", "auroc_percentile"))
        expected[kind] = (str(count), *areas, f"{match['greyed'][kind]:.1f} %")
    all_together = expected.pop("all")
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in shown]
    assert {names.get(what, what): tuple(cells) for what, *cells in rows} == expected
    assert re.search(rf"come to\s+{re.escape(all_together[1])}\.", text)


def test_commands_of_the_readme_are_run_in_the_quickstart():
    (shown,) = [m["code"] for m in _BLOCK.finditer(README.read_text()) if "quickstart" in (m["reason"] or "")]
    commands = [line.partition("  #")[0].rstrip() for line in shown.splitlines()]
    run = "".join(blocks(PROJECT / "docs/quickstart.md", "bash")).splitlines()
    assert commands and not set(commands) - set(run)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run_in_the_order_of_the_page(page, user_folder, monkeypatch):
    """Shell blocks are run as one script, each line's failure its own; Python blocks share their names."""
    monkeypatch.chdir(user_folder)
    bash = blocks(page, "bash")
    if bash:
        environment = {
            **os.environ,
            "PATH": f"{user_folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT),
            "XDG_CACHE_HOME": str(user_folder / "cache"),
            "CAFT_STORAGE": str(user_folder / "storage"),
        }
        # Without pipefail: `| head` ends what it reads from.
        done = subprocess.run(
            ["bash", "-eux", "-c", "\n".join(bash)], cwd=user_folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    names = {}
    for number, code in enumerate(blocks(page, "python")):
        exec(compile(code, f"{page.name}, Python block {number}", "exec"), names)


def test_the_examples_left_their_results(user_folder):
    """Runs after the pages of this module."""
    if not (user_folder / "out.png").exists():
        pytest.skip("the pages were not run")
    assert Image.open(user_folder / "out.png").width > 800 and Image.open(user_folder / "segments.png").width > 1000
    assert (user_folder / "MODEL_CARD.md").read_text().startswith("# CAFT model")
    assert '"duplicate_url": 1' in (user_folder / "data/urls/mine.json").read_text()


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: page.name)
def test_links_lead_to_what_they_name(page):
    links = _LINK.findall(page.read_text())
    assert links or page in OTHERS
    for text, target, section in links:
        if target.startswith("http"):
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.exists() and PROJECT in path.parents, f"{page.name}: {target}"
        assert not section or section in sections(path), f"{page.name}: {target}#{section}"
        name = re.fullmatch(r"`(\w+)`", text)
        if name and path.suffix == ".py" and name[1] != path.stem:
            assert name[1] in defined(path), f"{page.name}: {target} does not define {name[1]}"


def sections(path):
    """Names of a page's headings in links."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def defined(path):
    """Functions, classes and methods of a file."""
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_every_page_is_reached_from_another_or_the_readme():
    text = "".join(path.read_text() for path in PAGES)
    for page in PAGES[1:]:
        assert f"({page.name})" in text or f"(docs/{page.name})" in text, page.name
