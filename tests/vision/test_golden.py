"""The vision modules against arrays computed with the original ones (tests/golden/README.md)."""

import pytest
import torch
from torch.nn import functional as F

from caft.network.layers import sin_cos_positions
from caft.network.vision import superpixels
from caft.network.vision.graph_pool import GraphPool
from caft.network.vision.sampling import farthest_points
from caft.network.vision.segments import segment_mean, superpixel_tokens
from tests.reference.golden import assert_equal, compared

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


def test_sampling_picks_the_points_of_the_original() -> None:
    with compared("fps") as arrays:
        # After the six distinct points of `dup` the original repeats index 0; ours goes on with points not yet picked.
        for case, picks in (("random", 17), ("ties", 12), ("dup", 6)):
            expected = arrays[f"{case}_idx"]
            found = farthest_points(arrays[f"{case}_points"], expected.shape[1], start=0)
            assert_equal(found[:, :picks], expected[:, :picks])


def test_sampling_goes_on_with_the_lowest_index_when_all_distances_are_zero() -> None:
    points = torch.tensor([[[1.0, 2.0]] * 4])
    assert farthest_points(points, 4).tolist() == [[0, 1, 2, 3]]
    empty = torch.tensor([[True, False, False, True]])
    assert farthest_points(points, 4, empty).tolist() == [[1, 2, 0, 3]]


def test_sampling_refuses_more_picks_than_points() -> None:
    with pytest.raises(ValueError, match="count is 5, must be between 1 and the 4 points"):
        farthest_points(torch.zeros(1, 4, 2), 5)


def test_graph_pooling_equals_the_original_in_value_and_gradient() -> None:
    with compared("graph_pool_small") as arrays:
        pool = GraphPool(48, 12, 7).eval()
        ours_to_theirs = {}
        for name, _ in pool.named_parameters():
            stem, _, leaf = name.rpartition(".")
            ours_to_theirs[name] = THEIRS[name] if name in THEIRS else f"{THEIRS[stem]}.{leaf}"
        pool.load_state_dict({ours: arrays[f"param.{theirs}"] for ours, theirs in ours_to_theirs.items()})
        cls, tokens = arrays["in_cls"].requires_grad_(), arrays["in_src"].requires_grad_()
        pooled = pool(cls, tokens, arrays["in_mask"])
        features = tokens + pool.attn(pool.norm(tokens))
        features = features - features.mean(1, keepdim=True) + pool.bias
        assert_equal(pooled.picks, arrays["out_sampled_inds"])
        assert_equal(pooled.logits.argmax(2), arrays["mid_assign_hard"])
        for found, name in (
            (features, "mid_node_features"),
            (pooled.logits, "out_logits"),
            (pooled.logits.softmax(2), "mid_assign_soft"),
            (pooled.cls, "out_cls"),
            (pooled.groups, "out_centroids"),
        ):
            torch.testing.assert_close(found, arrays[name], atol=2e-5, rtol=0)
        ((pooled.groups * arrays["grad_w_centroids"]).sum() + (pooled.cls * arrays["grad_w_cls"]).sum()).backward()
        gradients = {"grad_in_src": tokens.grad, "grad_in_cls": cls.grad}
        gradients |= {f"grad.{ours_to_theirs[name]}": parameter.grad for name, parameter in pool.named_parameters()}
        for name, gradient in gradients.items():
            if name not in arrays:  # stored for vectors alone
                continue
            assert gradient is not None
            # Centring removes this bias: its gradient is zero but for rounding.
            scale = 1.0 if name == "grad.centroid_fc.attn.proj.bias" else arrays[name].norm()
            assert (gradient - arrays[name]).norm() <= 1e-4 * scale, name


def test_segment_means_equal_the_original() -> None:
    with compared("segment_mean") as arrays:
        assert_equal(segment_mean(arrays["x"], arrays["index"], 9), arrays["mean"])


def test_an_empty_superpixel_repeats_its_nearest_neighbour() -> None:
    features = torch.arange(4.0).view(1, 2, 2, 1)
    labels = torch.tensor([[[0, 0], [2, 2]]])  # of a 2 x 2 grid; 1 and 3 are empty
    tokens, empty = superpixel_tokens(features, labels, 4)
    assert tokens[0, :, 0].tolist() == [0.5, 0.5, 2.5, 2.5]
    assert empty.tolist() == [[False, True, False, True]]


def test_positions_equal_the_original() -> None:
    with compared("pos_embed_28x28_384") as arrays:
        assert_equal(sin_cos_positions(28, 384), arrays["pos"])


def test_superpixels_equal_the_original_in_value_and_gradient() -> None:
    with compared("sfcn_pooling") as arrays:
        prob, features = arrays["prob"].requires_grad_(), arrays["feat"].requires_grad_()
        pooled = superpixels.pool(features, prob, 16)
        assert_equal(pooled, arrays["pooled"])
        gradients = torch.autograd.grad((pooled * arrays["w_pool"]).sum(), (prob, features))
        assert_equal(gradients[0], arrays["grad_pool_prob"])
        assert_equal(gradients[1], arrays["grad_pool_feat"])
        raised = superpixels.unpool(superpixels.pool(features, prob, 16), prob, 16)
        assert_equal(raised, arrays["up"])
        gradients = torch.autograd.grad((raised * arrays["w_up"]).sum(), (prob, features))
        assert_equal(gradients[0], arrays["grad_up_prob"])
        assert_equal(gradients[1], arrays["grad_up_feat"])

        assert_equal(superpixels.hard_labels(prob, 16), arrays["hard_map"][:, 0])
        for channel in range(9):
            alone = F.one_hot(torch.tensor(channel), 9).view(1, 9, 1, 1).expand(2, 9, 48, 64)
            assert_equal(superpixels.hard_labels(alone, 16), arrays["grid_neighbour_ids"][:, channel])
        assert_equal(superpixels.pixel_positions(48, 64).expand(2, -1, -1, -1), arrays["xy"])
        assert_equal(superpixels.rgb_to_lab(arrays["rgb01"]), arrays["lab_of_rgb01"])

        # The published loss on labels, which the label-free one follows: sums over pixels, and factors of its own.
        labels = F.one_hot(arrays["labels"][:, 0].long(), 50).permute(0, 3, 1, 2).float()
        positions = superpixels.pixel_positions(48, 64).expand(2, -1, -1, -1)
        given = torch.cat([labels, positions], dim=1)
        rebuilt = superpixels.unpool(superpixels.pool(given, prob, 16), prob, 16)
        semantic = -0.005 / 2 * (labels * (rebuilt[:, :50] + 1e-8).log()).sum()
        position = 0.005 * 0.003 / 16 / 2 * (rebuilt[:, 50:] - positions).norm(dim=1).sum()
        assert_equal(semantic, arrays["loss_sem"])
        assert_equal(position, arrays["loss_pos"])
        assert_equal(semantic + position, arrays["loss"])
        assert_equal(torch.autograd.grad(semantic + position, prob)[0], arrays["grad_loss_prob"])


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
