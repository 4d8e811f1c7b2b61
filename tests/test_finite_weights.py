"""NaN, infinity, and what gives infinite scores are refused in weights at every door, with the tensor's name."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import caft
from caft.adapters.pyfunc import _load_pyfunc
from caft.errors import CheckpointError
from caft.eval.given import load_given
from caft.model.card import ModelCard
from caft.network.vision.superpixels import SFCN
from caft.params import load_params
from caft.weights.files import fill, read_weights, save_model
from caft.weights.load import from_flair, from_release
from caft.weights.sfcn import sfcn_from_checkpoint
from tests.test_pretrained import TINY, random_state, released_state, sfcn_shapes
from tests.test_pretrained_flair import TINY as FLAIR_TINY
from tests.test_pretrained_flair import flair_shapes

PROJECT = Path(__file__).parents[1]
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return {name: t.detach().contiguous() for name, t in caft.CAFT(TINY, chunks=4).state_dict().items()}


def card() -> ModelCard:
    return ModelCard(model=TINY, splitter="dreamlip", chunks=4, balanced_rule="paper")


def with_value(state: dict[str, Tensor], name: str, value: float) -> dict[str, Tensor]:
    changed = state[name].clone()
    changed.view(-1)[-1] = value
    return {**state, name: changed}


def refusal(path: Path, state: dict[str, Tensor]) -> list[str]:
    """The first two lines of what `caft.load` says of a model's file with these weights."""
    save_model(torch.nn.Linear(1, 1), path.with_suffix(".safetensors"), card())
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    with pytest.raises(CheckpointError) as raised:
        caft.load(path)
    return str(raised.value).splitlines()[:2]


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize(
    "name", ["vision.cls", "whole_log_scale", "superpixels.conv0a.0.weight", "superpixels.conv1b.1.running_var"]
)
@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_a_models_file_is_refused(
    tmp_path: Path, state: dict[str, Tensor], name: str, value: float, ending: str
) -> None:
    path = tmp_path / f"model{ending}"
    first, second = refusal(path, with_value(state, name, value))
    assert first == f"{path}: 1 of {len(state)} weights hold NaN or infinity"
    assert second == f"  {name}: 1 of {state[name].numel():,} numbers are NaN or infinite"


def test_all_wrong_is_still_ten_lines_and_counted(tmp_path: Path, state: dict[str, Tensor]) -> None:
    broken = {k: torch.full_like(t, NAN) if t.is_floating_point() else t for k, t in state.items()}
    floats = sum(t.is_floating_point() for t in state.values())
    with pytest.raises(CheckpointError) as raised:
        fill(caft.CAFT(TINY, chunks=4), broken, "model")
    lines = str(raised.value).splitlines()
    assert len(lines) <= 10 and f"(and {floats - 3} more not finite)" in str(raised.value)
    assert lines[0] == f"model: {floats} of {len(state)} weights hold NaN or infinity"


