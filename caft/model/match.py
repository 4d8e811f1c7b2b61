"""Does a picture bear a sentence out? Its part-level logit as a probability, and its rank among reference sentences.

Attention always looks somewhere, so a map says where a sentence would be, not whether it is there; the logit says that.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from caft.errors import DataError
from caft.model.encoding import encode_squashed, encode_sub_captions
from caft.network.caft import CAFT, ImageFeatures

# A sentence below either is not borne out. Chosen on rendered scenes, with the default run's model; docs/quickstart.md
# has the rates of both errors.
LEAST_PROBABILITY = 0.2
LEAST_PERCENTILE = 50.0

# What a sentence is ranked among if the model's card has no sentences of its training.
GENERAL_SENTENCES = (
    "A cat sleeps on a chair.", "A dog runs along a beach.", "A man rides a bicycle.", "A woman wears a red hat.",
    "Two children play with a ball.", "People walk along a busy street.", "A car is parked beside a house.",
    "A yellow bus stops at a corner.", "A train stands at a station.", "An airplane flies above the clouds.",
    "A boat floats on a calm lake.", "The sky is blue and clear.", "Grey clouds cover the sky.",
    "The sun sets behind the hills.", "A mountain is covered in snow.", "A path leads through a forest.",
    "Tall trees stand on both sides.", "The grass is green and short.", "Flowers bloom in a garden.",
    "A vase of flowers is on the table.", "A plate of food is on a wooden table.", "A cup of coffee stands on a saucer.",
    "A bowl is filled with fruit.", "A cake is decorated with candles.", "A bottle stands beside a glass.",
    "A bird sits on a branch.", "A horse stands in a field.", "Cows graze on a meadow.", "A butterfly rests on a leaf.",
    "Fish swim in clear water.", "A laptop is open on a desk.", "A phone lies on a book.",
    "A lamp lights the corner of the room.", "A bed has white sheets.", "A sofa stands against the wall.",
    "Curtains hang at the window.", "A clock hangs on the wall.", "A mirror reflects the room.",
    "Books fill the shelves.", "A door is half open.", "A tall building has many windows.",
    "A bridge crosses a river.", "A sign with white letters is at the roadside.", "A fence surrounds the yard.",
    "A statue stands in a square.", "The background is blurred.", "The background is plain and white.",
    "The wall is made of red bricks.", "The floor is made of wood.", "The picture is black and white.",
    "A striped pattern covers the cloth.", "A round object is at the center.", "A small black shape is on the left.",
    "A large blue square is on the right.", "The man wears a dark suit.", "The woman has long hair.",
    "A child smiles at the camera.", "A crowd watches a game.", "A player holds a racket.", "A person skis down a slope.",
)  # fmt: skip


class SentenceMatch(NamedTuple):
    """How well a sentence fits a picture.

    Attributes:
        text: The sentence.
        logit: Of the part level, with the learnt scale and bias.
        probability: Its sigmoid, in (0, 1): that the sentence belongs to the picture, as the training's loss takes it.
        percentile: Share of the reference sentences with a lower logit for this picture, in percent; equal ones are half.
    """

    text: str
    logit: float
    probability: float
    percentile: float

    @property
    def borne_out(self) -> bool:
        """Whether the picture bears the sentence out."""
        return self.probability >= LEAST_PROBABILITY and self.percentile >= LEAST_PERCENTILE


def match(network: CAFT, image: Image.Image, texts: Sequence[str], references: Sequence[str]) -> list[SentenceMatch]:
    """How well each text fits an image, as a single sub-caption, and where it ranks among the references.

    Raises:
        DataError: The network has no part level, or there is no text or no reference.
    """
    require_part_level(network, texts, references)
    features = next(encode_squashed(network, [image]))
    return matches(network, features, encode_sub_captions(network, [*texts, *references]), texts)


def require_part_level(network: CAFT, texts: Sequence[str], references: Sequence[str]) -> None:
    """Refuses what has no match.

    Raises:
        DataError: As `match`.
    """
    if not network.has_part:
        raise DataError("the model has no part level, so no sentence has a match; take a model with grounding")
    if not texts or not references:
        raise DataError("a match needs at least one sentence and one reference sentence; give some")


def matches(network: CAFT, image: ImageFeatures, asked: Tensor, texts: Sequence[str]) -> list[SentenceMatch]:
    """`match` by features: of one image, B = 1, and of the texts with the references after them, (T + R, D)."""
    assert image.part is not None
    logits = network.part_logits(image.part, asked)[0].float().cpu().numpy()
    own, others = logits[: len(texts)], logits[len(texts) :]
    return [
        SentenceMatch(text, float(logit), float(probability(logit)), float(place))
        for text, logit, place in zip(texts, own, percentiles(own, others), strict=True)
    ]


def probability(logits: ArrayLike) -> NDArray[np.float64]:
    """Sigmoid of logits of any size, without overflow."""
    return np.exp(-np.logaddexp(0.0, -np.asarray(logits, np.float64)))


def percentiles(values: ArrayLike, references: ArrayLike) -> NDArray[np.float64]:
    """Share in percent of the references (R,) that lie below each value (N,); equal ones count half."""
    ordered, found = np.sort(np.asarray(references)), np.asarray(values)
    below, to = (np.searchsorted(ordered, found, side) for side in ("left", "right"))
    return 50.0 * (below + to) / len(ordered)
