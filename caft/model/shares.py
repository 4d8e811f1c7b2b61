"""A pair's CAFT++ score taken apart: what the whole caption, each of its chunks and each of its sentences adds.

CAFT++ is (1 - w) W + w (v_1 + ... + v_C) / C: W is the whole-level logit, v_c the part-level logit of chunk c, both without
biases. So a chunk's share, w v_c / C, is exact, and W is one share of the caption as a whole, since a transformer reads its
chunks together. Of a chunk of k sentences the pooling makes one feature, which is not a sum over them. Each sentence is
therefore scored once more, as a chunk by itself, s_i, and gets

    w / C (v_c / k + s_i - mean of the chunk's s)

which is the equal-surplus division of cooperative games (each alone, and what is left in equal parts; Driessen and Funaki
1991), for two sentences Shapley's value. It is exact for a chunk of one sentence, adds up to the chunk's share for any, and
its differences within a chunk are those of the sentences alone. With fewer sentences than chunks they repeat, and a sentence
has a share in each of its chunks.
"""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from caft.captions.chunking import balanced_chunks, chunk_text
from caft.captions.sentences import spans
from caft.captions.words import require_words
from caft.errors import DataError
from caft.model import arguments
from caft.model.arguments import Picture
from caft.model.encoding import encode_sub_captions
from caft.model.model import Model
from caft.network.text_pool import TextConditionedPool


@dataclass(frozen=True)
class SentenceShare:
    """What a sentence adds to a pair's score.

    Attributes:
        text: The sentence.
        share: In logits, weights included.
        alone: Its part-level logit as a chunk by itself, without bias: s_i.
        chunks: Numbers of the chunks that hold it.
    """

    text: str
    share: float
    alone: float
    chunks: tuple[int, ...]


@dataclass(frozen=True)
class Shares:
    """A pair's CAFT++ score in parts that add up to it.

    Attributes:
        whole: Share of the caption as a whole.
        chunks: Share of each chunk; their sum is that of the sentences.
        sentences: In the caption's order.
    """

    whole: float
    chunks: tuple[float, ...]
    sentences: tuple[SentenceShare, ...]

    @property
    def score(self) -> float:
        """CAFT++, as `Model.similarity` gives it."""
        return self.whole + sum(sentence.share for sentence in self.sentences)


@torch.no_grad()
def score_shares(model: Model, image: Picture, caption: str, part_weight: float = 0.3) -> Shares:
    """Takes the CAFT++ score of a picture with a long caption apart; pooling and sums are in float64.

    Args:
        model: Has a part level.
        image: One picture, centre cropped as for retrieval.
        caption: One caption, read as the model's card says.
        part_weight: w, in [0, 1].

    Raises:
        DataError: The model has no part level, or the caption no word.
        ArgumentError: `part_weight` is outside [0, 1].
    """
    weight, network, card = arguments.share(part_weight, "part_weight"), model.network, model.card
    require_words(caption)
    picture, captions = model.encode_images([image]), model.encode_captions([caption])
    if picture.part is None or captions.parts is None or network.pool is None:
        raise DataError("the model has no part level, so a score has no shares of sentences; take a model with one")
    found = spans(caption, card.splitter)
    groups = balanced_chunks(len(found), card.chunks, card.balanced_rule)
    texts = [chunk_text(caption, [span], card.splitter) for span in found]
    scales = {level: float(network.temperature(level)[0].double().exp()) for level in ("whole", "part")}
    whole = (1 - weight) * scales["whole"] * float(picture.whole[0].double() @ captions.whole[0].double())
    pool = deepcopy(network.pool).cpu().double()
    of_chunks = (scales["part"] * _cosines(pool, picture.part[0], captions.parts[0])).tolist()
    alone = (scales["part"] * _cosines(pool, picture.part[0], encode_sub_captions(network, texts))).tolist()
    shares = [0.0] * len(texts)
    places: list[tuple[int, ...]] = [()] * len(texts)
    for chunk, (group, logit) in enumerate(zip(groups, of_chunks, strict=True)):
        mean = sum(alone[i] for i in group) / len(group)
        for i in group:
            shares[i] += weight / len(groups) * (logit / len(group) + alone[i] - mean)
            places[i] = (*places[i], chunk)
    sentences = map(SentenceShare, texts, shares, alone, places)
    return Shares(whole, tuple(weight * logit / len(groups) for logit in of_chunks), tuple(sentences))


def _cosines(pool: TextConditionedPool, segments: Tensor, texts: Tensor) -> Tensor:
    """Cosines of an image's segments (N, D), pooled for each text, with the texts (T, D): (T,) in float64."""
    asked = texts.cpu().double()
    pooled, _ = pool(asked[None], segments.cpu().double()[None])
    return F.cosine_similarity(pooled[0], asked, dim=-1, eps=1e-12)
