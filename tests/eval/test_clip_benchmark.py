"""clip-benchmark's own program, from its command line to its figures, against the evaluation stage's recall."""

import json
import sys
from pathlib import Path

import pytest

from caft.adapters.open_clip import load_clip_benchmark
from caft.data.export.coco import export_coco
from caft.data.sets import load_retrieval
from caft.data.sets.retrieval import RetrievalSet
from caft.eval.scores.retrieval_sets import score_retrieval
from caft.weights.files import save_model
from tests.peers import peer

pytestmark = pytest.mark.slow
KS = (1, 5, 10)


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "caft.safetensors"
    save_model(model.network, path, model.card)
    return path


@pytest.fixture
def evaluated(weights, tmp_path, monkeypatch):
    """Gives a function that runs `clip_benchmark eval` as docs/quickstart.md says, on an exported folder; its metrics."""
    cli, models = peer("clip_benchmark.cli"), peer("clip_benchmark.models")
    monkeypatch.setitem(models.TYPE2FUNC, "caft", load_clip_benchmark)
    for module in (cli, models):
        monkeypatch.setattr(module, "MODEL_TYPES", [*models.MODEL_TYPES, "caft"])

    def run(folder: Path) -> dict[str, float]:
        command = f"eval --model_type caft --model any --pretrained {weights} --dataset mscoco_captions --no_amp"
        command += f" --dataset_root {folder} --recall_k 1 5 10 --num_workers 0 --output {tmp_path}/found.json"
        monkeypatch.setattr(sys, "argv", ["clip_benchmark", *command.split()])
        cli.main()
        return json.loads((tmp_path / "found.json").read_text())["metrics"]

    return run


def expected(model, benchmark: RetrievalSet, params) -> dict[str, float]:
    entry, _ = score_retrieval(model, benchmark, params.evaluation)
    assert entry["tied_rows"] == 0  # else the two might count ties differently
    names = {"i2t": "text_retrieval_recall", "t2i": "image_retrieval_recall"}
    return {
        f"{name}@{k}": pytest.approx(entry["whole"][f"{way}_r{k}"] / 100, abs=1e-7)
        for way, name in names.items()
        for k in KS
    }


@pytest.mark.parametrize("name", ["random", "look_alike"])
def test_an_exported_set_gives_the_evaluation_stages_recall(evaluated, model, small, monkeypatch, tmp_path, name):
    params, folder = small
    monkeypatch.chdir(folder)
    benchmark = load_retrieval(params.benchmarks[name])
    assert any("\n" in caption for caption in benchmark.captions)  # what clip-benchmark's own form would cut
    assert export_coco(benchmark, tmp_path / "set") == 0
    assert evaluated(tmp_path / "set") == expected(model, benchmark, params)


def test_several_captions_an_image_and_pictures_that_viewers_turn(evaluated, model, small, monkeypatch, tmp_path):
    from PIL import Image

    params, folder = small
    monkeypatch.chdir(folder)
    one = load_retrieval(params.benchmarks["random"])
    images = list(one.images[:12])
    for number in (0, 1):  # lying as the sensor lay, and see-through
        images[number] = tmp_path / f"{number}.png"
        with Image.open(one.images[number]) as image:
            image = image.convert("RGBA")
            image.putalpha(100 + 100 * number)
            exif = Image.Exif()
            exif[274] = 6
            image.save(images[number], exif=exif)
    truth = [caption % 12 for caption in range(len(one.captions))]
    benchmark = RetrievalSet(one.ids, images, one.captions, truth)
    assert export_coco(benchmark, tmp_path / "set") == 2
    assert evaluated(tmp_path / "set") == expected(model, benchmark, params)
