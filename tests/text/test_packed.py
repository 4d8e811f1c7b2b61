"""Texts packed one after the other: what is packed, and that they are encoded as those with padding are."""

from unittest import mock

import pytest
import torch
from torch import Tensor

from caft.network.text.encoder import SubCaptionTransformer, can_pack, pack
from tests.train.test_waits import masked_attention

START, END = 49406, 49407


def texts(*rows: list[int], context: int = 12) -> Tensor:
    tokens = torch.zeros(len(rows), context, dtype=torch.long)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids) + 2] = torch.tensor([START, *ids, END])
    return tokens


def test_each_distinct_text_is_packed_once_without_its_padding() -> None:
    tokens = texts([5, 6, 7], [], [5, 6, 7], [9] * 10)
    packed = pack(tokens)
    assert packed.starts.dtype == torch.int32 and packed.starts[0] == 0 and packed.starts[-1] == len(packed.ids) == 19
    assert packed.places.shape == (4,) and packed.places[0] == packed.places[2]
    for text, place in zip(tokens, packed.places.tolist(), strict=True):
        start, end = packed.starts[place : place + 2].tolist()
        assert torch.equal(packed.ids[start:end], text[: end - start]) and packed.ids[end - 1] == END
        assert torch.equal(packed.positions[start:end], torch.arange(end - start))
        assert packed.ends[place] == end - 1
        assert not text[end - start :].any()


def test_packed_texts_are_encoded_as_padded_ones() -> None:
    torch.manual_seed(0)
    tower = SubCaptionTransformer(49408, 12, 16, 2, 2)
    tokens = texts([5, 6, 7], [], [5, 6, 7], [9] * 10, [8], [4, 4, 4, 4, 4, 4, 4])
    weights = torch.randn(len(tokens), 16)
    results = []
    with mock.patch("caft.network.layers.packed_attention", masked_attention):
        for packed in (None, pack(tokens)):
            tower.zero_grad()
            features = tower(tokens, packed)
            (features * weights).sum().backward()
            results.append([features.detach(), *(parameter.grad for parameter in tower.parameters())])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_torch_without_attention_over_packed_texts_is_seen() -> None:
    with mock.patch.dict("sys.modules", {"torch.nn.attention.varlen": None}):
        assert not can_pack()


@pytest.mark.skipif(not can_pack(), reason="this torch has no attention over packed texts")
def test_the_mask_of_packed_texts_is_asked_for_as_torch_wants_it() -> None:
    seen = {}

    def attention(query: Tensor, key: Tensor, value: Tensor, *more: object, **named: object) -> Tensor:
        seen.update(named)
        return masked_attention(query, key, value, more[0], 77, True)  # type: ignore[arg-type]

    tower = SubCaptionTransformer(49408, 12, 16, 2, 1)
    tokens = texts([1, 2], [3])
    with mock.patch("torch.nn.attention.varlen.varlen_attn", attention):
        tower(tokens, pack(tokens))
    assert seen == {"window_size": (-1, 0)}
