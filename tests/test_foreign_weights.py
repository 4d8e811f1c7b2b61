"""What people give as weights: wrapped, prefixed, of other models, other files. It loads, or the cause is said in ten lines."""

import argparse
import json
import os
import re
import shutil
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import caft
from caft.errors import CheckpointError
from caft.model.card import ModelCard
from caft.params import load_params
from caft.weights.authors import AUTHORS_MODEL
from caft.weights.checkpoints import plain_names, read_checkpoint
from caft.weights.files import fill, save_model
from caft.weights.load import from_release
from caft.weights.sfcn import sfcn_from_checkpoint
from pipelines import superpixels
from tests.test_pretrained import TINY, random_state, released_state, resblocks, sfcn_shapes
from tests.test_pretrained_flair import TINY as FLAIR_TINY
from tests.test_pretrained_flair import flair_shapes

PROJECT = Path(__file__).parents[1]
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(1)
    return {name: t.detach().contiguous() for name, t in caft.CAFT(TINY, chunks=4).state_dict().items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where weights may be saved; the card of `tiny` lies beside."""
    card = ModelCard(model=TINY, splitter="dreamlip", chunks=4, balanced_rule="paper")
    save_model(nn.Linear(1, 1), tmp_path / "model.safetensors", card)
    return tmp_path / "model.pt"


def problem(path: Path) -> str:
    """The error for a file, which is short and plain."""
    with pytest.raises(CheckpointError) as raised:
        caft.load(path)
    text = str(raised.value)
    assert len(text.splitlines()) <= 10 and "\x1b" not in text and "weights_only" not in text
    assert str(path.with_suffix("")) in text.splitlines()[0]
    return text


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def zeros(state: State) -> State:
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


# ---- what loads


@pytest.mark.parametrize(
    "prefix",
    [
        *("", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module._orig_mod.module."),
        *("model.", "model._orig_mod.", "module.network.", "_fsdp_wrapped_module."),
    ],
)
@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_prefixes_of_wrappers_are_dropped(path: Path, state: State, prefix: str, ending: str) -> None:
    place = path.with_suffix(ending)
    save = torch.save if ending == ".pt" else save_file
    save(prefixed(state, prefix), place)
    loaded = caft.load(place)
    assert loaded.card.sizes == TINY and not loaded.network.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.network.state_dict().items())


@pytest.mark.parametrize("wrapper", ["_orig_mod.", "module.", "module._orig_mod."])
def test_prefixes_inside_names_are_dropped(path: Path, state: State, wrapper: str) -> None:
    """As of a model of which a part was compiled, or trained over several processes."""
    torch.save({name.replace("vision.", f"vision.{wrapper}"): tensor for name, tensor in state.items()}, path)
    assert torch.equal(caft.load(path).network.vision.cls, state["vision.cls"])


def test_no_own_name_looks_like_a_wrappers() -> None:
    own = [*caft.CAFT(TINY, chunks=4).state_dict(), *released_state(TINY), *flair_shapes(FLAIR_TINY)]
    assert list(plain_names(dict.fromkeys(own, torch.zeros(())), "x")) == list(dict.fromkeys(own))


def test_a_name_that_is_there_twice_is_refused(path: Path, state: State) -> None:
    torch.save({**state, "module.vision.cls": state["vision.cls"]}, path)
    assert "holds vision.cls twice, with and without a wrapper's prefix (module.vision.cls)" in problem(path)


@pytest.mark.parametrize(
    "keys",
    [
        *(("state_dict",), ("model",), ("ema",), ("model_state_dict",), ("state_dict_ema",), ("model_ema",)),
        *(("net",), ("ema", "module"), ("model", "state_dict"), ("state", "model", "module"), ("my_weights",)),
    ],
)
def test_weights_are_found_in_wrappers(path: Path, state: State, keys: tuple[str, ...]) -> None:
    content: object = prefixed(state, "module.")
    for key in reversed(keys):
        content = {
            "epoch": 3,
            key: content,
            "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []},
        }
    torch.save(content, path)
    assert torch.equal(caft.load(path).network.vision.cls, state["vision.cls"])


def test_lightnings_files_and_averages_load(path: Path, state: State) -> None:
    lightning = {
        "pytorch-lightning_version": "2.4.0",
        "state_dict": OrderedDict(prefixed(state, "model.")),
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {},
        "optimizer_states": [{"state": {}, "param_groups": []}],
        "hyper_parameters": {"lr": 0.1},
    }
    torch.save(lightning, path)
    assert torch.equal(caft.load(path).network.vision.cls, state["vision.cls"])
    network = caft.CAFT(TINY, chunks=4)
    fill(network, state, "x")
    torch.save(torch.optim.swa_utils.AveragedModel(network).state_dict(), path)  # has a counter beside the weights
    assert torch.equal(caft.load(path).network.vision.cls, state["vision.cls"])


METRICS = {"val_acc.total": torch.tensor(3), "loss.weight": torch.ones(2)}


@pytest.mark.parametrize("prefix", ["model.", "module.model.", "model.module.", "network._orig_mod."])
@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_metrics_and_losses_beside_the_model_are_left_out_and_it_is_said(
    path: Path, state: State, prefix: str, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a file of Lightning's whose module has some."""
    place = path.with_suffix(ending)
    content = {**METRICS, **prefixed(state, prefix)}
    save_file(content, place) if ending == ".safetensors" else torch.save({"state_dict": content}, place)
    assert torch.equal(caft.load(place).network.vision.cls, state["vision.cls"])
    holder = "network." if "network" in prefix else "model."
    said = {record.message.replace("'loss.weight', 'val_acc.total'", "'val_acc.total', 'loss.weight'")
            for record in caplog.records}  # fmt: skip
    assert said == {f"{place}: the weights after {holder!r} are taken, not 'val_acc.total', 'loss.weight' beside them"}


@pytest.mark.parametrize(("prefix", "beside"), [("student.", ()), ("model.", ("ema_model.",))])
def test_the_remedy_for_a_prefix_holds_where_others_lie_beside(
    path: Path, state: State, prefix: str, beside: tuple[str, ...]
) -> None:
    averages = {name: tensor for other in beside for name, tensor in prefixed(zeros(state), other).items()}
    torch.save({"state_dict": {**METRICS, **prefixed(state, prefix), **averages}}, path)
    text = problem(path)
    assert (
        f"all names are there after {prefix!r}; with state, the dict that holds them (as checkpoint['state_dict'])"
        in text
    )
    expression = text.partition("save them without it: ")[2]
    torch.save(eval(expression, {"state": torch.load(path)["state_dict"]}), path)
    assert torch.equal(caft.load(path).network.vision.cls, state["vision.cls"])


@pytest.mark.parametrize("average", ["ema", "model_ema", "state_dict_ema"])
def test_of_weights_and_their_average_the_weights_are_taken_and_it_is_said(
    path: Path, state: State, average: str, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({average: zeros(state), "model": state}, path)
    assert torch.equal(caft.load(path).network.vision.cls, state["vision.cls"])
    assert [r.message for r in caplog.records] == [
        f"{path}: the weights under 'model' are taken, not those under '{average}'"
    ]
    caplog.clear()
    torch.save({average: state}, path)
    caft.load(path)
    assert "under '" + average + "' are taken (an average over its training); it holds no others" in caplog.text


def test_weights_under_several_unknown_names_are_refused(path: Path, state: State) -> None:
    torch.save({"generator": state, "discriminator": state}, path)
    assert "holds weights under 'generator', 'discriminator'; save the ones that are meant alone" in problem(path)


def test_numbers_beside_the_weights_are_left_out_and_named(
    path: Path, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({**state, "epoch": 3, "name": "tiny"}, path)
    assert torch.equal(caft.load(path).network.vision.cls, state["vision.cls"])
    assert [r.message for r in caplog.records] == [
        "'epoch', 'name' is left out; it lies beside the weights, but is no tensor"
    ]


def test_within_a_wrapper_of_any_name_the_weights_come_before_their_average(path: Path, state: State) -> None:
    torch.save({"last": {"ema": zeros(state), "model": state}}, path)
    assert torch.equal(caft.load(path).network.vision.cls, state["vision.cls"])


def test_names_of_any_length_are_shown_on_one_line(path: Path, state: State) -> None:
    torch.save(prefixed({"a": torch.zeros(1)}, "x\n" * 500), path)
    assert len(problem(path)) < 600
    torch.save({**state, "y\n" * 500: torch.zeros(1)}, path)
    assert len(problem(path)) < 400


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.pt")
    assert "is no regular file" in problem(tmp_path / "model.pt")


@pytest.mark.parametrize("kind", ["sparse", "meta"])
def test_tensors_of_other_layouts_are_refused(path: Path, state: State, kind: str) -> None:
    cls = state["vision.cls"]
    torch.save({**state, "vision.cls": cls.to_sparse() if kind == "sparse" else cls.to("meta")}, path)
    text = problem(path)
    assert {"sparse": "a tensor of layout torch.sparse_coo", "meta": "has no values"}[kind] in text
    assert "quantised" not in text


def test_from_release_takes_what_a_checkpoint_held() -> None:
    released = released_state(TINY)
    model = from_release({"model": prefixed(released, "_orig_mod.module.")}, config=TINY)
    assert torch.equal(model.network.vision.cls, released["visual.cls_token"])
    for content in (None, [], {"state_dict": {}}, {"a": np.zeros(3)}):
        with pytest.raises(CheckpointError, match="expected a dict of tensors, or one under state_dict; found"):
            from_release(content, config=TINY)  # type: ignore[arg-type]


# ---- what does not fit


def test_a_state_dict_without_its_card_says_which_card(path: Path, state: State) -> None:
    torch.save(state, path)
    path.with_suffix(".json").unlink()
    text = problem(path)
    assert text.startswith(f"{path.with_suffix('.json')}: not found; a model is two files, weights and card")
    assert "its card is copied to this name" in text


def test_the_first_names_of_each_kind_are_shown_and_all_are_counted(path: Path, state: State) -> None:
    broken = {name: t for name, t in state.items() if not name.startswith("sub_caption.blocks")}
    removed = len(state) - len(broken)
    broken |= {f"extra.{i}": torch.zeros(1) for i in range(700)}
    broken["vision.cls"] = torch.zeros(3)
    torch.save(broken, path)
    first, *lines = problem(path).splitlines()
    assert first == (
        f"{path}: {removed + 701} weights do not fit the model ({removed} missing, 700 unexpected, 1 of another shape)"
    )
    assert lines == [
        "  missing sub_caption.blocks.0.norm1.weight",
        f"  missing sub_caption.blocks.0.norm1.bias (and {removed - 2} more missing)",
        "  unexpected extra.0",
        "  unexpected extra.1 (and 698 more unexpected)",
        f"  vision.cls: found (3,), expected {tuple(state['vision.cls'].shape)}",
    ]


def test_an_unknown_prefix_is_named_with_what_drops_it(path: Path, state: State) -> None:
    torch.save(prefixed(state, "student.backbone."), path)
    text = problem(path)
    assert "all names are there after 'student.backbone.'" in text
    expression = text.partition("save them without it: ")[2]
    torch.save(eval(expression, {"state": torch.load(path)}), path)
    assert torch.equal(caft.load(path).network.vision.cls, state["vision.cls"])
    with pytest.raises(CheckpointError, match=r"all names are there after 'inner\.'"):
        fill(nn.Linear(2, 2), {"inner.weight": torch.zeros(2, 2), "inner.bias": torch.zeros(2)}, "x")


def test_the_card_of_another_model_is_named_as_the_cause(path: Path, state: State) -> None:
    torch.save(state, path)
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, "model": AUTHORS_MODEL.model_dump(mode="json")}))
    text = problem(path)
    assert "the sizes differ throughout: these are the weights of another model (as tiny and base)" in text
    path.with_suffix(".json").write_text(json.dumps({**card, "chunks": 3}))
    assert "the number of chunks in the card is of another model" in problem(path)
    with pytest.raises(CheckpointError, match="the sizes differ throughout") as raised:
        from_release(released_state(TINY))
    assert len(str(raised.value).splitlines()) <= 10


