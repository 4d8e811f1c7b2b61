"""Model and losses as the one module that DDP wraps."""

import math

import torch
from torch import Tensor, nn

from caft.loss.hierarchical import Features, Temperature, hierarchical_loss
from caft.model import CAFT
from caft.params import RecipeParams


class TrainingTask(nn.Module):
    """From a batch to its loss terms; everything that has a gradient is used inside `forward`.

    Args:
        model: The model to train.
        recipe: Weights of the terms and how negatives are drawn.
        seed: Seed of the sampled negatives.
    """

    def __init__(self, model: CAFT, recipe: RecipeParams, seed: int) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.seed = seed

    def forward(self, images: Tensor, labels: Tensor, tokens: Tensor, step: int) -> dict[str, Tensor]:
        """Loss terms of this rank.

        Args:
            images: uint8 (B, 3, S, S).
            labels: Superpixels, (B, S, S).
            tokens: Ids of the sub-captions, (B, K, L); the first M are one long caption.
            step: Step of the optimizer.

        Returns:
            `loss` and its terms, scalars.
        """
        model, chunks = self.model, self.recipe.chunks
        texts = model.sub_caption(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])  # (B, K, W)
        hierarchy = model.encode_hierarchy(images, labels)
        stage = model.config.part_stage - 1
        features = Features(
            part=model.project_part(hierarchy.stages[stage]),
            part_cls=model.project_part(hierarchy.stage_cls[stage]),
            whole=model.project_whole(hierarchy.cls),
            sub_captions=model.sub_caption_projection(texts.flatten(0, 1)),
            captions=model.whole_caption_projection(model.whole_caption(texts[:, :chunks])),
        )
        return hierarchical_loss(
            features,
            model.pool,
            Temperature(model.part_log_scale.exp(), model.part_bias),
            Temperature(model.whole_log_scale.exp(), model.whole_bias),
            weights=self.recipe.loss.model_dump(),
            negatives=self.recipe.negatives,
            seed=self.seed,
            step=step,
        )

    @torch.no_grad()
    def clamp_scales(self) -> None:
        """Keeps both log scales between 0 and their caps; called after each step of the optimizer."""
        self.model.part_log_scale.clamp_(0, math.log(self.recipe.part_scale_max))
        self.model.whole_log_scale.clamp_(0, math.log(self.recipe.whole_scale_max))
