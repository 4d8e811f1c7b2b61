"""What a user calls on a model: pictures and texts in, features, scores, maps and segments out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from caft.model import maps as inference
from caft.model.maps import EncodedCaptions, EncodedImages, Match, Picture

if TYPE_CHECKING:
    from caft.network.caft import CAFT

# What takes pictures or captions also takes them encoded, by `encode`; both levels of a model are in that.
Images = Picture | Sequence[Picture] | EncodedImages
Texts = str | Sequence[str] | EncodedCaptions


class Interface:
    """Methods of `caft.CAFT`.

    A picture is a path, the bytes of a file, a Pillow image or a tensor (3, H, W), uint8 or floats in [0, 1], of any
    size; several are a list, or a tensor (B, 3, H, W). Pictures are turned upright, transparent parts are white, of an
    animation the first frame is taken. A text may be of any length: it is split into sentences and chunks as the
    model's card says. One item is a batch of one. Results are on the CPU, whatever the model's device.

    The examples' model has random weights and the sizes `tiny` of params.yaml: image 64, embedding 64.

    Raises:
        DataError: Of every method: a picture cannot be decoded, a text has no sentence, or there is none.
    """

    @property
    def _model(self) -> "CAFT":
        return cast("CAFT", self)

    def encode_image(self, images: Images, batch: int = 64) -> Tensor:
        """Whole-level features of pictures, of unit norm, (B, D).

        >>> model.encode_image("photo.jpg").shape
        torch.Size([1, 64])
        """
        return self.encode_images(images, batch).whole

    def encode_text(self, texts: Texts, batch: int = 64) -> Tensor:
        """Whole-level features of captions, of unit norm, (Q, D).

        >>> model.encode_text(["A cat.", "A dog on a mat. It sleeps. The mat is red."]).shape
        torch.Size([2, 64])
        """
        return self.encode_texts(texts, batch).whole

    def encode_images(self, images: Images, batch: int = 64) -> EncodedImages:
        """Features of both levels, to be kept where the same pictures are scored again.

        >>> encoded = model.encode_images(["photo.jpg", "photo.jpg"])
        >>> encoded.whole.shape, encoded.part.shape
        (torch.Size([2, 64]), torch.Size([2, 32, 64]))
        """
        if isinstance(images, EncodedImages):
            return images
        return inference.encode_images(self._model, inference.several(images), batch)

    def encode_texts(self, texts: Texts, batch: int = 64) -> EncodedCaptions:
        """Features of both levels, to be kept where the same captions are scored again.

        >>> model.encode_texts("A cat. It sleeps.").parts.shape  # four chunks
        torch.Size([1, 4, 64])
        """
        if isinstance(texts, EncodedCaptions):
            return texts
        return inference.encode_captions(self._model, [texts] if isinstance(texts, str) else texts, batch)

    def similarity(self, images: Images, texts: Texts, part_weight: float = 0.3) -> Tensor:
        """Scores of every picture with every caption, (B, Q): CAFT++ (Eq. 10), logits without biases.

        Args:
            images: Pictures, or what `encode_images` gave.
            texts: Captions, or what `encode_texts` gave.
            part_weight: Of the part level, in [0, 1]; 0 is the whole level alone, which a model without parts needs.

        >>> model.similarity("photo.jpg", ["A cat.", "A dog."]).shape
        torch.Size([1, 2])
        """
        return inference.similarity(self._model, self.encode_images(images), self.encode_texts(texts), part_weight)

    def retrieve(self, query: str, images: Images, k: int = 5, part_weight: float = 0.3) -> list[Match]:
        """The k pictures that fit a long description best, best first, with their scores.

        >>> [match.image for match in model.retrieve("A cat.", ["photo.jpg"], k=5)]
        [0]
        """
        return inference.best(self.similarity(images, query, part_weight)[:, 0], k)

    def sentences(self, text: str) -> list[str]:
        """Sentences of a text, as the model reads it.

        >>> model.sentences("A cat on a mat.\\nIt sleeps.")
        ['A cat on a mat', 'It sleeps']
        """
        return inference.sentences(self._model, text)

    def ground(self, image: Picture, text: str | Sequence[str]) -> NDArray[np.float32]:
        """Where each sentence looks in a picture: a map of the picture's height and width for each, (S, H, W).

        Args:
            image: One picture.
            text: A text, of which each sentence asks; or texts that ask as they are.

        >>> maps = model.ground("photo.jpg", "A cat. It sleeps.")
        >>> maps.shape, maps.dtype
        ((2, 40, 60), dtype('float32'))
        """
        texts = self.sentences(text) if isinstance(text, str) else list(text)
        return inference.ground(self._model, inference.open_picture(image), texts)

    def segment(self, image: Picture) -> list[NDArray[np.integer]]:
        """Superpixels of a picture and their groups, fine to coarse: nested label maps at the picture's size, (H, W).

        >>> [int(labels.max()) < count for labels, count in zip(model.segment("photo.jpg"), (64, 32, 16, 8))]
        [True, True, True, True]
        """
        opened = inference.open_picture(image)
        return [
            inference.stretched(labels, opened.height, opened.width)
            for labels in inference.label_maps(self._model, opened)
        ]
