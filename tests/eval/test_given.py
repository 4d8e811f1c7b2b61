"""Given weights: what a setting names, every message for what it does not, and models of open_clip by a stand-in."""

import argparse
import hashlib
import json
import subprocess
import sys
import types
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from caft.captions.tokenizer import tokenize
from caft.data.sets import RetrievalSet, ZeroShotSet
from caft.digests import file_digest
from caft.errors import CheckpointError, ParamsError
from caft.eval.given import describe_weights, load_given, settings_of
from caft.eval.scores.retrieval_sets import score_retrieval as score
from caft.eval.scores.zero_shot import prompts, score_zero_shot
from caft.params import load_params
from caft.weights.files import save_model
from tests.test_pretrained import TINY, released_state
from tests.test_pretrained_flair import TINY as FLAT
from tests.test_pretrained_flair import flair_shapes, random_state

PROJECT = Path(__file__).parents[2]
PARAMS = load_params(PROJECT / "params.yaml")


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "caft_yfcc15m.pt"
    torch.save({"epoch": 32, "state_dict": released_state(TINY)}, path)
    return path


def test_files_are_known_by_what_is_in_them(release, model, tmp_path):
    given = describe_weights(str(release))
    assert (given.name, given.kind, given.size) == ("caft_yfcc15m.pt", "caft_release", "15M")
    digest = subprocess.run(["sha256sum", release], capture_output=True, text=True, check=True).stdout.split()[0]
    assert given.sha256 == digest
    assert describe_weights(f"30M:{release}").size == "30M"
    torch.save(random_state(flair_shapes(FLAT)), tmp_path / "flair-merged30m.pt")
    flair = describe_weights(str(tmp_path / "flair-merged30m.pt"))
    assert (flair.kind, flair.size) == ("flair_release", "30M")
    for corpora, size in ((["yfcc15m", "cc3m", "cc12m"], "30M"), (["scenes"], None)):
        data = [{"name": name, "count": 1, "fingerprint": "f"} for name in corpora]
        card = {**model.card.record(), "data": data}
        save_model(model.network, tmp_path / "own.safetensors", card)
        own = describe_weights(str(tmp_path / "own.safetensors"))
        assert (own.kind, own.size) == ("caft", size)


def test_another_card_beside_the_same_weights_is_another_description(model, tmp_path):
    path = tmp_path / "own.safetensors"
    save_model(model.network, path, model.card.record())
    before, card = describe_weights(str(path)), path.with_suffix(".json")
    record = json.loads(card.read_text())
    record["splitter"] = "spacy" if record["splitter"] == "dreamlip" else "dreamlip"
    card.write_text(json.dumps(record))
    after = describe_weights(str(path))
    assert after.sha256 == before.sha256 and after.card != before.card
    assert after.card == hashlib.sha256(card.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("caft_3m.pt", "3M"),
        ("flair-cc12m-recap.pt", "12M"),
        ("a_2x3m_b.pt", "3M"),
        ("epoch_32.pt", None),
        ("3mm.pt", None),
    ],
)
def test_the_size_of_the_data_is_read_off_a_name(release, tmp_path, name, size):
    (tmp_path / name).symlink_to(release)
    assert describe_weights(str(tmp_path / name)).size == size


def test_a_model_reads_captions_as_the_recipe_says_and_an_own_one_as_its_card(release, model, tmp_path):
    params = load_params(PROJECT / "params.yaml", [write(tmp_path, "{recipe: release, launch: local}")])
    loaded = load_given(str(release), params, asdict(describe_weights(str(release))))
    digest = file_digest(release)
    assert loaded.card.fingerprint == digest[:16] and loaded.card.external == digest
    assert (loaded.card.splitter, loaded.card.balanced_rule, loaded.card.chunks) == ("dreamlip", "release", 4)
    assert load_given(str(release), PARAMS, asdict(describe_weights(str(release)))).card.splitter == "spacy"
    path = tmp_path / "own.safetensors"
    save_model(model.network, path, model.card)
    own = load_given(str(path), PARAMS, asdict(describe_weights(str(path))))
    assert own.card.splitter == "dreamlip" and own.card.fingerprint == file_digest(path)[:16]


