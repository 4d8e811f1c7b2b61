"""A model behind the interface that other tools know: open_clip's conventions, and a loader for CLIP_benchmark.

Both compare one feature of an image with one of a text, so they see the whole level alone: `similarity` of a model with
part_weight 0. A part score needs image and text together, which their interface has no place for.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caft.adapters.open_clip_baseline import MEAN, STD
from caft.errors import ArgumentError
from caft.model.arguments import Picture, open_picture
from caft.model.card import ModelCard
from caft.model.encoding import token_rows
from caft.model.model import Model
from caft.transforms import center_crop
from caft.weights.files import read_card
from caft.weights.hub import local
from caft.weights.load import load

# A value that open_clip's transform gives lies this near to a whole level of 255 in float32 and in float16.
_NEAR = {torch.float64: 0.01, torch.float32: 0.01, torch.float16: 0.12}


class OpenClipModel(nn.Module):
    """A CAFT model that is called as open_clip's; the network is shared, not copied.

    Args:
        model: The model.
        output_dict: As open_clip's: whether `forward` returns a dictionary, which its evaluation during training needs.
    """

    def __init__(self, model: Model, output_dict: bool = False) -> None:
        super().__init__()
        self.network, self.card, self.output_dict = model.network, model.card, output_dict

    def forward(self, image: Tensor | None = None, text: Tensor | None = None) -> Any:
        """Features of images, of texts, or both, as open_clip's models give them; None for what is not given.

        Returns:
            Features (B, D) and (Q, D), the whole level's scale (not its logarithm), and its bias; with `output_dict` by
            the names `image_features`, `text_features`, `logit_scale` and `logit_bias`.

        Raises:
            ArgumentError: As `encode_image` and `encode_text`.
        """
        found = {
            "image_features": None if image is None else self.encode_image(image),
            "text_features": None if text is None else self.encode_text(text),
            "logit_scale": self.logit_scale.exp(),
            "logit_bias": self.logit_bias,
        }
        return found if self.output_dict else tuple(found.values())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "OpenClipModel":
        """What `half`, `to` and the like call: refuses other precisions before the weights are rounded to them."""
        if (kind := fn(torch.zeros(1)).dtype) is not torch.float32:
            raise ArgumentError(
                f"the weights cannot be {kind}: superpixels and scores need float32. Leave the model as it is, and for "
                "speed run it under torch.autocast (open_clip's precision amp or amp_bf16)"
            )
        super()._apply(fn, recurse)
        return self

    @property
    def logit_scale(self) -> Tensor:
        """Log scale of the whole level's cosines."""
        return self.network.temperature("whole")[0]

    @property
    def logit_bias(self) -> Tensor:
        """Bias of the whole level's logits."""
        return self.network.temperature("whole")[1]

    @torch.no_grad()
    def encode_image(self, image: Tensor | NDArray[Any], normalize: bool = False) -> Tensor:
        """Whole features of images.

        Args:
            image: (B, 3, S, S), on the model's device: what the transform gives, uint8, or the same numbers as floats;
                or what open_clip's own transform gives, floats normalised by its default mean and deviation.
            normalize: As open_clip's; the features have unit norm with it or without.

        Returns:
            Features (B, D), float32.

        Raises:
            ArgumentError: Images of another size or kind.
        """
        given = torch.from_numpy(image) if isinstance(image, np.ndarray) else image
        size = self.network.image_size
        if given.shape[1:] != (3, size, size):
            raise ArgumentError(
                f"expected images as the transform gives them, (B, 3, {size}, {size}); found {given.dtype} "
                f"{tuple(given.shape)}; the transform is the second of what create_model_and_transforms returns"
            )
        return self.network.image_features(_pixels(given).to(self.network.device)).whole

    @torch.no_grad()
    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        """Whole features of texts.

        Args:
            text: What the tokenizer gives, ids (Q, C, L): a text has several sub-captions.
            normalize: As open_clip's; the features have unit norm with it or without.

        Returns:
            Features (Q, D), float32.

        Raises:
            ArgumentError: Ids of another shape, as of another tokenizer.
        """
        if text.dim() != 3:
            raise ArgumentError(
                f"expected ids as get_tokenizer's give them, (texts, sub-captions, {self.network.context}); "
                f"found shape {tuple(text.shape)}; take get_tokenizer of caft.adapters.open_clip in place of open_clip's"
            )
        return self.network.text_features(text)[0]


