"""The vision modules against arrays computed with the original ones (tests/golden/README.md)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from caft.layers import sin_cos_positions
from caft.vision import superpixels
from caft.vision.graph_pool import GraphPool
from caft.vision.sampling import farthest_points
from caft.vision.segments import segment_mean, superpixel_tokens

GOLDEN = Path(__file__).parent.parent / "golden"
THEIRS = {
    "bias": "centroid_fc.bias",
    "norm": "centroid_fc.norm",
    "attn.qkv": "centroid_fc.attn.qkv",
    "attn.proj": "centroid_fc.attn.proj",
    "expand_norm": "fc1.0",
    "expand": "fc1.1",
    "reduce_norm": "fc2.0",
    "reduce": "fc2.1",
}


def load(name: str) -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files if arrays[key].dtype.kind in "fiub"}


@pytest.mark.parametrize(("case", "compared"), [("random", 17), ("ties", 12), ("dup", 6)])
def test_sampling_picks_the_points_of_the_original(case: str, compared: int) -> None:
    arrays = load("fps")
    expected = arrays[f"{case}_idx"]
    picks = farthest_points(arrays[f"{case}_points"], expected.shape[1], start=0)
    assert torch.equal(picks[:, :compared], expected[:, :compared])


def test_sampling_goes_on_with_the_lowest_index_when_all_distances_are_zero() -> None:
    points = torch.tensor([[[1.0, 2.0]] * 4])
    assert farthest_points(points, 4).tolist() == [[0, 1, 2, 3]]
    empty = torch.tensor([[True, False, False, True]])
    assert farthest_points(points, 4, empty).tolist() == [[1, 2, 0, 3]]


def test_sampling_refuses_more_picks_than_points() -> None:
    with pytest.raises(ValueError, match="count is 5, must be between 1 and the 4 points"):
        farthest_points(torch.zeros(1, 4, 2), 5)


def test_graph_pooling_equals_the_original_in_value_and_gradient() -> None:
    arrays = load("graph_pool_small")
    pool = GraphPool(48, 12, 7).eval()
    ours_to_theirs = {}
    for name, _ in pool.named_parameters():
        stem, _, leaf = name.rpartition(".")
        ours_to_theirs[name] = THEIRS[name] if name in THEIRS else f"{THEIRS[stem]}.{leaf}"
    pool.load_state_dict({ours: arrays[f"param.{theirs}"] for ours, theirs in ours_to_theirs.items()})
    cls, tokens = arrays["in_cls"].requires_grad_(), arrays["in_src"].requires_grad_()
    pooled = pool(cls, tokens)
    assert torch.equal(pooled.picks, arrays["out_sampled_inds"])
    torch.testing.assert_close(pooled.cls, arrays["out_cls"], atol=2e-5, rtol=0)
    torch.testing.assert_close(pooled.groups, arrays["out_centroids"], atol=2e-5, rtol=0)
    torch.testing.assert_close(pooled.logits, arrays["out_logits"], atol=2e-5, rtol=0)
    ((pooled.groups * arrays["grad_w_centroids"]).sum() + (pooled.cls * arrays["grad_w_cls"]).sum()).backward()
    found = {"grad_in_src": tokens.grad, "grad_in_cls": cls.grad}
    found |= {f"grad.{ours_to_theirs[name]}": parameter.grad for name, parameter in pool.named_parameters()}
    for name, gradient in found.items():
        if name not in arrays:
            continue
        assert gradient is not None
        # Centring removes this bias: its gradient is zero but for rounding.
        scale = 1.0 if name == "grad.centroid_fc.attn.proj.bias" else arrays[name].norm()
        assert (gradient - arrays[name]).norm() <= 1e-4 * scale, name


def test_segment_means_equal_the_original() -> None:
    arrays = load("segment_mean")
    means = segment_mean(arrays["x"], arrays["index"].long(), 9)
    torch.testing.assert_close(means, arrays["mean"].to(means.dtype), atol=1e-6, rtol=1e-5)


def test_an_empty_superpixel_repeats_its_nearest_neighbour() -> None:
    features = torch.arange(4.0).view(1, 2, 2, 1)
    labels = torch.tensor([[[0, 0], [2, 2]]])  # of a 2 x 2 grid; 1 and 3 are empty
    tokens, empty = superpixel_tokens(features, labels, 4)
    assert tokens[0, :, 0].tolist() == [0.5, 0.5, 2.5, 2.5]
    assert empty.tolist() == [[False, True, False, True]]


def test_positions_equal_the_original() -> None:
    expected = load("pos_embed_28x28_384")["pos"]
    torch.testing.assert_close(sin_cos_positions(28, 384), expected.float(), atol=2e-6, rtol=0)


def test_superpixel_pooling_equals_the_original_in_value_and_gradient() -> None:
    arrays = load("sfcn_pooling")
    prob, features = arrays["prob"].requires_grad_(), arrays["feat"].requires_grad_()
    pooled = superpixels.pool(features, prob, 16)
    torch.testing.assert_close(pooled, arrays["pooled"], atol=1e-6, rtol=1e-5)
    gradients = torch.autograd.grad((pooled * arrays["w_pool"]).sum(), (prob, features))
    torch.testing.assert_close(gradients[0], arrays["grad_pool_prob"], atol=1e-7, rtol=1e-5)
    torch.testing.assert_close(gradients[1], arrays["grad_pool_feat"], atol=1e-7, rtol=1e-5)
    raised = superpixels.unpool(superpixels.pool(features, prob, 16), prob, 16)
    torch.testing.assert_close(raised, arrays["up"], atol=1e-6, rtol=1e-5)
    gradients = torch.autograd.grad((raised * arrays["w_up"]).sum(), (prob, features))
    torch.testing.assert_close(gradients[0], arrays["grad_up_prob"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradients[1], arrays["grad_up_feat"], atol=1e-6, rtol=1e-5)


def test_labels_positions_and_colours_equal_the_original() -> None:
    arrays = load("sfcn_pooling")
    assert torch.equal(superpixels.hard_labels(arrays["prob"], 16), arrays["hard_map"][:, 0].long())
    torch.testing.assert_close(superpixels.pixel_positions(48, 64), arrays["xy"][0].float())
    lab = superpixels.rgb_to_lab(arrays["rgb01"].float())
    torch.testing.assert_close(lab, arrays["lab_of_rgb01"].float(), atol=1e-3, rtol=1e-5)


def test_the_network_has_the_published_parameters() -> None:
    network = superpixels.SFCN()
    assert sum(parameter.numel() for parameter in network.parameters()) == 2_269_785
    names = set(network.state_dict())
    assert {
        "conv0a.0.weight",
        "conv0a.1.running_mean",
        "deconv3.0.bias",
        "conv3_1.0.weight",
        "pred_mask0.bias",
    } <= names
    prob = network.eval()(torch.rand(1, 3, 32, 48))
    torch.testing.assert_close(prob.sum(1), torch.ones(1, 32, 48))