def write(folder, text):
    (folder / "over.yaml").write_text(text)
    return folder / "over.yaml"


def test_what_is_wrong_is_one_clear_error(release, tmp_path):
    (tmp_path / "page.pt").write_text("<html>")
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "other.pt")
    (tmp_path / "damaged.safetensors").write_text("no")
    for setting, message in {
        str(tmp_path / "none.pt"): "none.pt: not found; give the path of a file of weights",
        str(tmp_path): "is a folder; give the path of a file",
        str(tmp_path / "page.pt"): "cannot be read as a torch checkpoint",
        str(tmp_path / "other.pt"): r"holds neither a release of CAFT nor FLAIR \(it begins with a.weight\)",
        str(tmp_path / "damaged.safetensors"): "damaged.json: not found; a model is two files",
        "open_clip:ViT-B-16": r"expected open_clip:<architecture>/<path or tag>",
    }.items():
        with pytest.raises(CheckpointError, match=message):
            describe_weights(setting)
    with pytest.raises(ParamsError, match="weights = null: no weights are given"):
        settings_of(PARAMS)
    twice = load_params(PROJECT / "params.yaml", [write(tmp_path, "weights: [a.pt, a.pt]")])
    with pytest.raises(ParamsError, match="weights: a.pt is named twice"):
        settings_of(twice)
    base = load_params(PROJECT / "params.yaml", [PROJECT / "tests/base.yaml"])
    expected = asdict(describe_weights(str(release)))
    with pytest.raises(CheckpointError, match="release of CAFT of width 64, the selected model base is another"):
        load_given(str(release), base, expected)
    with pytest.raises(CheckpointError, match="has changed since the stage weights read it"):
        load_given(str(release), PARAMS, {**expected, "sha256": "0" * 64})


