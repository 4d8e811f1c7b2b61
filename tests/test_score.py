"""Given weights through pipelines/score by DVC itself, in a checkout of its own: nothing is trained, cells are filled."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient
from PIL import Image

from pipelines.deps import GIVEN
from tests.faults.checkout import dvc, make_checkout
from tests.test_pretrained import TINY, released_state
from tests.test_structure import PACKAGES, covers, stages

PROJECT = Path(__file__).parents[1]
GRAPH = "pipelines/score/dvc.yaml"


def score_stages() -> dict[str, dict[str, Any]]:
    return yaml.safe_load((PROJECT / GRAPH).read_text())["stages"]


def code(stage: dict[str, Any]) -> set[str]:
    return {entry for entry in stage["deps"] if entry.split("/")[0] in PACKAGES}


def test_the_stages_are_those_of_the_root_with_the_code_of_given_weights() -> None:
    graph, root = score_stages(), stages()
    for name in ("evaluate_retrieval", "evaluate_grounding", "evaluate_regions", "report"):
        assert all(covers(code(graph[name]), Path(path)) for path in GIVEN), name
        assert not any(covers(code(root[name]), Path(path)) for path in GIVEN), name
        assert set(graph[name]["params"]) >= set(root[name]["params"]) - {"train"}, name
        assert graph[name]["cmd"] == f"{root[name]['cmd']} --external"
    # Neither the root's stages nor what they make, so that DVC runs none of them.
    made = {
        out for stage in root.values() for kind in ("outs", "metrics", "plots") for out in map(str, stage.get(kind, []))
    }
    for name, stage in graph.items():
        others = set(stage["deps"]) - code(stage)
        assert all(entry.startswith(("metrics/external/", "reports/external/")) for entry in others), name
        assert not others & made
        assert stage["wdir"] == "../.."


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A checkout in which DVC has scored two files of released names on four pairs, and what DVC said.

    The paper's model is here of the sizes `tiny`, which changes nothing else.
    """
    folder = make_checkout(tmp_path_factory.mktemp("score") / "caft", {})
    content = yaml.safe_load((folder / "params.yaml").read_text())
    content["models"]["base"] = content["models"]["tiny"]
    path = "data/benchmarks/Urban1k"
    content["benchmarks"]["urban1k"] = {"kind": "retrieval", "layout": "urban1k", "path": path, "pairs": 4}
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    for place in ("image", "caption"):
        (folder / path / place).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in (1, 2, 3, 10):
        pixels = rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / path / f"image/{number}.jpg")
        text = f"Picture number {number}. It is of noise. Nothing else is there.\n"
        (folder / path / f"caption/{number}.txt").write_text(text)
    state = released_state(TINY)
    files = [folder.parent / "caft_30m.pt", folder.parent / "caft-cc3m.pt"]
    for number, file in enumerate(files):
        state["logit_bias"] = torch.tensor(float(-number))
        torch.save({"epoch": 32, "state_dict": {f"module.{name}": value for name, value in state.items()}}, file)
    said = {"before": dvc(folder, "status", "dvc.yaml").stdout}
    run = ("exp", "run", "-S", f"weights=[{files[0]},{files[1]}]", "-S", "recipe=release", "-S", "model=base", GRAPH)
    done = dvc(folder, *run)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    said["run"] = done.stdout + done.stderr
    said["after"] = dvc(folder, "status", "dvc.yaml").stdout
    return folder, said


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


@pytest.mark.slow
def test_no_stage_of_the_root_graph_runs_or_changes(scored: tuple[Path, dict[str, str]]) -> None:
    folder, said = scored
    ran = [line for line in said["run"].splitlines() if line.startswith("Running stage")]
    assert len(ran) == 6 and all(f"'{GRAPH}:" in line for line in ran)
    assert (
        not (folder / "dvc.lock").exists() and not (folder / "data/urls").exists() and not (folder / "models").exists()
    )
    # The selected model and recipe are other ones now; otherwise every stage of the root stands as it stood.
    changed = {"params.yaml"}
    before, after = (
        [line.strip() for line in said[when].splitlines() if line.split()[-1] not in changed]
        for when in ("before", "after")
    )
    assert after == before and before


@pytest.mark.slow
def test_the_cells_of_the_paper_are_filled(scored: tuple[Path, dict[str, str]]) -> None:
    folder, _ = scored
    weights = read(folder, "metrics/external/weights.json")
    assert (weights["name"], weights["kind"], weights["size"]) == ("caft_30m.pt", "caft_release", "30M")
    assert [(more["name"], more["size"]) for more in weights["more"]] == [("caft-cc3m.pt", "3M")]
    assert read(folder, "metrics/external/sets.json")["urban1k"]
    scores = read(folder, "metrics/external/retrieval.json")["urban1k"]
    assert scores["pairs"] == 4
    cells = {(c["table"], c["row"], c["column"]): c for c in read(folder, "reports/external/paper.json")}
    filled = {key: cell for key, cell in cells.items() if cell["ours"] is not None}
    for row, mode in (("CAFT", "whole"), ("CAFT++", "blend_0.3")):
        for way in ("i2t_r1", "t2i_r1"):
            cell = filled.pop(("Table 1", row, f"urban1k.{way}"))
            assert cell["ours"] == scores[mode][way]
            assert (cell["status"], cell["evaluated"]) == ("partial data", 4)
            assert cell["weights"] == "caft_30m.pt" and cell["fingerprint"] == weights["sha256"][:16]
            assert cell["recipe"] == "release" and cell["mlflow_run"] and len(cell["commit"]) == 40
    assert {key[:2] for key in filled} == {("Table 1", "Gain"), ("Table 6", "Urban-1k")} | {
        ("Table 4", weight) for weight in ("0.0", "0.3", "0.7", "1.0")
    }
    assert {cell["status"] for cell in cells.values()} == {"partial data", "not run", "quoted"}
    page = (folder / "reports/external/index.html").read_text()
    assert "caft_30m.pt, sha256" in page and "The paper against ours" in page
    assert "R@1 by training data, urban1k" in page  # of two sizes
    sizes = read(folder, "metrics/external/sizes.json")
    assert [entry["weights"]["size"] for entry in sizes] == ["30M", "3M"]
    assert sizes[1]["retrieval"]["urban1k"]["whole"] == scores["whole"]  # the files differ in the part's bias alone


@pytest.mark.slow
def test_each_file_has_a_run_of_its_own_with_its_digest(scored: tuple[Path, dict[str, str]]) -> None:
    folder, _ = scored
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("caft").experiment_id])
    weights = read(folder, "metrics/external/weights.json")
    digests = {weights["sha256"], *(more["sha256"] for more in weights["more"])}
    assert {run.data.tags["caft.external"] for run in runs} == digests and len(runs) == 2
    first = next(run for run in runs if run.data.tags["caft.external"] == weights["sha256"])
    assert first.info.status == "FINISHED" and first.info.run_name.endswith("caft_30m.pt")
    scores = read(folder, "metrics/external/retrieval.json")
    assert first.data.metrics["retrieval/urban1k/whole/i2t_r1"] == scores["urban1k"]["whole"]["i2t_r1"]
    subprocess.run(["git", "diff", "--quiet", "--", "dvc.yaml"], cwd=folder, check=True)


@pytest.mark.slow
def test_a_second_run_looks_again_and_scores_nothing(scored: tuple[Path, dict[str, str]]) -> None:
    folder, _ = scored
    done = dvc(folder, "repro", GRAPH)
    assert done.returncode == 0, done.stderr
    ran = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Running stage")]
    assert ran == [f"Running stage '{GRAPH}:weights':"]