CLIP = {
    "open_clip's or OpenAI's CLIP": {
        "visual.conv1.weight": (4, 3, 2, 2),
        "visual.class_embedding": (4,),
        **resblocks("transformer", 4, 12),
        "logit_scale": (),
    },
    "open_clip's CLIP": {"visual.conv1.weight": (4,), **resblocks("text.transformer", 4, 12), "logit_bias": ()},
    "open_clip's model with timm's trunk": {"visual.trunk.patch_embed.proj.weight": (4,), "text.ln_final.weight": (4,)},
    "SigLIP of transformers": {"vision_model.embeddings.patch_embedding.weight": (4,), "logit_bias": ()},
    "CLIP of transformers": {"vision_model.embeddings.patch_embedding.weight": (4,), "logit_scale": ()},
    "an image tower alone": {"patch_embed.proj.weight": (4,), "blocks.0.attn.qkv.weight": (4,)},
    "a ResNet": {"conv1.weight": (4,), "layer1.0.conv1.weight": (4,)},
}


@pytest.mark.parametrize("name", CLIP)
@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_other_models_weights_are_called_by_their_name(tmp_path: Path, name: str, ending: str) -> None:
    given = random_state(CLIP[name])
    path = tmp_path / f"ViT-B-16{ending}"
    torch.save({"state_dict": prefixed(given, "module.")}, path) if ending == ".pt" else save_file(given, path)
    text = problem(path)
    assert f"looks like {name}" in text and "not CAFT" in text and len(text.splitlines()) == 1
    for door in (sfcn_from_checkpoint, lambda place: from_release(given, str(place), TINY)):
        with pytest.raises(CheckpointError, match=f"looks like {name}"):
            door(path)


