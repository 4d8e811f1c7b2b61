import pytest
import torch

from caft.captions.tokenizer import tokenize
from caft.network.text.encoder import SubCaptionTransformer

TEXTS = [
    "a star",
    "a large red star",
    "a very long text of many words that goes on and on for some time",
    "x",
    "a heart",
]


def padded(encoder: SubCaptionTransformer, tokens: torch.Tensor) -> torch.Tensor:
    """Every text at its full, padded length."""
    hidden = encoder.blocks(encoder.embedding(tokens) + encoder.positions)
    return encoder.norm(hidden[torch.arange(len(tokens)), tokens.argmax(1)])


def test_without_padding_and_repeats_features_and_gradients_are_those_of_padded_texts() -> None:
    torch.manual_seed(0)
    encoder = SubCaptionTransformer(49408, 77, 16, 2, 2).double()
    tokens = tokenize([*TEXTS, TEXTS[3], " ".join(["word"] * 100), TEXTS[0], TEXTS[3]])
    weight = torch.randn(len(tokens), 16, dtype=torch.float64)
    outcomes = []
    for encode in (lambda texts: padded(encoder, texts), encoder):
        features = encode(tokens)
        gradients = torch.autograd.grad((features * weight).sum(), list(encoder.parameters()))
        outcomes.append([features, *gradients])
    for expected, found in zip(*outcomes, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


def test_blocks_see_each_text_once_in_few_shapes() -> None:
    encoder = SubCaptionTransformer(49408, 77, 16, 2, 1)
    shapes: list[tuple[int, ...]] = []
    encoder.blocks.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    texts = [" ".join(["word"] * count) for count in (1, 2, 6, 7, 30, 75, 200)]
    encoder(tokenize(texts * 2))
    # 200 words are cut to what 75 are.
    assert shapes == [(3, 8, 16), (1, 16, 16), (1, 32, 16), (1, 77, 16)]


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
    tokens = tokenize([f"a large striped red star left of a heart {number}" for number in range(10, 74)])
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
