"""Model and losses as the one module that DDP wraps."""

import math

import torch
from torch import Tensor, nn

from caft.loss.hierarchical import Features, Temperature, hierarchical_loss
from caft.model import CAFT, Level
from caft.params import RecipeParams


class TrainingTask(nn.Module):
    """From a batch to its loss terms; everything that has a gradient is used inside `forward`.

    Args:
        model: The model to train.
        recipe: Weights and form of the terms, and how negatives are drawn.
        seed: Seed of the sampled negatives.
    """

    def __init__(self, model: CAFT, recipe: RecipeParams, seed: int) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.seed = seed
        if recipe.loss.form == "softmax":  # no bias changes it, so none gets a gradient
            for _, bias in model.temperatures.values():
                bias.requires_grad_(False)

    def forward(self, images: Tensor, labels: Tensor, tokens: Tensor, step: int) -> dict[str, Tensor]:
        """Loss terms of this rank.

        Args:
            images: uint8 (B, 3, S, S).
            labels: Those of `CAFT.superpixel_labels`.
            tokens: Ids of the sub-captions, (B, K, L); the first M are one long caption.
            step: Step of the optimizer.

        Returns:
            `loss` and its terms, scalars.
        """
        model, recipe, weights = self.model, self.recipe, self.recipe.loss.weights
        if not model.has_part:
            tokens = tokens[:, : recipe.chunks]  # no term compares the others
        texts = model.sub_caption(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])  # (B, K, W)
        hierarchy = model.encode_hierarchy(images, labels)
        stage = model.config.part_stage - 1
        features = Features(
            part=model.project_part(hierarchy.stages[stage]) if weights["part"] else None,
            part_cls=model.project_part(hierarchy.stage_cls[stage]) if weights["part_cls"] else None,
            whole=model.project_whole(hierarchy.cls) if weights["whole"] else None,
            sub_captions=model.project_sub_captions(texts.flatten(0, 1)) if model.has_part else None,
            captions=model.combine(texts[:, : recipe.chunks]) if weights["whole"] else None,
        )
        return hierarchical_loss(
            features,
            model.pool,
            self._temperature("part") if model.has_part else None,
            self._temperature("whole"),
            weights=weights,
            negatives=recipe.negatives,
            seed=self.seed,
            step=step,
            form=recipe.loss.form,
        )

    def _temperature(self, level: Level) -> Temperature:
        log_scale, bias = self.model.temperature(level)
        return Temperature(log_scale.exp(), bias)

    @torch.no_grad()
    def clamp_scales(self) -> None:
        """Keeps the log scales between 0 and their caps; called after each step of the optimizer."""
        caps = {"part": self.recipe.part_scale_max, "whole": self.recipe.whole_scale_max}
        for level, (log_scale, _) in self.model.temperatures.items():
            log_scale.clamp_(0, math.log(caps[level]))
