"""The image tower that a model's sizes describe."""

from caft.params import ModelParams
from caft.vision.encoder import HierarchicalVisionEncoder
from caft.vision.flat import FlatVisionEncoder
from caft.vision.superpixels import SFCN


def superpixel_network(config: ModelParams) -> SFCN | None:
    """The frozen superpixel network of a hierarchical tower; a flat one has none."""
    if config.superpixels is None:
        return None
    return SFCN(config.superpixels.widths).requires_grad_(False).eval()


def image_tower(config: ModelParams) -> HierarchicalVisionEncoder | FlatVisionEncoder:
    """The encoder of images; both kinds map normalised images and labels to a `Hierarchy`."""
    if config.patch is not None:
        return FlatVisionEncoder(
            config.image_size, config.patch, config.width, config.heads, config.mlp_ratio, config.blocks[0]
        )
    assert config.stem is not None and config.pool_dropout is not None
    return HierarchicalVisionEncoder(
        config.image_size,
        config.stem.channels,
        config.stem.strides,
        config.width,
        config.heads,
        config.mlp_ratio,
        config.tokens,
        config.blocks,
        config.pool_dropout,
    )