def _pixels(images: Tensor) -> Tensor:
    """Levels uint8 of images uint8, of whole numbers from 0 to 255 in floats, or of floats that are normalised.

    `images.to(dtype=...)`, as open_clip's evaluation has it, keeps levels whole numbers in every kind of float. Normalised
    ones are not whole, and give back the levels that they came from.
    """
    if images.dtype == torch.uint8:
        return images
    if images.is_floating_point():
        values = images.detach().double()
        if _are_levels(values):
            return values.to(torch.uint8)
        mean, std = (values.new_tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
        levels = (values * std + mean) * 255
        near = _NEAR.get(images.dtype, 0.0)
        if bool(((levels - levels.round()).abs() <= near).all()) and _are_levels(levels.round(), least=0):
            return levels.round().to(torch.uint8)
    found = (
        f"{images.dtype} from {images.min().item():g} to {images.max().item():g}" if images.numel() else images.dtype
    )
    raise ArgumentError(
        "expected images as the transform gives them, uint8 from 0 to 255 (or these numbers as floats), or as open_clip's "
        "transform with its default mean and std, float32; found "
        f"{found}; take the transform of create_model_and_transforms, or normalise by those numbers in float32"
    )


def _are_levels(values: Tensor, least: int = 2) -> bool:
    """Whether all are whole numbers from 0 to 255.

    Of nothing but 0 and 1 nobody can say whether 1 is black or white, so the largest must be `least`, or all be 0.
    """
    return bool(((values == values.round()) & (values >= 0) & (values <= 255)).all()) and (
        not values.numel() or values.max().item() >= least or not values.any()
    )


class PictureTransform:
    """What a picture of any kind that the library takes becomes: its middle, uint8 (3, S, S).

    An object of a class, not a function within one, so that loaders' processes can be started afresh (spawned), as on
    macOS and Windows.

    Args:
        size: Side of the images that the model takes, S.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, picture: Picture) -> Tensor:
        """The pixels, uint8 (3, S, S).

        Raises:
            DataError: The picture cannot be decoded.
            ArgumentError: It is none; see `caft.model.arguments.Picture`.
        """
        return center_crop(open_picture(picture), self.size)


class CaptionTokenizer:
    """Turns texts into ids (Q, C, L), each split and grouped into C sub-captions as a model's card says.

    A prompt of zero-shot classes is such a text too. Where the splitter cuts at full stops (DreamLIP's), it loses its own,
    and "St. Bernard" is cut, unlike in `caft.eval.scores.zero_shot`; spaCy's leaves both.

    Args:
        card: The model's card.
        context: Tokens of a sub-caption, L; longer ones are cut.
    """

    def __init__(self, card: ModelCard, context: int) -> None:
        self.card, self.context_length = card, context

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        """Ids (Q, C, L), int64.

        Raises:
            DataError: A text has no sentence.
        """
        several = [texts] if isinstance(texts, str) else texts
        return token_rows(self.card, several, context_length or self.context_length)[0]


def create_model_and_transforms(
    pretrained: str | Path, device: str | torch.device = "cpu", output_dict: bool = False
) -> tuple[OpenClipModel, PictureTransform, PictureTransform]:
    """As open_clip's, for a file or a hub's name: the model, and the transform of pictures twice, since none is for training.

    `output_dict` is as in `OpenClipModel`.

    Raises:
        CheckpointError: The file is not a model.
    """
    model = load(pretrained).to(device)
    transform = PictureTransform(model.network.image_size)
    return OpenClipModel(model, output_dict).eval(), transform, transform


def get_tokenizer(pretrained: str | Path) -> CaptionTokenizer:
    """As open_clip's, for a `.safetensors` file or a hub's name of one; only the card is read.

    Raises:
        CheckpointError: There is no card.
    """
    card = read_card(local(pretrained))
    return CaptionTokenizer(card, card.sizes.text.context)


def load_clip_benchmark(
    model_name: str, pretrained: str, cache_dir: str | None = None, device: str | torch.device = "cpu"
) -> tuple[OpenClipModel, PictureTransform, CaptionTokenizer]:
    """A loader for CLIP_benchmark's table of model types: model, transform and tokenizer of a weights file or a hub's name.

    `model_name` is not used, since the file says what it is; nor `cache_dir`: the hub's client has its own.
    """
    model, _, transform = create_model_and_transforms(pretrained, device)
    return model, transform, CaptionTokenizer(model.card, model.network.context)
