"""The flat image tower against PyTorch's own transformer layers, and against the published size."""

import torch
from torch import nn

from caft.network.layers import TransformerBlock
from caft.network.vision.flat import FlatVisionEncoder


def pytorch_layer(block: TransformerBlock, width: int, heads: int, mlp_ratio: int) -> nn.TransformerEncoderLayer:
    """The same weights in PyTorch's layer, whose packed names are open_clip's."""
    layer = nn.TransformerEncoderLayer(
        width, heads, mlp_ratio * width, 0.0, "gelu", 1e-5, batch_first=True, norm_first=True, dtype=torch.float64
    )
    names = {
        "self_attn.in_proj_": "attn.qkv.",
        "self_attn.out_proj.": "attn.proj.",
        "linear1.": "mlp.fc1.",
        "linear2.": "mlp.fc2.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
    }
    state = block.state_dict()
    layer.load_state_dict(
        {theirs + leaf: state[ours + leaf] for theirs, ours in names.items() for leaf in ("weight", "bias")}
    )
    return layer.train()  # in evaluation mode PyTorch takes another path through the same formula


def test_the_tower_is_a_plain_vit() -> None:
    torch.manual_seed(0)
    tower = FlatVisionEncoder(image_size=24, patch=8, width=16, heads=4, mlp_ratio=2, blocks=3).double()
    with torch.no_grad():
        for parameter in tower.parameters():  # zero biases would hide a forgotten one
            parameter.add_(0.1 * torch.randn_like(parameter))
    images = torch.randn(2, 3, 24, 24, dtype=torch.float64)
    rows = []
    for image in images:
        patches = [
            (tower.patches.weight * image[:, r : r + 8, c : c + 8]).sum((1, 2, 3))
            for r in (0, 8, 16)
            for c in (0, 8, 16)
        ]
        rows.append(torch.stack([tower.cls, *patches]) + tower.positions)
    hidden = nn.functional.layer_norm(torch.stack(rows), (16,), tower.norm.weight, tower.norm.bias, 1e-5)
    for block in tower.blocks:
        hidden = pytorch_layer(block, 16, 4, 2)(hidden)
    found = tower(images, tower.labels(images))
    torch.testing.assert_close(found.cls, hidden[:, 0], atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(found.stages[0], hidden[:, 1:], atol=1e-10, rtol=1e-10)
    assert found.stage_cls[0] is found.cls and found.logits == []


def test_labels_number_the_patches_row_by_row() -> None:
    tower = FlatVisionEncoder(24, 8, 16, 4, 2, 1)
    assert tower.labels(torch.zeros(2, 3, 24, 24)).tolist() == [[[0, 1, 2], [3, 4, 5], [6, 7, 8]]] * 2


def test_the_base_size_is_vit_b_16() -> None:
    with torch.device("meta"):
        tower = FlatVisionEncoder(224, 16, 768, 12, 4, 12)
    # timm's ViT-B/16 without head has 85,798,656 parameters, the last norm among them; open_clip's has a norm more and
    # no bias of the patches.
    last_norm = 2 * 768
    assert sum(p.numel() for p in tower.parameters()) + last_norm == 85_798_656 + 2 * 768 - 768
