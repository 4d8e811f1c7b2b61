"""The plan of a run against the paper's hours, torch's own record of what it keeps, and what it must refuse."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from caft import CAFT
from caft.errors import ParamsError
from caft.params import load_params
from caft.train.cost import memory
from caft.train.plan import plan
from caft.train.task import TrainingTask

PROJECT = Path(__file__).parents[2]
# Hours on eight A100s [Table 5].
PUBLISHED = {
    ("cc3m",): (12.3, 98.6),
    ("cc12m",): (42.5, 340.0),
    ("yfcc15m",): (59.5, 476.0),
    ("cc3m", "cc12m", "yfcc15m"): (114.4, 915.2),
}
PAPER = {"model": "base", "recipe": "paper", "launch": "a100x8"}


def overlay(tmp_path: Path, **settings: object) -> Path:
    path = tmp_path / "overlay.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def planned(tmp_path: Path, **settings: object) -> dict[str, str]:
    params = load_params(PROJECT / "params.yaml", [overlay(tmp_path, **{**PAPER, **settings})])
    return dict(line.split(maxsplit=1) for line in plan(params))


@pytest.mark.parametrize("corpora", PUBLISHED, ids="+".join)
def test_hours_are_those_of_the_paper(
    corpora: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where no index is
    hours = planned(tmp_path, corpora=list(corpora))["hours"].split()
    wall, gpu = PUBLISHED[corpora]
    assert hours[1:4] == ["at", "2,090", "images/s,"]
    assert float(hours[0]) == pytest.approx(wall, rel=0.05)
    assert float(hours[4]) == pytest.approx(gpu, rel=0.05)


def test_the_command_prints_the_plan_and_does_nothing(tmp_path: Path) -> None:
    path = overlay(tmp_path, **{**PAPER, "corpora": ["cc3m"]})
    command = [sys.executable, "-m", "pipelines.train", "--dry-run", "--params", str(PROJECT / "params.yaml")]
    environment = {"PYTHONPATH": str(PROJECT), "PATH": ""}
    done = subprocess.run(
        [*command, "--overlay", str(path)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["launcher"] == "a100x8 (slurm): 1 nodes x 8 ranks, 8 GPUs a node"
    # (2,823,019 - 1,000 held out) x 32 / 2,048, by hand
    assert lines["steps"] == "44,094 of 2048 images, 256 a rank"
    assert "GiB a rank" in lines["memory"] and lines["memory"].endswith("; of 80 GB")
    assert [file.name for file in tmp_path.iterdir()] == ["overlay.yaml"]


def test_an_index_of_these_corpora_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/index").mkdir(parents=True)
    summary = {"corpora": [{"name": "cc3m", "count": 2_000_000}]}
    (tmp_path / "data/index/index.json").write_text(json.dumps(summary))
    assert planned(tmp_path, corpora=["cc3m"])["images"] == "2,000,000 (data/index)"
    assert planned(tmp_path, corpora=["cc12m"])["images"].startswith("10,010,225 (published")


def test_more_ranks_than_a100x8_state_no_hours(tmp_path: Path) -> None:
    lines = planned(tmp_path, corpora=["cc3m"], launch="a100x32")
    assert lines["steps"] == "44,094 of 2048 images, 64 a rank"
    assert lines["hours"] == "not stated: the launcher has no images_per_s"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"train": {"batch": 16384}},
            r"train.batch = 16384: does not fit .*gpu_memory_gb \(80\): 2048 images take .* use more ranks",
        ),
        (
            {"train": {"batch": 2050}},
            r"train.batch = 2050: must be a multiple of the world size \(8\); nearest are 2048",
        ),
        (
            {"launchers": {"a100x8": {"slurm": {"time_limits": 3}}}, "corpora": ["cc3m", "cc12m", "yfcc15m"]},
            r"launchers.a100x8.slurm.time_limits = 3: must be at least 4 for 114 hours",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(settings: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=message):
        planned(tmp_path, **{"corpora": ["cc3m"], **settings})


def test_memory_is_what_torch_keeps_for_the_backward_pass() -> None:
    """All that autograd saves, each storage once, on a model large enough for the formula's large parts."""
    params = load_params(PROJECT / "params.yaml")
    sizes = params.models["tiny"].model_copy(update={"width": 256, "blocks": (3, 3, 3, 2)})
    text = sizes.text.model_copy(update={"width": 256, "sub_layers": 4})
    sizes = sizes.model_copy(update={"text": text})
    recipe, batch = params.recipes["smoke"], 8
    model = CAFT(sizes, recipe.chunks)
    task = TrainingTask(model, recipe, 0)
    pixels = torch.randint(256, (batch, 3, 64, 64), dtype=torch.uint8)
    tokens = torch.randint(1, 49000, (batch, recipe.sub_captions, 77))
    tokens[..., -1] = 49407  # every text has the full length
    labels = model.superpixel_labels(pixels)
    weights = {parameter.untyped_storage().data_ptr() for parameter in task.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        terms = task(pixels, labels, tokens, 0)
    needed = memory(sizes, recipe, batch, 1, 4, text_length=77)
    assert terms["loss"].requires_grad
    # The loss and the poolings are left out of the formula.
    assert 0.8 * sum(kept.values()) < needed.images + needed.texts <= sum(kept.values())
    trained = sum(parameter.numel() for parameter in task.parameters() if parameter.requires_grad)
    assert needed.state == pytest.approx(16 * trained, rel=0.01)
