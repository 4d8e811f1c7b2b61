"""Chunks against hand-worked tables and naive rules."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caft.captions.chunking import balanced_chunks, caption_chunks, random_chunks

BALANCED = {
    4: (1, 1, 1, 1), 5: (2, 1, 1, 1), 6: (2, 2, 1, 1), 7: (2, 2, 2, 1), 8: (2, 2, 2, 2), 9: (3, 2, 2, 2),
    10: (3, 3, 2, 2), 11: (3, 3, 3, 2), 12: (3, 3, 3, 3), 13: (4, 3, 3, 3), 17: (5, 4, 4, 4),
}  # fmt: skip


@pytest.mark.parametrize(("count", "sizes"), BALANCED.items())
def test_balanced_sizes(count: int, sizes: tuple[int, ...]) -> None:
    chunks = balanced_chunks(count, 4)
    assert tuple(map(len, chunks)) == sizes
    assert sum(chunks, []) == list(range(count))


@pytest.mark.parametrize(("count", "sizes"), [(12, (3, 3, 3, 3)), (13, (3, 3, 3, 4)), (17, (3, 3, 3, 8))])
def test_the_release_gives_the_rest_to_the_last_chunk(count: int, sizes: tuple[int, ...]) -> None:
    chunks = balanced_chunks(count, 4, "release")
    assert tuple(map(len, chunks)) == sizes
    assert sum(chunks, []) == list(range(count))


@pytest.mark.parametrize("rule", ["paper", "release"])
@pytest.mark.parametrize(("count", "firsts"), [(1, [0, 0, 0, 0]), (2, [0, 1, 0, 1]), (3, [0, 1, 2, 0])])
def test_few_sentences_repeat_in_a_cycle(rule: str, count: int, firsts: list[int]) -> None:
    assert balanced_chunks(count, 4, rule) == [[first] for first in firsts]  # type: ignore[arg-type]


@given(st.integers(1, 60), st.integers(1, 8), st.integers(1, 4), st.integers(0, 2**32))
def test_random_chunks_keep_order_and_sizes(count: int, chunks: int, most: int, seed: int) -> None:
    result = random_chunks(count, chunks, np.random.default_rng(seed), most)
    assert len(result) == chunks
    if count < chunks:
        assert result[:count] == [[i] for i in range(count)]
        assert all(len(chunk) == 1 and 0 <= chunk[0] < count for chunk in result[count:])
    else:
        assert all(1 <= len(chunk) <= most for chunk in result)
        assert sum(result, []) == list(range(min(count, most * chunks)))


def test_random_sizes_follow_the_sequential_draw() -> None:
    """Five sentences in four chunks: (2,1,1,1) half the time, then a quarter, an eighth and an eighth."""
    rng = np.random.default_rng(0)
    draws = Counter(tuple(map(len, random_chunks(5, 4, rng))) for _ in range(8000))
    expected = {(2, 1, 1, 1): 0.5, (1, 2, 1, 1): 0.25, (1, 1, 2, 1): 0.125, (1, 1, 1, 2): 0.125}
    assert draws.keys() == expected.keys()
    for sizes, share in expected.items():
        assert draws[sizes] / 8000 == pytest.approx(share, abs=0.02)


def test_repeats_reach_every_sentence() -> None:
    rng = np.random.default_rng(0)
    assert {tuple(random_chunks(2, 4, rng)[place])[0] for _ in range(100) for place in (2, 3)} == {0, 1}


def test_no_sentence_is_refused() -> None:
    with pytest.raises(ValueError, match="without a sentence"):
        random_chunks(0, 4, np.random.default_rng(0))
    with pytest.raises(ValueError, match="without a sentence"):
        balanced_chunks(0, 4)
    with pytest.raises(ValueError, match="without a sentence"):
        caption_chunks(" \n", "spacy")
    with pytest.raises(ValueError, match="expected 'paper' or 'release'"):
        balanced_chunks(4, 4, "fair")  # type: ignore[arg-type]


def test_chunks_of_a_caption() -> None:
    caption = "A cat.</s>A dog.\nA bird. A cow. A fox."
    assert caption_chunks(caption, "spacy") == ["A cat. A dog.", "A bird.", "A cow.", "A fox."]
    assert caption_chunks(caption, "dreamlip") == ["A cat. A dog", "A bird", "A cow", "A fox"]
