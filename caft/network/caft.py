"""The network CAFT: an image hierarchy and a text hierarchy, aligned at the part level and at the whole level.

It maps tensors to tensors; `caft.model.model.Model` adds what a user's pictures and captions need. The baselines and the
ablations are the same class with a flat tower, or without one of the levels, as their sizes say.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caft.network import gpu
from caft.network.text.encoder import SubCaptionTransformer, WholeCaptionTransformer
from caft.network.text_pool import TextConditionedPool
from caft.network.vision.encoder import HierarchicalVisionEncoder, Hierarchy
from caft.network.vision.flat import FlatVisionEncoder
from caft.network.vision.superpixels import SFCN, hard_labels
from caft.params.evaluation import Membership
from caft.params.models import ModelParams

Level = Literal["part", "whole"]

# OpenAI's image statistics, as open_clip and FLAIR.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ImageFeatures:
    """Features of images, and how their pixels belong to segments.

    Attributes:
        whole: Whole-level features of unit norm, (B, D).
        part: Part-level segments, not normalised, (B, N, D); None without a part level.
        labels: Superpixel of each pixel, (B, S, S), or patch at each place of a flat tower's grid, (B, h, w), int64.
        assignments: Share of each token of a stage in each group of the next, (B, N_s, N_{s+1}); rows sum to one.
    """

    whole: Tensor
    part: Tensor | None
    labels: Tensor
    assignments: list[Tensor]

    def split(self) -> "list[ImageFeatures]":
        """Takes the images of a batch apart, each B = 1."""
        return [
            ImageFeatures(
                whole=self.whole[i : i + 1],
                part=None if self.part is None else self.part[i : i + 1],
                labels=self.labels[i : i + 1],
                assignments=[assignment[i : i + 1] for assignment in self.assignments],
            )
            for i in range(len(self.whole))
        ]


class CAFT(nn.Module):
    """Both towers, the text-conditioned pooling and the temperatures.

    Modules that the sizes leave out are None: `superpixels` with a flat image tower, `whole_caption` with a flat text
    tower, all of the part level without grounding, and norm, projection and temperature of the whole level where both
    levels share those of the part level.

    Args:
        config: Sizes, one entry of the table `models`.
        chunks: Sub-captions of a long caption, M; a flat text tower takes one.
        scale_start: Start of the scales, exponentiated: 1 / 0.07 in the paper.
        bias_start: Start of the biases.
    """

    def __init__(
        self, config: ModelParams, chunks: int = 4, scale_start: float = 1 / 0.07, bias_start: float = -10.0
    ) -> None:
        super().__init__()
        self.config = config
        width, embed, text, grounding = config.width, config.embed_dim, config.text, config.grounding
        has_part, has_whole = grounding is not None, config.levels == "separate"
        self.superpixels: SFCN | None = None
        if config.superpixels is not None:
            network = SFCN(config.superpixels.widths).requires_grad_(False).eval()
            # Channels last takes a fifth off its time on a CPU and changes rounding alone.
            self.superpixels = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.vision: HierarchicalVisionEncoder | FlatVisionEncoder
        if config.patch is None:
            self.vision = HierarchicalVisionEncoder(config)
        else:
            sizes = config.image_size, config.patch, width, config.heads, config.mlp_ratio, config.blocks[0]
            self.vision = FlatVisionEncoder(*sizes)
        eps = self.vision.norm_eps
        # Also drawn where they are left out: with the same seed, the ablation's rows then start alike in what they share.
        part, whole = _projection(width, embed), _projection(width, embed)
        self.part_norm = nn.LayerNorm(width, eps=eps) if has_part else None
        self.part_projection = part if has_part else None
        self.whole_norm = nn.LayerNorm(width, eps=eps) if has_whole else None
        self.whole_projection = whole if has_whole else None
        self.sub_caption = SubCaptionTransformer(text.vocabulary, text.context, text.width, text.heads, text.sub_layers)
        sub_caption = _projection(text.width, embed)
        self.sub_caption_projection = sub_caption if has_part else None
        self.whole_caption: WholeCaptionTransformer | None = None
        if text.whole_layers is not None and text.adapter is not None:
            self.whole_caption = WholeCaptionTransformer(
                chunks, text.width, text.heads, text.whole_layers, text.adapter
            )
        # A flat text tower has one feature for both levels.
        has_caption = self.whole_caption is not None or not has_part
        self.whole_caption_projection = _projection(text.width, embed) if has_caption else None
        self.pool = TextConditionedPool(embed, grounding.heads, grounding.start == "identity") if grounding else None
        log_scale = torch.tensor(scale_start).log()
        self.part_log_scale = nn.Parameter(log_scale.clone()) if has_part else None
        self.whole_log_scale = nn.Parameter(log_scale.clone()) if has_whole else None
        self.part_bias = nn.Parameter(torch.tensor(bias_start)) if has_part else None
        self.whole_bias = nn.Parameter(torch.tensor(bias_start)) if has_whole else None

    def train(self, mode: bool = True) -> "CAFT":
        """As `nn.Module.train`, but the frozen superpixel network stays in evaluation mode."""
        super().train(mode)
        if self.superpixels is not None:
            self.superpixels.eval()
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.sub_caption.positions.device

    @property
    def image_size(self) -> int:
        """Side of the images it takes, S."""
        return self.config.image_size

    @property
    def context(self) -> int:
        """Tokens of a text it takes, L, start and end included."""
        return self.config.text.context

    @property
    def has_part(self) -> bool:
        """Whether there is a part level: a text can ask for its parts of an image."""
        return self.pool is not None

    @property
    def temperatures(self) -> dict[Level, tuple[nn.Parameter, nn.Parameter]]:
        """Log scale and bias of each level that has its own."""
        found: dict[Level, tuple[nn.Parameter, nn.Parameter]] = {}
        if self.part_log_scale is not None and self.part_bias is not None:
            found["part"] = self.part_log_scale, self.part_bias
        if self.whole_log_scale is not None and self.whole_bias is not None:
            found["whole"] = self.whole_log_scale, self.whole_bias
        return found

    def temperature(self, level: Level) -> tuple[nn.Parameter, nn.Parameter]:
        """Log scale and bias of a level, which may be those of both."""
        found = self.temperatures
        return found[level] if level in found or level == "part" else found["part"]

    @property
    def part_scale(self) -> float:
        """Factor of the part level's cosines."""
        return float(self.temperature("part")[0].detach().exp())

    @property
    def whole_scale(self) -> float:
        """Factor of the whole level's cosines."""
        return float(self.temperature("whole")[0].detach().exp())

    # ------------------------------------------------------------------ images

    @torch.no_grad()
    def superpixel_labels(self, pixels: Tensor) -> Tensor:
        """Superpixel of each pixel, always in float32: images uint8 (B, 3, S, S) to ids (B, S, S), int64.

        A flat tower gives the grid of its patches, (B, h, w).
        """
        if isinstance(self.vision, FlatVisionEncoder):
            return self.vision.labels(pixels)
        assert self.superpixels is not None and self.config.superpixels is not None
        with torch.autocast(pixels.device.type, enabled=False):
            prob = self.superpixels(pixels.float().contiguous(memory_format=torch.channels_last) / 255)
        return hard_labels(prob, self.config.superpixels.cell)

    def encode_hierarchy(self, pixels: Tensor, labels: Tensor) -> Hierarchy:
        """Every stage's tokens of images uint8 (B, 3, S, S) with the labels of `superpixel_labels`."""
        return self.group(self.stem(pixels), labels)

    def stem(self, pixels: Tensor) -> Tensor:
        """First of the image tower's two parts, where images of a batch meet in its batch norm, if it has one.

        Images uint8 (B, 3, S, S) to features of their places, (B, h, w, W), of a flat tower (B, N, W).
        """
        mean = gpu.constants(_MEAN, torch.float32, pixels.device)[:, None, None]
        std = gpu.constants(_STD, torch.float32, pixels.device)[:, None, None]
        images = (pixels.float() / 255 - mean) / std
        if gpu.runs_ahead(pixels.device):  # a GPU's convolutions would change the layout themselves, one by one
            images = images.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.vision.stem(images)
        return features

    def group(self, features: Tensor, labels: Tensor) -> Hierarchy:
        """The other part, which takes each image by itself: features of `stem` and labels to every stage's tokens."""
        return self.vision.group(features, labels)

    def project_part(self, tokens: Tensor) -> Tensor:
        """Part-level norm and projection, (..., W) to (..., D)."""
        assert self.part_projection is not None and self.part_norm is not None, "the model has no part level"
        return self.part_projection(self.part_norm(tokens))

    def project_whole(self, cls: Tensor) -> Tensor:
        """Whole-level norm and projection, which may be the part level's, (B, W) to (B, D)."""
        if self.whole_projection is None or self.whole_norm is None:
            return self.project_part(cls)
        return self.whole_projection(self.whole_norm(cls))

    @torch.no_grad()
    def image_features(self, pixels: Tensor) -> ImageFeatures:
        """Features of images, uint8 (B, 3, S, S) of the model's size."""
        labels = self.superpixel_labels(pixels)
        return self.features_of(self.encode_hierarchy(pixels, labels), labels)

    def features_of(self, hierarchy: Hierarchy, labels: Tensor) -> ImageFeatures:
        """Features of images from the tokens of every stage and the labels that these were made with."""
        return ImageFeatures(
            whole=F.normalize(self.project_whole(hierarchy.cls).float(), dim=-1),
            part=self.project_part(hierarchy.stages[self.config.part_stage - 1]) if self.has_part else None,
            labels=labels,
            assignments=[logits.softmax(2) for logits in hierarchy.logits],
        )

    # ------------------------------------------------------------------ texts

    def project_sub_captions(self, features: Tensor) -> Tensor:
        """What the part level compares of texts, (..., W) to (..., D)."""
        assert self.sub_caption_projection is not None, "the model has no part level"
        return self.sub_caption_projection(features)

    def combine(self, features: Tensor) -> Tensor:
        """Whole-caption features, not normalised, of sub-caption features: (Q, C, W) to (Q, D)."""
        if self.whole_caption is not None:
            combined = self.whole_caption(features)
        else:
            combined = features.squeeze(1)  # the caption is one text
        projection = self.whole_caption_projection or self.sub_caption_projection
        assert projection is not None
        return projection(combined)

    @torch.no_grad()
    def text_features(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features of long captions.

        Args:
            tokens: Ids, (Q, C, L).

        Returns:
            Whole features of unit norm, (Q, D), and those of the parts, raw, (Q, C, D), None without a part level.
        """
        features = self.sub_caption(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])  # (Q, C, W)
        whole = F.normalize(self.combine(features).float(), dim=-1)
        return whole, self.project_sub_captions(features) if self.has_part else None

    @torch.no_grad()
    def sub_caption_features(self, tokens: Tensor) -> Tensor:
        """Features of single texts, not normalised: ids (T, L) to (T, D)."""
        return self.project_sub_captions(self.sub_caption(tokens))

    # ------------------------------------------------------------------ scores

    @torch.no_grad()
    def part_logits(self, part: Tensor, texts: Tensor) -> Tensor:
        """Part-level logits of every image asked by every text: (B, N, D) and (T, D) to (B, T)."""
        pooled, _ = self._pool(texts.expand(len(part), -1, -1), part)
        return self._part_logit(pooled, texts)

    @torch.no_grad()
    def box_logits(self, images: ImageFeatures, weights: Tensor, texts: Tensor) -> Tensor:
        """Part-level logits (B, Q) of a region of each image with the texts asked of it, (B, Q, D).

        The weights are the share of each part-level segment that lies in the region, (B, N); zero shuts it out.
        """
        assert images.part is not None, "the model has no part level"
        pooled, _ = self._pool(texts, images.part, weights.log())
        return self._part_logit(pooled, texts)

    def _part_logit(self, pooled: Tensor, texts: Tensor) -> Tensor:
        cosines = F.cosine_similarity(pooled.float(), texts.float(), dim=-1)
        log_scale, bias = self.temperature("part")
        return log_scale.exp() * cosines + bias

    def _pool(self, texts: Tensor, part: Tensor, log_weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        assert self.pool is not None, "the model has no part level"
        pooled: tuple[Tensor, Tensor] = self.pool(texts, part, log_weights)
        return pooled

    @torch.no_grad()
    def attention(self, part: Tensor, texts: Tensor) -> Tensor:
        """Where texts look: (B, N, D) and (B, Q, D) to (B, Q, N), mean over heads, empty slot dropped."""
        _, attention = self._pool(texts, part)
        return attention[..., :-1].mean(1)

    # ------------------------------------------------------------------ maps

    def segment_weights(
        self, images: ImageFeatures, membership: Membership = "hard", stage: int | None = None
    ) -> Tensor:
        """Share of each superpixel or patch in each segment of a stage: the product of the assignments up to it.

        Args:
            images: Features, B images.
            membership: "hard" puts every token into its best group, as CAST does for its maps; "soft" takes the
                assignments as they are.
            stage: From 0, fine to coarse; None is the part level's.

        Returns:
            Shares (B, N_1, N_s); rows sum to one.
        """
        stage = self.config.part_stage - 1 if stage is None else stage
        superpixels = self.config.tokens[0]
        weights = torch.eye(superpixels, device=images.whole.device).expand(len(images.whole), -1, -1)
        for assignment in images.assignments[:stage]:
            if membership == "hard":
                assignment = F.one_hot(assignment.argmax(2), assignment.shape[2])
            weights = weights @ assignment.float()
        return weights

    def segment_to_pixels(
        self, values: Tensor, images: ImageFeatures, membership: Membership = "hard", stage: int | None = None
    ) -> Tensor:
        """Spreads values of a stage's segments over the label map: (B, Q, N_s) to (B, Q, S, S).

        For a flat tower, over the grid of its patches, (B, Q, h, w). Other arguments as in `segment_weights`.
        """
        on_superpixels = values @ self.segment_weights(images, membership, stage).transpose(1, 2)  # (B, Q, N_1)
        flat = images.labels.flatten(1)[:, None].expand(-1, values.shape[1], -1)
        return on_superpixels.gather(2, flat).unflatten(2, images.labels.shape[1:])

    def stage_labels(self, images: ImageFeatures) -> list[Tensor]:
        """Nested label maps of the stages, fine to coarse, each (B, S, S): superpixels first, every token in its best group.

        A flat tower has one, the grid of its patches, (B, h, w).
        """
        maps = [images.labels]
        for assignment in images.assignments:
            labels = assignment.argmax(2).gather(1, maps[-1].flatten(1))
            maps.append(labels.unflatten(1, images.labels.shape[1:]))
        return maps


def _projection(width: int, embed: int) -> nn.Linear:
    """A projection without bias, started as CLIP's."""
    linear = nn.Linear(width, embed, bias=False)
    nn.init.normal_(linear.weight, std=width**-0.5)
    return linear