def test_the_superpixel_network_is_no_model_and_a_model_gives_its_own(tmp_path: Path, path: Path, state: State) -> None:
    network = caft.CAFT(TINY, chunks=4)
    sfcn = tmp_path / "sfcn.safetensors"
    save_model(network.superpixels, sfcn, {"superpixels": TINY.superpixels.model_dump(mode="json"), "checkpoint": None})
    expected = "is the superpixel network SFCN alone, not a whole model; give a model, such as models/caft.safetensors"
    assert expected in problem(sfcn)
    sfcn.with_suffix(".json").unlink()
    assert expected in problem(sfcn)
    torch.save({"state_dict": network.superpixels.state_dict()}, sfcn.with_suffix(".tar"))
    assert expected in problem(sfcn.with_suffix(".tar"))
    torch.save(state, path)
    save_file(state, path.with_suffix(".safetensors"))
    for place in (path, path.with_suffix(".safetensors")):
        found = sfcn_from_checkpoint(place, TINY.superpixels.widths).state_dict()
        own = {name.removeprefix("superpixels."): t for name, t in state.items() if name.startswith("superpixels.")}
        assert found.keys() == own.keys() and all(torch.equal(found[name], tensor) for name, tensor in own.items())
        with pytest.raises(CheckpointError, match="the sizes differ throughout"):
            sfcn_from_checkpoint(place)
    assert sfcn_from_checkpoint(sfcn, TINY.superpixels.widths).levels == len(TINY.superpixels.widths) - 1