def test_the_stage_ends_with_code_2(tmp_path):
    command = [sys.executable, "-m", "pipelines.weights", "--params", str(PROJECT / "params.yaml")]
    for overlay in ([], ["--overlay", str(write(tmp_path, f"weights: {tmp_path}/none.pt"))]):
        done = subprocess.run([*command, *overlay], cwd=tmp_path, env=environment(), capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr
    assert not (tmp_path / "metrics").exists()


def environment():
    import os

    return {**os.environ, "PYTHONPATH": str(PROJECT)}


# ---- open_clip, by a stand-in with the methods of its models


class StandIn(nn.Module):
    """A model with open_clip's interface: colours of an image, and words of a text."""

    context_length, vocab_size = 77, 49408

    def __init__(self, vocabulary=49408):
        super().__init__()
        torch.manual_seed(0)
        self.visual = nn.Linear(3, 8)
        self.visual.image_size = (32, 32)
        self.visual.image_mean, self.visual.image_std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
        self.words = nn.Embedding(49408, 8)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.vocab_size = vocabulary

    def encode_image(self, image, normalize=False):
        return self.visual(image.mean((2, 3)))

    def encode_text(self, text, normalize=False):
        return self.words(text).mean(1)


@pytest.fixture
def library(monkeypatch):
    """A module in open_clip's place that tells what it was asked for."""
    asked = []

    def create_model(name, pretrained=None, precision="fp32"):
        asked.append((name, pretrained, precision))
        if name == "ViT-none":
            raise RuntimeError("Model config for ViT-none not found.\nmore")
        return StandIn(1000 if name == "ViT-other" else 49408)

    module = types.ModuleType("open_clip")
    module.create_model = create_model
    monkeypatch.setitem(sys.modules, "open_clip", module)
    return asked


def test_a_model_of_open_clip_scores_by_its_own_features(library, pictures):
    setting = "open_clip:ViT-B-16/laion2b_s34b_b88k"
    given = describe_weights(setting)
    assert (given.name, given.kind, given.size) == ("laion2b_s34b_b88k", "open_clip", None) and len(given.sha256) == 64
    model = load_given(setting, PARAMS, asdict(given))
    assert library == [("ViT-B-16", "laion2b_s34b_b88k", "fp32")] * 2
    captions = [f"Picture {number}. It has colours." for number in range(len(pictures))]
    entry, curve = score(model, RetrievalSet([str(n) for n in range(6)], pictures, captions), PARAMS.evaluation)
    assert entry["part"] is None and entry["blend_0.3"] is None and curve == [] and entry["pairs"] == 6
    # The same by hand: centre crops of 40 x 60 are squares of their height; means of their pixels are the colours.
    inner = StandIn()
    from caft.transforms import center_crop, open_image

    pixels = torch.stack([center_crop(open_image(path), 32) for path in pictures]).float() / 255
    images = inner.visual(((pixels - 0.5) / 0.25).mean((2, 3)))
    texts = inner.words(tokenize([f"Picture {n}. It has colours" for n in range(6)])).mean(1)
    cosines = F.cosine_similarity(images[:, None], texts[None], dim=-1)
    hits = [int((cosines[i] >= cosines[i, i]).sum() == 1) for i in range(6)]
    assert entry["whole"]["i2t_r1"] == pytest.approx(100 * np.mean(hits))
    assert model.network.temperature("whole")[0].item() == 2.0
    # Zero-shot classes too: the class whose sentences are nearest.
    classes = ["dog", "cat", "house"]
    sentences = [F.normalize(inner.words(tokenize(prompts(name))).mean(1), dim=-1).mean(0) for name in classes]
    best = (F.normalize(images, dim=-1) @ F.normalize(torch.stack(sentences), dim=-1).T).argmax(1).tolist()
    assert score_zero_shot(model, ZeroShotSet(pictures, best, classes), 4)["top1"] == 100.0


def test_what_open_clip_cannot_do_is_said(library, monkeypatch, tmp_path):
    with pytest.raises(CheckpointError, match=r"does not load it \(Model config for ViT-none not found.\)"):
        describe_weights("open_clip:ViT-none/tag")
    with pytest.raises(CheckpointError, match="a vocabulary of 1000 tokens; only models with CLIP's tokenizer"):
        describe_weights("open_clip:ViT-other/tag")
    with pytest.raises(CheckpointError, match="x.pt not found"):
        describe_weights(f"open_clip:ViT-B-16/{tmp_path}/x.pt")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(
        CheckpointError, match="open_clip cannot be imported .*; it is optional: install open_clip_torch"
    ):
        describe_weights("open_clip:ViT-B-16/tag")


def test_the_place_of_given_weights_is_apart(tmp_path, monkeypatch):
    from caft.eval.place import place_of

    trained, given = place_of(argparse.Namespace()), place_of(argparse.Namespace(external=True))
    assert (str(trained.metrics), str(trained.plots), str(trained.reports)) == ("metrics", "plots", "reports")
    assert {str(given.metrics), str(given.plots), str(given.reports)} == {"metrics/external", "reports/external"}
    assert json.dumps(given.number) == "0" and trained.number is None


def test_weights_of_open_clip_that_are_not_finite_are_refused(library, monkeypatch):
    def broken(name, pretrained=None, precision="fp32"):
        inner = StandIn(49408)
        with torch.no_grad():
            inner.visual.weight[0, 0] = float("nan")
        return inner

    monkeypatch.setattr(sys.modules["open_clip"], "create_model", broken)
    with pytest.raises(CheckpointError, match=r"(?s)hold NaN or infinity.*visual.weight: 1 of \d+ numbers"):
        describe_weights("open_clip:ViT-B-16/laion2b_s34b_b88k")
