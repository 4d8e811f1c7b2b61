"""CAFT: an image hierarchy and a text hierarchy, aligned at the part level and at the whole level."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caft.grounding import TextConditionedPool
from caft.params import Membership, ModelParams
from caft.text.encoder import SubCaptionTransformer, WholeCaptionTransformer
from caft.vision.encoder import HierarchicalVisionEncoder, Hierarchy
from caft.vision.superpixels import SFCN, hard_labels

# OpenAI's image statistics, as open_clip and FLAIR.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ImageFeatures:
    """An image as the scores see it.

    Attributes:
        whole: Whole-level features of unit norm, (B, D).
        part: Part-level segments, not normalised, (B, N, D).
        labels: Superpixel of each pixel, (B, S, S), int64.
        assignments: Share of each token of a stage in each group of the next, (B, N_s, N_{s+1}); rows sum to one.
    """

    whole: Tensor
    part: Tensor
    labels: Tensor
    assignments: list[Tensor]


class CAFT(nn.Module):
    """Both towers, the text-conditioned pooling and the temperatures.

    Args:
        config: Sizes, one entry of the table `models`.
        chunks: Sub-captions of a long caption, M.
        scale_start: Start of both scales, exponentiated: 1 / 0.07 in the paper.
        bias_start: Start of both biases.
    """

    def __init__(
        self, config: ModelParams, chunks: int = 4, scale_start: float = 1 / 0.07, bias_start: float = -10.0
    ) -> None:
        super().__init__()
        self.config = config
        self.card: dict[str, Any] = {}
        width, embed, text = config.width, config.embed_dim, config.text
        self.superpixels = SFCN(config.superpixels.widths).requires_grad_(False).eval()
        self.vision = HierarchicalVisionEncoder(
            config.image_size,
            config.stem.channels,
            config.stem.strides,
            width,
            config.heads,
            config.mlp_ratio,
            config.tokens,
            config.blocks,
            config.pool_dropout,
        )
        self.part_norm = nn.LayerNorm(width, eps=1e-6)
        self.part_projection = _projection(width, embed)
        self.whole_norm = nn.LayerNorm(width, eps=1e-6)
        self.whole_projection = _projection(width, embed)
        self.sub_caption = SubCaptionTransformer(text.vocabulary, text.context, text.width, text.heads, text.sub_layers)
        self.sub_caption_projection = _projection(text.width, embed)
        self.whole_caption = WholeCaptionTransformer(chunks, text.width, text.heads, text.whole_layers, text.adapter)
        self.whole_caption_projection = _projection(text.width, embed)
        self.pool = TextConditionedPool(embed, config.grounding.heads, config.grounding.start == "identity")
        log_scale = torch.tensor(scale_start).log()
        self.part_log_scale = nn.Parameter(log_scale.clone())
        self.whole_log_scale = nn.Parameter(log_scale.clone())
        self.part_bias = nn.Parameter(torch.tensor(bias_start))
        self.whole_bias = nn.Parameter(torch.tensor(bias_start))

    def train(self, mode: bool = True) -> "CAFT":
        """As `nn.Module.train`, but the frozen superpixel network stays in evaluation mode."""
        super().train(mode)
        self.superpixels.eval()
        return self

    @property
    def part_scale(self) -> float:
        """Factor of the part level's cosines."""
        return float(self.part_log_scale.detach().exp())

    @property
    def whole_scale(self) -> float:
        """Factor of the whole level's cosines."""
        return float(self.whole_log_scale.detach().exp())

    # ------------------------------------------------------------------ images

    @torch.no_grad()
    def superpixel_labels(self, pixels: Tensor) -> Tensor:
        """Superpixel of each pixel, always in float32: images uint8 (B, 3, S, S) to ids (B, S, S), int64."""
        with torch.autocast(pixels.device.type, enabled=False):
            prob = self.superpixels(pixels.float() / 255)
        return hard_labels(prob, self.config.superpixels.cell)

    def encode_hierarchy(self, pixels: Tensor, labels: Tensor) -> Hierarchy:
        """Every stage's tokens of images uint8 (B, 3, S, S) with superpixels (B, S, S)."""
        mean = torch.tensor(_MEAN, device=pixels.device)[:, None, None]
        std = torch.tensor(_STD, device=pixels.device)[:, None, None]
        hierarchy: Hierarchy = self.vision((pixels.float() / 255 - mean) / std, labels)
        return hierarchy

    def project_part(self, tokens: Tensor) -> Tensor:
        """Part-level norm and projection, (..., W) to (..., D)."""
        return self.part_projection(self.part_norm(tokens))

    def project_whole(self, cls: Tensor) -> Tensor:
        """Whole-level norm and projection, (B, W) to (B, D)."""
        return self.whole_projection(self.whole_norm(cls))

    @torch.no_grad()
    def image_features(self, pixels: Tensor) -> ImageFeatures:
        """Features of images, uint8 (B, 3, S, S) of the model's size."""
        labels = self.superpixel_labels(pixels)
        hierarchy = self.encode_hierarchy(pixels, labels)
        return ImageFeatures(
            whole=F.normalize(self.project_whole(hierarchy.cls).float(), dim=-1),
            part=self.project_part(hierarchy.stages[self.config.part_stage - 1]),
            labels=labels,
            assignments=[logits.softmax(2) for logits in hierarchy.logits],
        )

    # ------------------------------------------------------------------ texts

    def encode_captions(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Whole and sub-caption features, not normalised: ids (Q, C, L) to (Q, D) and (Q, C, D)."""
        features = self.sub_caption(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])  # (Q, C, W)
        return self.whole_caption_projection(self.whole_caption(features)), self.sub_caption_projection(features)

    @torch.no_grad()
    def text_features(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Features of long captions: ids (Q, C, L) to whole (Q, D), of unit norm, and parts (Q, C, D), raw."""
        whole, parts = self.encode_captions(tokens)
        return F.normalize(whole.float(), dim=-1), parts

    @torch.no_grad()
    def sub_caption_features(self, tokens: Tensor) -> Tensor:
        """Features of single texts, not normalised: ids (T, L) to (T, D)."""
        return self.sub_caption_projection(self.sub_caption(tokens))

    # ------------------------------------------------------------------ scores

    @torch.no_grad()
    def whole_logits(self, images: Tensor, texts: Tensor) -> Tensor:
        """Whole-level logits of features of unit norm: (B, D) and (Q, D) to (B, Q)."""
        return self.whole_log_scale.exp() * images @ texts.T + self.whole_bias

    @torch.no_grad()
    def part_logits(self, part: Tensor, texts: Tensor) -> Tensor:
        """Part-level logits of every image asked by every text: (B, N, D) and (T, D) to (B, T)."""
        pooled, _ = self.pool(texts.expand(len(part), -1, -1), part)
        return self._part_logit(pooled, texts)

    @torch.no_grad()
    def box_logits(self, images: ImageFeatures, weights: Tensor, texts: Tensor) -> Tensor:
        """Part-level logits of a region of each image.

        Args:
            images: Features, B images.
            weights: Share of each part-level segment that lies in the region, (B, N); zero shuts it out.
            texts: Texts asked of each region, (B, Q, D).

        Returns:
            Logits (B, Q).
        """
        pooled, _ = self.pool(texts, images.part, weights.log())
        return self._part_logit(pooled, texts)

    def _part_logit(self, pooled: Tensor, texts: Tensor) -> Tensor:
        cosines = F.cosine_similarity(pooled.float(), texts.float(), dim=-1)
        return self.part_log_scale.exp() * cosines + self.part_bias

    @torch.no_grad()
    def attention(self, part: Tensor, texts: Tensor) -> Tensor:
        """Where texts look: (B, N, D) and (B, Q, D) to (B, Q, N), mean over heads, empty slot dropped."""
        _, attention = self.pool(texts, part)
        return attention[..., :-1].mean(1)

    # ------------------------------------------------------------------ maps

    def segment_weights(self, images: ImageFeatures, membership: Membership = "hard") -> Tensor:
        """Share of each superpixel in each part-level segment, the product of the assignments up to that stage.

        Args:
            images: Features, B images.
            membership: "hard" takes every token as a member of its best group, as CAST does for its maps; "soft"
                takes the assignments as they are.

        Returns:
            Shares (B, N_1, N); rows sum to one.
        """
        superpixels = self.config.tokens[0]
        weights = torch.eye(superpixels, device=images.part.device).expand(len(images.part), -1, -1)
        for assignment in images.assignments[: self.config.part_stage - 1]:
            if membership == "hard":
                assignment = F.one_hot(assignment.argmax(2), assignment.shape[2])
            weights = weights @ assignment.float()
        return weights

    def segment_to_pixels(self, values: Tensor, images: ImageFeatures, membership: Membership = "hard") -> Tensor:
        """Spreads values of part-level segments over pixels: (B, Q, N) to (B, Q, S, S)."""
        on_superpixels = values @ self.segment_weights(images, membership).transpose(1, 2)  # (B, Q, N_1)
        flat = images.labels.flatten(1)[:, None].expand(-1, values.shape[1], -1)
        return on_superpixels.gather(2, flat).unflatten(2, images.labels.shape[1:])

    def segments(self, images: ImageFeatures) -> list[Tensor]:
        """Nested label maps after each pooling, fine to coarse, each (B, S, S); every token goes to its best group."""
        maps = []
        labels = images.labels.flatten(1)
        for assignment in images.assignments:
            labels = assignment.argmax(2).gather(1, labels)
            maps.append(labels.unflatten(1, images.labels.shape[1:]))
        return maps


def _projection(width: int, embed: int) -> nn.Linear:
    """A projection without bias, started as CLIP's."""
    linear = nn.Linear(width, embed, bias=False)
    nn.init.normal_(linear.weight, std=width**-0.5)
    return linear