def test_the_published_superpixels_do_not_fit_tiny_and_the_stage_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"state_dict": random_state(sfcn_shapes("", (16, 32, 64, 128, 256), True))}, tmp_path / "published.tar")
    params = load_params(PROJECT / "params.yaml")
    training = params.superpixels.model_copy(update={"checkpoint": str(tmp_path / "published.tar")})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="the sizes differ throughout") as raised:
        superpixels.main(params.model_copy(update={"superpixels": training}), argparse.Namespace())
    assert len(str(raised.value).splitlines()) <= 10 and not (tmp_path / "models").exists()


def test_a_release_in_safetensors_says_how_to_save_it_as_torchs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, path = released_state(TINY), tmp_path / "CAFT-30M.safetensors"
    save_file(released, path)
    text = problem(path)
    assert "is a release of CAFT by its authors; caft.load takes it as .pt" in text
    import safetensors.torch

    lines = [line.strip() for line in text.splitlines()[1:]]
    monkeypatch.chdir(tmp_path)
    exec("\n".join(lines), {"torch": torch, "safetensors": safetensors})
    assert torch.equal(torch.load(tmp_path / "CAFT-30M.pt")["logit_scale"], released["logit_scale"])


# ---- what torch refuses


class Settings:
    """Something beside the weights."""


