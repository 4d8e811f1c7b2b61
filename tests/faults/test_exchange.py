"""What `dvc push` carries makes the report in another checkout, without images and without training."""

import copy
import re
import shutil
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.faults import stages
from tests.faults.checkout import dvc, make_checkout, stages_run, would_run
from tests.faults.conftest import Finished
from tests.ports import free_port

pytestmark = pytest.mark.slow


@pytest.fixture
def first(finished: Finished, tmp_path: Path) -> Path:
    """A git and DVC checkout in which every stage is up to date; its remote is a folder beside it."""
    finished.run_up_to("report")
    settings = copy.deepcopy(stages.SETTINGS)
    settings["corpus"]["scenes"]["port"] = finished.port  # addresses name it
    here = make_checkout(tmp_path / "first", settings)
    for name in ("data", "images", "metrics", "models", "plots", "reports"):
        shutil.copytree(finished.checkout / name, here / name, dirs_exist_ok=True)
    call_dvc(here, "commit", "--force", "--quiet", "dvc.yaml")
    call_dvc(here, "remote", "add", "--default", "shared", str(tmp_path / "remote"))
    call_git(here, "add", ".dvc/config", "dvc.lock", "metrics", "plots")
    call_git(here, "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "--message", "A run")
    return here


def call_dvc(folder: Path, *arguments: str) -> str:
    done = dvc(folder, *arguments)
    assert done.returncode == 0, (arguments, done.stdout[-3000:], done.stderr[-3000:])
    return done.stdout


def call_git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True)


def comparable(page: Path) -> str:
    """A page without the sampled training images and the tracker's facts, which the second checkout has not, and times."""
    text = re.sub(r"<h3>Samples.*?(?=<h2>)", "", page.read_text(), flags=re.S)
    text, facts = re.subn(r'<dl class="facts">.*?</dl>', "", text, flags=re.S)
    assert facts == 1
    text = re.sub(r"Model \w+ was trained (.*?) by \w+ process(?:es)?\.", r"The model was trained \1.", text)
    return re.sub(r"[\d.]+ ms", "", text)


def pictures(checkout: Path) -> list[bytes]:
    """The encoded images of the corpus, cut out of its tars."""
    found = []
    for table in sorted((checkout / "data/captions/scenes").glob("*.parquet")):
        tar = (checkout / "images/scenes" / table.with_suffix(".tar").name).read_bytes()
        places = pq.read_table(table, columns=["offset", "size"]).to_pylist()
        found += [tar[place["offset"] : place["offset"] + place["size"]] for place in places]
    return found


def test_a_pull_makes_the_report_without_images_and_without_training(first: Path, tmp_path: Path) -> None:
    call_dvc(first, "push")
    pushed = b"".join(file.read_bytes() for file in (tmp_path / "remote").rglob("*") if file.is_file())
    images = pictures(first)
    assert len(images) == stages.IMAGES and not any(image in pushed for image in images)
    for kept in ("data/images/scenes.json", "data/corpora.json", "models/caft.safetensors", "reports/index.html"):
        assert (first / kept).read_bytes() in pushed, kept

    second = tmp_path / "second"
    call_git(tmp_path, "clone", "--quiet", str(first), str(second))
    # All but the page, which comes after this stage: else there would be nothing to make.
    call_dvc(second, "pull", "--with-deps", "evaluate_grounding")
    assert not (second / "reports/index.html").exists()
    ran = stages_run(call_dvc(second, "repro", "dvc.yaml"))

    assert ran == ["report"]
    assert not (second / "images").exists()
    pages = [checkout / "reports/index.html" for checkout in (first, second)]
    assert ["None are shown" in page.read_text() for page in pages] == [False, True]
    assert comparable(pages[0]) == comparable(pages[1])
    assert (second / "reports/paper.json").read_bytes() == (first / "reports/paper.json").read_bytes()
    for name in ("data", "metrics", "models", "plots", "reports/expressions"):
        assert stages.content(second / name) == stages.content(first / name), name


def test_after_a_merge_with_conflicts_either_lock_does(tmp_path: Path) -> None:
    """What docs/exchange.md says: settle params.yaml, take either lock, `dvc repro`."""
    scenes = {"port": free_port(), "images": 24, "evaluation_images": 8, "regions": 4}
    here = make_checkout(tmp_path / "caft", {"corpus": {"scenes": scenes}})
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]

    def run_with(images: int) -> None:
        text = (here / "params.yaml").read_text()
        (here / "params.yaml").write_text(re.sub(r"(    images: )\d+", rf"\g<1>{images}", text))
        call_dvc(here, "repro", "source@scenes")
        call_git(here, "add", "params.yaml", "dvc.lock")
        subprocess.run([*git, "commit", "--quiet", "--message", f"{images} images"], cwd=here, check=True)

    run_with(24)
    call_git(here, "checkout", "--quiet", "-b", "more")
    run_with(30)
    call_git(here, "checkout", "--quiet", "-")
    run_with(36)
    merged = subprocess.run([*git, "merge", "more"], cwd=here, capture_output=True, text=True)
    assert merged.returncode == 1 and "<<<<<<<" in (here / "dvc.lock").read_text()

    text = (here / "params.yaml").read_text()
    settled = re.sub(r"<<<<<<< HEAD\n.*?=======\n(.*?)>>>>>>> more\n", r"\1", text, flags=re.DOTALL)
    (here / "params.yaml").write_text(settled)  # theirs, while the lock is ours
    call_git(here, "checkout", "HEAD", "--", "dvc.lock")
    call_git(here, "add", "params.yaml", "dvc.lock")
    call_dvc(here, "repro", "source@scenes")
    assert would_run(here, "source@scenes") == set()
    rows = pq.read_table(here / "data/urls/scenes.parquet")
    theirs = subprocess.run(["git", "show", "more:dvc.lock"], cwd=here, capture_output=True, text=True, check=True)
    assert (here / "dvc.lock").read_text() == theirs.stdout and rows.num_rows > 30
    subprocess.run([*git, "commit", "--quiet", "--all", "--no-edit"], cwd=here, check=True)
