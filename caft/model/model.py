"""What a user holds: a network and its card, and from pictures and texts to features, scores, maps and segments."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caft.captions.words import require_words
from caft.errors import ArgumentError, DataError
from caft.model import arguments, encoding, maps, search
from caft.model.arguments import Picture, open_picture
from caft.model.card import ModelCard
from caft.model.encoding import EncodedCaptions, EncodedImages
from caft.model.looks import look
from caft.model.match import GENERAL_SENTENCES, SentenceMatch
from caft.model.match import match as match_texts
from caft.model.scores import blend, part_scores, whole_scores, without_bias
from caft.model.stored import HALF, StoredImages
from caft.network.caft import CAFT
from caft.transforms import nearest_pixels

# Methods that take pictures or captions also take them encoded by `encode_images` or `encode_captions`.
Images = Picture | Iterable[Picture] | EncodedImages
Captions = str | Iterable[str] | EncodedCaptions


class Match(NamedTuple):
    """An image that a query found: its number among those that were searched, and its score."""

    image: int
    score: float


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its card; `caft.load` gives one in evaluation mode.

    A picture is a path, the bytes of a file or the open file, a Pillow image, a tensor (3, H, W) or an array (H, W),
    (H, W, 3) or (H, W, 4), of any size; tensors and arrays are uint8 or floats in [0, 1]. Pictures are turned upright,
    transparent parts are white, of an animation the first frame is taken. A text may be of any length: it is split into
    sentences and chunks as the card says. Several pictures or texts are a list, an array of texts, a pandas Series, or
    whatever else can be read in an order; several pictures also a tensor (B, 3, H, W) or an array (B, H, W, 3). One
    item is a batch of one; where one is meant, a list of one is taken too. `batch` is how many are encoded at once, from 1.
    Results are on the CPU, whatever the network's device.

    The examples' model has random weights and the sizes `tiny` of params.yaml: image 64, embedding 64.

    Attributes:
        network: Maps tensors to tensors, a `torch.nn.Module`.
        card: How captions are read, and where the weights come from.

    Raises:
        DataError: Of every method: a picture cannot be decoded, a text has no word, or nothing was given.
        ArgumentError: Of every method: an argument is of another kind, shape or range; it is a ValueError and a
            TypeError too.
    """

    network: CAFT
    card: ModelCard

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.device

    def to(self, device: torch.device | str) -> "Model":
        """Moves the weights to a device that is there, in place."""
        self.network.to(arguments.device(device))
        return self

    def eval(self) -> "Model":
        """Puts the network into evaluation mode, as `torch.nn.Module.eval`; a loaded model is in it already."""
        self.network.eval()
        return self

    def encode_image(self, images: Images, batch: int = 64) -> Tensor:
        """Whole-level features of pictures, of unit norm, (B, D).

        >>> model.encode_image("photo.jpg").shape
        torch.Size([1, 64])
        """
        return self.encode_images(images, batch).whole

    def encode_text(self, texts: Captions, batch: int = 64) -> Tensor:
        """Whole-level features of captions, of unit norm, (Q, D).

        >>> model.encode_text(["A cat.", "A dog on a mat. It sleeps. The mat is red."]).shape
        torch.Size([2, 64])
        """
        return self.encode_captions(texts, batch).whole

    def encode_images(self, images: Images, batch: int = 64) -> EncodedImages:
        """Features of both levels, to score the same pictures several times; pictures are centre cropped.

        >>> encoded = model.encode_images(["photo.jpg", "photo.jpg"])
        >>> encoded.whole.shape, encoded.part.shape
        (torch.Size([2, 64]), torch.Size([2, 32, 64]))
        """
        if isinstance(images, EncodedImages):
            return images
        return encoding.encode_cropped(self.network, arguments.several(images), batch)

    def encode_captions(self, captions: Captions, batch: int = 64) -> EncodedCaptions:
        """Features of both levels, to score the same captions several times.

        >>> model.encode_captions("A cat. It sleeps.").parts.shape  # four chunks
        torch.Size([1, 4, 64])
        """
        if isinstance(captions, EncodedCaptions):
            return captions
        return encoding.encode_captions(self, arguments.texts(captions), arguments.whole_number(batch, "batch"))

    def similarity(self, images: Images, texts: Captions, part_weight: float = 0.3) -> Tensor:
        """Scores of every picture with every caption, (B, Q): CAFT++ (Eq. 10), logits without biases.

        Args:
            images: Pictures, or what `encode_images` gave.
            texts: Captions, or what `encode_captions` gave.
            part_weight: w of (1 - w) whole + w part, in [0, 1]; 0 is the whole level alone, which a model without a
                part level needs.

        >>> model.similarity("photo.jpg", ["A cat.", "A dog."]).shape
        torch.Size([1, 2])
        """
        part_weight = arguments.share(part_weight, "part_weight")
        pictures, captions = self.encode_images(images), self.encode_captions(texts)
        _require_one_size(pictures, captions)
        whole = whole_scores(self.network, pictures.whole, captions.whole)
        if part_weight == 0:
            return without_bias(self.network, whole, "whole")
        if pictures.part is None or captions.parts is None:
            raise DataError(f"the model has no part level: part_weight is {part_weight}, and must be 0")
        return blend(self.network, whole, part_scores(self.network, pictures.part, captions.parts), part_weight)

    def retrieve(
        self, query: str | EncodedCaptions, images: Images | StoredImages, k: int = 5, part_weight: float = 0.3
    ) -> list[Match]:
        """The k pictures that fit a long description best, best first, with their scores; all if there are fewer.

        They are the best of all, by proof: of many pictures, those whose whole score is too low to be among them are left
        out without a part score (`caft.model.search`), and how many were not is logged.

        Args:
            query: One caption, or what `encode_captions` gave for one.
            images: Pictures, what `encode_images` gave, or features on disk (`caft.model.gallery.read_gallery`), whose order
                is that of the scores of what is stored.
            k: How many, from 1.
            part_weight: As in `similarity`.

        >>> [match.image for match in model.retrieve("A cat.", ["photo.jpg"], k=5)]
        [0]
        """
        k, weight = arguments.whole_number(k, "k"), arguments.share(part_weight, "part_weight")
        query = self.encode_captions(query)
        if len(query.whole) != 1:
            raise ArgumentError(f"expected one query, found {len(query.whole)}; call retrieve for each of them")
        pictures = images if isinstance(images, StoredImages) else self.encode_images(images)
        if weight > 0 and pictures.part is not None and query.parts is not None:
            if len(pictures.whole) >= max(search.LEAST, 4 * k):
                _require_one_size(pictures, query)
                features = (pictures.whole, pictures.part, query.whole, query.parts)
                slack = HALF if isinstance(pictures, StoredImages) else 0.0
                best, found, _ = search.best_images(self.network, *features, k, weight, slack)
                return [Match(*pair) for pair in zip(best.tolist(), found.tolist(), strict=True)]
        tiles = pictures.tiles(part=weight > 0) if isinstance(pictures, StoredImages) else [pictures]
        scores = torch.cat([self.similarity(tile, query, weight)[:, 0] for tile in tiles])
        order = scores.argsort(descending=True, stable=True)[:k].tolist()
        return [Match(image, float(scores[image])) for image in order]

    def sentences(self, text: str) -> list[str]:
        """Sentences of a text that have a word, as the model reads them.

        >>> model.sentences("A cat on a mat.\\nIt sleeps.")
        ['A cat on a mat', 'It sleeps']
        """
        if len(given := arguments.texts(text)) != 1:
            raise ArgumentError(f"expected one text, found {len(given)}; call sentences for each of them")
        return encoding.sentences(given[0], self.card)

    def ground(
        self, image: Picture, text: str | Iterable[str], size: tuple[int, int] | None = None
    ) -> NDArray[np.float32]:
        """Where each sentence looks in a picture: a map of the picture's height and width for each, (S, H, W).

        Args:
            image: One picture; it is squashed, so that every pixel is seen.
            text: A text, whose sentences are asked one by one; or several texts, asked as they are. Each needs words.
            size: Height and width of the maps in place of the picture's, each from 1: those of a large photograph fill
                the memory.

        A map says where, not whether: a sentence that is not true of the picture has one too; see `match`.

        >>> maps = model.ground("photo.jpg", "A cat. It sleeps.")
        >>> maps.shape, maps.dtype
        ((2, 40, 60), dtype('float32'))
        """
        size = None if size is None else arguments.map_size(size)
        return maps.ground(self.network, open_picture(arguments.one_picture(image)), self._asked(text), size=size)

    def match(
        self, image: Picture, text: str | Iterable[str], references: str | Iterable[str] | None = None
    ) -> list[SentenceMatch]:
        """How well each sentence fits a picture, as probability and as percentile among reference sentences.

        Args:
            image: One picture; it is squashed, so that every pixel is seen.
            text: As in `ground`.
            references: Sentences to rank among for the same picture, given as `text` is; None takes those of the card,
                and if it has none a short list of general sentences.

        >>> [(match.text, 0 < match.probability < 1, match.percentile <= 100) for match in model.match("photo.jpg", "A cat.")]
        [('A cat', True, True)]
        """
        among: Sequence[str] = self.card.references or GENERAL_SENTENCES
        if references is not None:
            among = self._asked(references, "reference")
        return match_texts(self.network, open_picture(arguments.one_picture(image)), self._asked(text), among)

    def look(
        self,
        image: Picture,
        text: str | Iterable[str],
        references: str | Iterable[str] | None = None,
        size: tuple[int, int] | None = None,
    ) -> tuple[list[SentenceMatch], NDArray[np.float32]]:
        """What `match` and `ground` give for the same sentences, with the picture encoded once.

        >>> matches, maps = model.look("photo.jpg", "A cat. It sleeps.", size=(20, 30))
        >>> [match.text for match in matches], maps.shape
        (['A cat', 'It sleeps'], (2, 20, 30))
        """
        among: Sequence[str] = self.card.references or GENERAL_SENTENCES
        if references is not None:
            among = self._asked(references, "reference")
        size = None if size is None else arguments.map_size(size)
        opened = open_picture(arguments.one_picture(image))
        return look(self.network, opened, self._asked(text), among, size or opened.size[::-1])

    def _asked(self, text: str | Iterable[str], name: str = "text") -> list[str]:
        """The sentences of a text, or several texts, each of which needs words."""
        if isinstance(text, str):
            return self.sentences(text)
        if not (texts := arguments.texts(text, name)):
            raise DataError(f"no {name}s were given; give at least one")
        for number, asked in enumerate(texts):
            try:
                require_words(asked)
            except DataError as error:
                raise DataError(f"{name} {number}: {error}") from None
        return texts

    def segment(self, image: Picture) -> list[NDArray[np.integer]]:
        """Superpixels of a picture and their groups, fine to coarse: nested label maps at the picture's size, (H, W).

        >>> [int(labels.max()) < count for labels, count in zip(model.segment("photo.jpg"), (64, 32, 16, 8))]
        [True, True, True, True]
        """
        opened = open_picture(arguments.one_picture(image))
        return [nearest_pixels(labels, opened.height, opened.width) for labels in maps.label_maps(self.network, opened)]


def _require_one_size(pictures: EncodedImages | StoredImages, captions: EncodedCaptions) -> None:
    if (size := pictures.whole.shape[1]) != (other := captions.whole.shape[1]):
        raise ArgumentError(f"the pictures' features have {size} numbers and the captions' {other}: other models'")