@pytest.mark.parametrize("zipped", [True, False])
def test_an_object_beside_the_weights_is_named_whole(path: Path, state: State, zipped: bool) -> None:
    torch.save({"model": state, "config": Settings()}, path, _use_new_zipfile_serialization=zipped)
    text = problem(path)
    assert f"holds an object of the class {Settings.__module__}.Settings beside its weights" in text
    assert "could run code" in text and "torch.save(weights, 'model-weights.pt')" in text


def test_what_would_run_code_is_not_run_nor_advised(path: Path, state: State, tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"model": state, "args": Harm()}, path)
    text = problem(path)
    assert "mkdir" in text and "safe_globals" not in text and not (tmp_path / "ran").exists()


def test_the_remedy_for_plain_arguments_works(path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"model": state, "args": argparse.Namespace(lr=0.1), "epoch": 3}, path)
    text = problem(path)
    assert "object of the class argparse.Namespace beside" in text
    monkeypatch.chdir(path.parent)
    exec("\n".join(line.strip() for line in text.splitlines()[2:]), {"torch": torch, "argparse": argparse})
    shutil.copy(path.with_suffix(".json"), "model-weights.json")
    assert torch.equal(caft.load("model-weights.pt").network.vision.cls, state["vision.cls"])


def test_a_whole_module_and_numpys_numbers_are_named(path: Path, state: State) -> None:
    torch.save(nn.Linear(2, 2), path)
    assert "torch.nn.modules.linear.Linear" in problem(path)
    torch.save({"model": state, "best": np.float64(3)}, path)
    assert re.search(r"numpy\.\S*multiarray\.scalar, numpy\.dtype", problem(path))


# ---- what is no file of weights


def write_picture(path: Path, kind: str) -> None:
    Image.new("RGB", (4, 4)).save(path, kind)


def write_zip(path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("CAFT-30M.pt", b"x")


def write_half(path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:-500])


def write_half_of_the_older_format(path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-500])


OTHERS = {
    "is a Git LFS pointer, not the file": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "is a web page": b"\xef\xbb\xbf\n<!DOCTYPE html><html><title>Sign in</title></html>",
    "is empty (0 bytes)": b"",
    "is a JPEG picture": lambda path: write_picture(path, "JPEG"),
    "is a PNG picture": lambda path: write_picture(path, "PNG"),
    "is a WebP picture": lambda path: write_picture(path, "WEBP"),
    "is a zip archive of CAFT-30M.pt, not torch's; unpack it": write_zip,
    "is compressed by gzip; unpack": b"\x1f\x8b\x08aaaaaaaaaaaa",
    "is an array of numpy": lambda path: np.save(path.open("wb"), np.zeros(3)),
    "spread over several files": json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}).encode(),
    "is a model's card; give the weights beside it": b'{"splitter": "spacy"}',
}


