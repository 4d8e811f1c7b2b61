"""A model behind the interface that other tools know: open_clip's conventions, and a loader for CLIP_benchmark.

Both compare one feature of an image with one of a text, so they see the whole level alone: `similarity` of a model with
part_weight 0. A part score needs image and text together, which their interface has no place for.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from caft.model.arguments import open_picture
from caft.model.card import ModelCard
from caft.model.encoding import token_rows
from caft.model.model import Model
from caft.transforms import center_crop
from caft.weights.files import read_card
from caft.weights.load import load

Transform = Callable[[Any], Tensor]


class OpenClipModel(nn.Module):
    """A CAFT model that is called as open_clip's; the network is shared, not copied."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network, self.card = model.network, model.card

    @property
    def logit_scale(self) -> Tensor:
        """Log scale of the whole level's cosines."""
        return self.network.temperature("whole")[0]

    @property
    def logit_bias(self) -> Tensor:
        """Bias of the whole level's logits."""
        return self.network.temperature("whole")[1]

    @torch.no_grad()
    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Whole features of images.

        Args:
            image: What the transform gives, uint8 (B, 3, S, S), on the model's device. The model normalises by itself.
            normalize: As open_clip's; the features have unit norm with it or without.

        Returns:
            Features (B, D), float32.

        Raises:
            ValueError: Images of another size or kind.
        """
        size = self.network.image_size
        if image.dtype != torch.uint8 or image.shape[1:] != (3, size, size):
            raise ValueError(
                f"expected images as the transform gives them, uint8 (B, 3, {size}, {size}); found {image.dtype} "
                f"{tuple(image.shape)}"
            )
        return self.network.image_features(image).whole

    @torch.no_grad()
    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        """Whole features of texts.

        Args:
            text: What the tokenizer gives, ids (Q, C, L): a text has several sub-captions.
            normalize: As open_clip's; the features have unit norm with it or without.

        Returns:
            Features (Q, D), float32.

        Raises:
            ValueError: Ids of another shape, as of another tokenizer.
        """
        if text.dim() != 3:
            raise ValueError(
                f"expected ids as get_tokenizer's give them, (texts, sub-captions, {self.network.context}); "
                f"found shape {tuple(text.shape)}"
            )
        return self.network.text_features(text)[0]


class CaptionTokenizer:
    """Turns texts into ids (Q, C, L), each split and grouped into C sub-captions as a model's card says.

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
    pretrained: str | Path, device: str | torch.device = "cpu"
) -> tuple[OpenClipModel, Transform, Transform]:
    """As open_clip's, for a file: the model, and the transform of pictures twice, since none is for training.

    Raises:
        CheckpointError: The file is not a model.
    """
    model = load(pretrained).to(device)
    size = model.network.image_size

    def transform(picture: Any) -> Tensor:
        return center_crop(open_picture(picture), size)

    return OpenClipModel(model).eval(), transform, transform


def get_tokenizer(pretrained: str | Path) -> CaptionTokenizer:
    """As open_clip's, for a `.safetensors` file, of which only the card is read.

    Raises:
        CheckpointError: There is no card.
    """
    card = read_card(Path(pretrained))
    return CaptionTokenizer(card, card.sizes.text.context)


def load_clip_benchmark(
    model_name: str, pretrained: str, cache_dir: str | None = None, device: str | torch.device = "cpu"
) -> tuple[OpenClipModel, Transform, CaptionTokenizer]:
    """A loader for CLIP_benchmark's table of model types: model, transform and tokenizer of a weights file.

    `model_name` is not used, since the file says what it is; nor `cache_dir`, since nothing is downloaded.
    """
    model, _, transform = create_model_and_transforms(pretrained, device)
    return model, transform, CaptionTokenizer(model.card, model.network.context)
