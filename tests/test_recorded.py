"""What is edited while a stage runs: DVC would write it into dvc.lock as what made the stage's result."""

import subprocess
from pathlib import Path

import pytest

from caft.errors import CaftError
from pipelines import recorded
from tests.faults import stages
from tests.faults.checkout import DVC, ENVIRONMENT, make_checkout
from tests.waiting import wait_until

GRAPH = """
stages:
  source:
    foreach: ${corpora}
    do:
      cmd: python -m pipelines.source ${item}
      deps: [caft/loss, pipelines/source.py, data/table]
      params: ["corpus.${item}", "recipes.${recipe}", seed]
"""
SETTINGS = (
    "recipe: smoke\nseed: 0\ncorpus: {a: {csv: one}, b: {csv: one}}\nrecipes: {smoke: {batch: 8}, paper: {batch: 9}}\n"
)


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> recorded.Seen:
    """What stood in a checkout when stage `source@a` began."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "source@a")
    for name, content in (
        ("dvc.yaml", GRAPH),
        ("params.yaml", SETTINGS),
        ("caft/loss/sum.py", "x = 1\n"),
        ("caft/eval.py", "x = 1\n"),
        ("pipelines/source.py", "x = 1\n"),
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content)
    seen = recorded.look("params.yaml")
    assert seen is not None
    return seen


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("caft/loss/sum.py", "x = 1", "x = 2", "caft/loss/sum.py"),
        ("caft/loss/sum.py", "x = 1", "x = ", "caft/loss/sum.py"),  # half written
        ("params.yaml", "seed: 0", "seed: 1", "seed 0 -> 1"),
        ("params.yaml", "a: {csv: one}", "a: {csv: two}", "corpus.a.csv one -> two"),
        ("params.yaml", "a: {csv: one}", "a: {csv: one, port: 1}", "corpus.a.port None -> 1"),
        ("params.yaml", "batch: 8", "batch: 7", "recipes.smoke.batch 8 -> 7"),
    ],
)
def test_what_the_stage_lists_and_was_edited_is_told(
    before: recorded.Seen, file: str, old: str, new: str, words: str
) -> None:
    content = Path(file).read_text()
    Path(file).write_text(content.replace(old, new))
    with pytest.raises(CaftError) as caught:
        recorded.check(before, "params.yaml")
    assert str(caught.value).startswith(f"{words} changed while stage source@a ran, and DVC would record that")
    Path(file).write_text(content)
    recorded.check(before, "params.yaml")  # undone


def test_another_selection_and_a_new_file_are_told(before: recorded.Seen) -> None:
    Path("params.yaml").write_text(SETTINGS.replace("recipe: smoke", "recipe: paper"))
    Path("caft/loss/new.py").write_text("y = 1")
    with pytest.raises(CaftError) as caught:
        recorded.check(before, "params.yaml")
    assert str(caught.value).startswith(
        "caft/loss/new.py, recipes.smoke.batch 8 -> None, recipes.paper.batch None -> 9 changed"
    )


def test_what_the_stage_does_not_list_may_be_edited(before: recorded.Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("caft/eval.py").write_text("x = 2")
    Path("caft/loss/sum.py").write_text('"""Words."""\nx = 1  # one\n')
    Path("params.yaml").write_text("# mine\n" + SETTINGS.replace("b: {csv: one}", "b: {csv: two}"))
    recorded.check(before, "params.yaml")
    Path("params.yaml").write_text(SETTINGS.replace("seed: 0", "seed: 1"))
    monkeypatch.delenv("DVC_STAGE")  # nobody records
    assert recorded.look("params.yaml") is None
    recorded.check(None, "params.yaml")


@pytest.mark.slow
def test_dvc_itself_records_nothing_of_a_stage_whose_settings_changed_meanwhile(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "caft", stages.SETTINGS)
    script = checkout / "pipelines/source.py"
    first = "    name: str = arguments.corpus\n"
    waits = '    import time\n    Path("begun").touch()\n    while not Path("go").exists():\n        time.sleep(0.05)\n'
    assert first in script.read_text()
    script.write_text(script.read_text().replace(first, waits + first))
    environment = {**ENVIRONMENT, "PYTHONPATH": str(checkout)}
    subprocess.run([*DVC, "repro", "look"], cwd=checkout, env=environment, capture_output=True, check=True)
    command = [*DVC, "repro", "--single-item", "source@scenes"]
    running = subprocess.Popen(command, cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_until((checkout / "begun").exists, 100, running)
    settings = checkout / "params.yaml"
    before = settings.read_text()
    settings.write_text(before.replace("    regions: 4\n", "    regions: 5\n"))
    (checkout / "go").touch()
    output = running.communicate(timeout=600)[0].decode()
    assert running.returncode != 0, output
    assert "error: corpus.scenes.regions 4 -> 5 changed while stage source@scenes ran" in output
    assert "source@scenes" not in (checkout / "dvc.lock").read_text()
    settings.write_text(before)
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "source@scenes" in (checkout / "dvc.lock").read_text()
