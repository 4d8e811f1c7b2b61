"""Captions that are hard to cut into sentences: none at all, no sentence, 100 kB."""

from pathlib import Path

import numpy as np
import pytest

from caft.captions.sentences import SPLITTERS, Splitter
from caft.captions.tokenizer import encode, pad
from caft.data.training.batch import Sampling, sample_sub_captions
from caft.data.training.index import build_index
from caft.data.training.reader import TrainingIndex
from tests.bad_input.conftest import Corpus

LONG = "A red bus stands here. " * 4_500  # 103,500 characters
WORD = "x" * 100_000


def index_of(folder: Path, splitter: Splitter) -> tuple[TrainingIndex, int]:
    without = build_index(folder / splitter, [{"name": "one"}], splitter, folder / "captions", folder / "sentences")
    return TrainingIndex(folder / splitter, folder / "images"), without["one"]


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_an_image_without_a_sentence_is_left_out_and_counted(corpus: Corpus, splitter: Splitter) -> None:
    folder = corpus([None, "A bus.", "", " \n\n ", "</s>", " </s>\n</s> ", "Two cats."])
    index, without = index_of(folder, splitter)
    assert without == 5
    assert index.row_ids.tolist() == [101, 106]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("splitter", SPLITTERS)
def test_a_caption_of_100_kb_trains_like_any_other(corpus: Corpus, splitter: Splitter) -> None:
    index, without = index_of(corpus([LONG, WORD]), splitter)
    assert without == 0
    assert index.num_sentences(0)[0] == 4_500 and index.num_sentences(1)[0] == 1
    rng = np.random.default_rng(0)
    for row in (0, 1):
        drawn = sample_sub_captions(index.num_sentences(row), rng, Sampling())
        ids = [index.sub_caption_ids(row, pairs) for pairs in drawn]
        assert ids == [encode(index.sub_caption_text(row, pairs)) for pairs in drawn]
        assert pad(ids).shape == (8, 77)