IMPOSSIBLE = {
    "part_log_scale": (1000.0, "is the scale's logarithm, 1000; the scale must be at most 1e+30"),
    "whole_log_scale": (88.7, "is the scale's logarithm, 88.7; the scale must be at most 1e+30"),
    "whole_bias": (-3e38, "has the size 3e+38; expected at most 1e+30"),
    "superpixels.conv1b.1.running_var": (-0.5, "1 of {count:,} variances are negative"),
    "vision.stem.layers.1.running_var": (-1e-3, "1 of {count:,} variances are negative"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_finite_numbers_that_give_infinite_or_meaningless_scores_are_refused(
    tmp_path: Path, state: dict[str, Tensor], name: str, ending: str
) -> None:
    path, (value, detail) = tmp_path / f"model{ending}", IMPOSSIBLE[name]
    first, second = refusal(path, with_value(state, name, value))
    assert first == f"{path}: 1 of {len(state)} weights hold numbers that no training gives"
    assert second == f"  {name}: {detail.format(count=state[name].numel())}"


def test_published_weights_with_such_numbers_are_refused_by_their_own_names() -> None:
    for name, value in {
        "logit_scale": 1000.0,
        "logit_scale_coarse": 1000.0,
        "logit_bias_coarse": 1e38,
        "visual.patch_embed.proj.1.running_var": -1.0,
    }.items():
        with pytest.raises(CheckpointError, match=f"(?m)^  {name}: "):
            from_release(with_value(released_state(TINY), name, value), config=TINY)
    state = random_state(flair_shapes(FLAIR_TINY))
    with pytest.raises(CheckpointError, match="(?m)^  logit_scale: is the scale's logarithm"):
        from_flair(with_value(state, "logit_scale", 1000.0), config=FLAIR_TINY)


def test_the_largest_scale_that_loads_gives_finite_scores(state: dict[str, Tensor]) -> None:
    network = caft.CAFT(TINY, chunks=4)
    scale = torch.log(torch.tensor(9e29))
    fill(network, {**state, "part_log_scale": scale, "whole_log_scale": scale}, "model")
    for log_scale, bias in network.temperatures.values():
        assert (log_scale.exp() * torch.tensor([-1.001, 1.001]) + bias).sum(0).isfinite()


@pytest.mark.parametrize(
    "name", ["visual.cls_token", "logit_scale", "visual.pos_embed", "visual_proj.attn.in_proj_weight"]
)
def test_a_release_of_caft_is_refused_by_its_own_names(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"{name}: 1 of"):
        from_release(with_value(released_state(TINY), name, NAN), config=TINY)


def test_a_release_of_caft_is_refused_for_its_superpixels() -> None:
    name = "visual.superpixel_generator.model.conv1a.1.running_mean"
    with pytest.raises(CheckpointError, match=f"{name}: 1 of"):
        from_release(with_value(released_state(TINY), name, INF), config=TINY)


def test_a_release_of_flair_is_refused() -> None:
    state = random_state(flair_shapes(FLAIR_TINY))
    with pytest.raises(CheckpointError, match="visual.conv1.weight: 1 of"):
        from_flair(with_value(state, "visual.conv1.weight", -INF), config=FLAIR_TINY)


@pytest.mark.parametrize("ending", [".tar", ".safetensors"])
def test_superpixel_files_are_refused_for_what_is_used_of_them(tmp_path: Path, ending: str) -> None:
    shapes = sfcn_shapes("", (16, 32, 64, 128, 256), unused_heads=True)
    path = tmp_path / f"sfcn{ending}"

    def save(state: dict[str, Tensor]) -> None:
        save_file(state, path) if ending == ".safetensors" else torch.save({"state_dict": state}, path)

    save(with_value(random_state(shapes), "conv4b.1.running_var", NAN))
    with pytest.raises(CheckpointError, match="conv4b.1.running_var: 1 of 256 numbers"):
        sfcn_from_checkpoint(path)
    save(with_value(random_state(shapes), "pred_mask2.bias", NAN))  # of a head that is not used
    assert sfcn_from_checkpoint(path).pred_mask0.bias.isfinite().all()


def test_the_trainings_and_the_evaluations_superpixels_are_refused() -> None:
    """They are read by `read_weights` and `fill`."""
    network = SFCN((4, 8))
    with pytest.raises(CheckpointError, match=r"conv1a.0.weight: 1 of 288 numbers are NaN"):
        fill(SFCN((4, 8)), with_value(network.state_dict(), "conv1a.0.weight", NAN), "models/sfcn.safetensors")


def test_the_model_that_mlflow_loads_is_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save_model(torch.nn.Linear(1, 1), tmp_path / "model.safetensors", card())
    save_file(with_value(state, "whole_bias", NAN), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="whole_bias: 1 of 1 numbers"):
        _load_pyfunc(str(tmp_path))


def test_weights_that_are_given_to_the_pipeline_are_refused(tmp_path: Path) -> None:
    params = load_params(PROJECT / "params.yaml")
    path = tmp_path / "given.pt"
    torch.save(with_value(released_state(TINY), "visual.cls_token", NAN), path)
    expected = {"sha256": "", "kind": "caft_release", "name": "given.pt", "size": None}
    with pytest.raises(CheckpointError, match=r"visual.cls_token: 1 of 64 numbers"):
        load_given(str(path), params, expected)


def test_what_becomes_infinite_in_float32_is_refused(state: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match="vision.cls: 1 of 64 numbers"):
        wide = {k: t.double() if t.is_floating_point() else t for k, t in state.items()}
        fill(caft.CAFT(TINY, chunks=4), with_value(wide, "vision.cls", 1e300), "model")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted_and_it_is_said(
    tmp_path: Path, state: dict[str, Tensor], dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "model.safetensors"
    save_model(torch.nn.Linear(1, 1), path, card())
    other = {k: t.to(dtype) if t.is_floating_point() else t for k, t in state.items()}
    save_file(other, path)
    loaded = caft.load(path).network.state_dict()
    for name, tensor in other.items():
        assert loaded[name].dtype == state[name].dtype and torch.equal(loaded[name], tensor.to(state[name].dtype))
    name = str(dtype).removeprefix("torch.")
    assert [r.message for r in caplog.records] == [f"{path}: weights are {name}; they are converted to float32"]
    caplog.clear()
    save_file(state, path)
    assert torch.equal(caft.load(path).network.vision.cls, state["vision.cls"]) and not caplog.records


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_what_is_no_float_is_no_weight(state: dict[str, Tensor], dtype: torch.dtype) -> None:
    broken = {**state, "vision.cls": torch.ones(state["vision.cls"].shape, dtype=dtype)}
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(CheckpointError, match=f"vision.cls: found {name}, expected float32"):
        fill(caft.CAFT(TINY, chunks=4), broken, "model")


def test_tied_tensors_do_not_change_each_other_and_can_be_saved(tmp_path: Path, state: dict[str, Tensor]) -> None:
    """As views of one tensor in a checkpoint."""
    block = torch.arange(128.0)
    tied = {**state, "whole_norm.weight": block[:64], "part_norm.weight": block[:64], "whole_norm.bias": block[64:]}
    network = caft.CAFT(TINY, chunks=4)
    fill(network, tied, "model")
    with torch.no_grad():
        network.whole_norm.weight.zero_()
    assert torch.equal(network.part_norm.weight, torch.arange(64.0))
    save_model(network, tmp_path / "model.safetensors", card())
    assert torch.equal(read_weights(tmp_path / "model.safetensors")["whole_norm.bias"], torch.arange(64.0, 128.0))
