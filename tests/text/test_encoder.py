import pytest
import torch

from caft.text.encoder import SubCaptionTransformer
from caft.text.tokenizer import tokenize

TEXTS = [
    "a star",
    "a large red star",
    "a very long text of many words that goes on and on for some time",
    "x",
    "a heart",
]


@pytest.mark.parametrize("limit", [1, 30, 10_000])
def test_portions_change_neither_features_nor_gradients(limit: int) -> None:
    torch.manual_seed(0)
    encoder = SubCaptionTransformer(49408, 77, 16, 2, 2).double()
    tokens = tokenize(TEXTS)
    weight = torch.randn(len(TEXTS), 16, dtype=torch.float64)
    expected = encoder(tokens)
    gradients = torch.autograd.grad((expected * weight).sum(), list(encoder.parameters()))
    encoder.tokens_at_once = limit
    found = encoder(tokens)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    again = torch.autograd.grad((found * weight).sum(), list(encoder.parameters()))
    for one, other in zip(again, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_portions_keep_less_for_the_backward_pass() -> None:
    encoder = SubCaptionTransformer(49408, 77, 16, 2, 2)
    tokens = tokenize(["a large striped red star left of a heart"] * 64)
    kept = {}
    for limit in (None, 256):
        encoder.tokens_at_once = limit
        sizes: list[int] = []

        def pack(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            encoder(tokens).sum()
        kept[limit] = sum(sizes)
    assert kept[256] < kept[None] / 5