@pytest.mark.parametrize("cause", OTHERS)
@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_other_files_are_called_what_they_are(path: Path, cause: str, ending: str) -> None:
    content, place = OTHERS[cause], path.with_suffix(ending)
    place.write_bytes(content) if isinstance(content, bytes) else content(place)
    text = problem(place)
    assert cause.partition(";")[0] in text and cause.partition("; ")[2] in text
    assert len(text.splitlines()) == 1 and "; " in text


@pytest.mark.parametrize("write", [write_half, write_half_of_the_older_format])
def test_half_a_download_of_a_torch_file_is_to_be_fetched_again(path: Path, write: object) -> None:
    write(path)  # type: ignore[operator]
    assert problem(path).endswith("; fetch it again")


@pytest.mark.parametrize("kept", [4, 300, 1_000_000])
def test_half_a_download_of_safetensors_counts_its_bytes(path: Path, state: State, kept: int) -> None:
    place = path.with_suffix(".safetensors")
    save_file(state, place)
    total = place.stat().st_size
    place.write_bytes(place.read_bytes()[:kept])
    text = problem(place)
    counted = {
        4: "make it anew or fetch it",
        300: "300 of more than ",
        1_000_000: f"1,000,000 of {total:,} bytes are there",
    }
    assert "fetch it" in text and counted[kept] in text


def test_a_torchscript_archive_is_named(path: Path, recwarn: pytest.WarningsRecorder) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(str(path))
    recwarn.clear()
    assert "is a TorchScript archive, a program" in problem(path) and not recwarn.list


def test_one_form_under_the_others_name_says_how_to_call_it(path: Path, state: State) -> None:
    save_file(state, path)
    assert "holds safetensors" in problem(path) and "rename it so that it ends in .safetensors" in problem(path)
    torch.save(state, path.with_suffix(".safetensors"))
    assert "it is a torch checkpoint); rename it so that it ends in .pt" in problem(path.with_suffix(".safetensors"))


@pytest.mark.parametrize("name", ["a" * 300, "a/" * 5000 + "b", "a\0b", "a\ud800"])
@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, name: str, ending: str) -> None:
    for door in (caft.load, sfcn_from_checkpoint):
        with pytest.raises(CheckpointError) as raised:
            door(tmp_path / (name + ending))
        text = str(raised.value)
        assert "no file can have such a name; give the path of a file of weights" in text
        assert len(text) < 200 and "\n" not in text and "\0" not in text


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_a_file_whose_place_cannot_be_reached_is_refused(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"loop{ending}").symlink_to(tmp_path / f"loop{ending}")
    with pytest.raises(CheckpointError, match=r"loop\S+: cannot be read \(Too many levels of symbolic links\); check"):
        caft.load(tmp_path / f"loop{ending}")


def test_folders_say_what_in_them_to_give(tmp_path: Path) -> None:
    for name, message in {
        "model.safetensors": "give the file in it, such as {}/model.safetensors",
        "model.safetensors.index.json": "its weights are spread over several files",
        "zero_to_fp32.py": "its zero_to_fp32.py makes one file",
        "MLmodel": "it is a model of MLflow's; give data/model.safetensors in it",
        "notes.txt": "give the path of a file",
    }.items():
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_text("x")
        with pytest.raises(CheckpointError) as raised:
            caft.load(folder)
        assert (
            str(raised.value)
            == f"{folder}: is a folder, not a file of weights; " + str(raised.value).partition("; ")[2]
        )
        assert message.format(folder) in str(raised.value)


def test_of_a_file_with_parameters_nothing_stays_mapped(tmp_path: Path) -> None:
    """A copy of a tensor that has a gradient keeps the tensor it was made of, and so the file."""
    path = tmp_path / "parameters.pt"
    torch.save({"a.weight": torch.nn.Parameter(torch.ones(3)), "a.bias": torch.nn.Parameter(torch.zeros(3))}, path)
    state = read_checkpoint(path)
    assert state.keys() == {"a.weight", "a.bias"} and not any(tensor.requires_grad for tensor in state.values())
    assert str(path) not in Path("/proc/self/maps").read_text()
