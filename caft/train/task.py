"""Model and losses as the one module that DDP wraps."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from caft.loss.exchange import Exchange
from caft.loss.hierarchical import Features, Temperature, Term, hierarchical_loss
from caft.loss.labels import rank_blocks
from caft.loss.part import PartTerm
from caft.loss.whole import PartClsTerm, WholeTerm
from caft.network.caft import CAFT, Level
from caft.network.layers import Stage
from caft.network.text.encoder import Packed, pack
from caft.params.parts import height, named
from caft.params.recipes import RecipeParams


class TrainingTask(nn.Module):
    """From a batch to its loss: encode, exchange, compare; everything that has a gradient is used inside `forward`.

    With a `micro_batch`, so many images go through the towers at once: their features are kept and their activations are not;
    the backward pass of the losses, which compare all of the batch, computes them again, one micro-batch after the other.
    The loss and its gradients are those of the whole batch: the stem, where batch norm takes statistics of the batch, is
    not divided. Only the draw of the poolings' dropout differs, though it is the same in both passes.

    The parts that the recipe freezes have no gradient, so DDP sends none of theirs.

    Of the image tower's stages in `recomputed`, counted from 1, the inputs alone are kept for the backward pass.
    """

    def __init__(
        self,
        model: CAFT,
        recipe: RecipeParams,
        seed: int,
        micro_batch: int | None = None,
        recomputed: Sequence[int] = (),
    ) -> None:
        super().__init__()
        stages = [module for module in model.vision.modules() if isinstance(module, Stage)]
        for number in recomputed:
            stages[number - 1].recomputed = True
        self.micro_batch = micro_batch
        self.model = model
        self.recipe = recipe
        self.seed = seed
        if recipe.loss.form == "softmax":  # no bias changes it, so none gets a gradient
            for _, bias in model.temperatures.values():
                bias.requires_grad_(False)
        frozen = [part for name in recipe.freeze for part in named(name, model.config)]
        for name, parameter in model.named_parameters():
            if any(part.holds(name) for part in frozen):
                parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> "TrainingTask":
        """As `nn.Module.train`, but batch norm of a frozen part keeps its statistics and uses them."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
                module.eval()
        return self

    def rate_scale(self, name: str) -> float:
        """Factor of a parameter's learning rate, by its name here: lower layers have smaller ones if the recipe says so."""
        decay = self.recipe.layer_decay
        return 1.0 if decay is None else decay ** height(name.removeprefix("model."), self.model.config)

    def forward(
        self, images: Tensor, labels: Tensor, tokens: Tensor, step: int, packed: Packed | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of this rank.

        Args:
            images: uint8 (B, 3, S, S).
            labels: Those of `CAFT.superpixel_labels`.
            tokens: Ids of the sub-captions, (B, K, L); the first M are one long caption.
            step: Step of the optimizer.
            packed: What `pack` makes of the same ids, if it can be used.

        Returns:
            `loss` and its terms, scalars.
        """
        if not self.model.has_part:
            tokens = tokens[:, : self.recipe.chunks]  # no term compares the others
        encoded = self._texts(tokens, packed) if packed is not None else self._by_micro_batch(self._texts, tokens)
        # The texts are on their way to the other ranks while the image tower works.
        texts = [own if own is None else Exchange(own) for own in encoded]
        part, *classes = self._by_micro_batch(self._images, self._stem(images), labels)
        # A softmax compares each text with the images of all ranks too.
        sent = self.recipe.loss.form == "softmax"
        features = Features(part, *(own if own is None else Exchange(own, sent) for own in classes), *texts)
        return hierarchical_loss(self._terms(step), features)

    def _terms(self, step: int) -> list[Term]:
        """The terms that have a weight, with the temperatures of this step."""
        model, loss = self.model, self.recipe.loss
        negatives = partial(rank_blocks, seed=self.seed, step=step) if self.recipe.negatives == "sampled" else None
        terms: list[Term] = []
        if model.pool is not None:
            temperature = self._temperature("part")
            terms.append(PartTerm(loss.part, temperature, loss.form, model.pool, negatives))
            terms.append(PartClsTerm(loss.part_cls, temperature, loss.form))
        terms.append(WholeTerm(loss.whole, self._temperature("whole"), loss.form))
        return [term for term in terms if term.weight]

    def pack(self, tokens: Tensor) -> Packed | None:
        """The texts of a batch without their padding, ids (B, K, L) on the host; None where texts are taken in portions."""
        if self.micro_batch is not None or self.model.sub_caption.tokens_at_once is not None:
            return None
        return pack((tokens if self.model.has_part else tokens[:, : self.recipe.chunks]).flatten(0, 1))

    def _texts(self, tokens: Tensor, packed: Packed | None = None) -> tuple[Tensor | None, ...]:
        """Sub-captions (B * K, D) and captions (B, D) of `Features`, from ids (B, K, L)."""
        model = self.model
        texts = model.sub_caption(tokens.flatten(0, 1), packed).unflatten(0, tokens.shape[:2])  # (B, K, W)
        return (
            model.project_sub_captions(texts.flatten(0, 1)) if model.has_part else None,
            model.combine(texts[:, : self.recipe.chunks]) if self.recipe.loss.whole else None,
        )

    def _images(self, features: Tensor, labels: Tensor) -> tuple[Tensor | None, ...]:
        """The images' `part`, `part_cls` and `whole` of `Features`, from features of the stem and labels."""
        model, weights = self.model, self.recipe.loss.weights
        hierarchy = model.group(features, labels)
        stage = model.config.part_stage - 1
        return (
            model.project_part(hierarchy.stages[stage]) if weights["part"] else None,
            model.project_part(hierarchy.stage_cls[stage]) if weights["part_cls"] else None,
            model.project_whole(hierarchy.cls) if weights["whole"] else None,
        )

    def _stem(self, images: Tensor) -> Tensor:
        """Features of the stem, whose activations are not kept either where there are micro-batches."""
        if not self._divides(len(images)):
            return self.model.stem(images)
        features: Tensor = checkpoint(
            self.model.stem,
            images,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=lambda: (nullcontext(), _statistics_kept(self.model.vision)),
        )
        return features

    def _by_micro_batch(
        self, encode: Callable[..., tuple[Tensor | None, ...]], *inputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        """What `encode` makes of a batch, micro-batch by micro-batch."""
        size = self.micro_batch
        if size is None or not self._divides(len(inputs[0])):
            return encode(*inputs)
        parts = zip(*(tensor.split(size) for tensor in inputs), strict=True)
        found = [checkpoint(encode, *part, use_reentrant=False) for part in parts]
        return tuple(None if column[0] is None else torch.cat(column) for column in zip(*found, strict=True))

    def _divides(self, images: int) -> bool:
        return self.micro_batch is not None and images > self.micro_batch and torch.is_grad_enabled()

    def _temperature(self, level: Level) -> Temperature:
        log_scale, bias = self.model.temperature(level)
        return Temperature(log_scale.exp(), bias)

    @torch.no_grad()
    def clamp_scales(self) -> None:
        """Keeps the log scales between 0 and their caps; called after each step of the optimizer."""
        caps = {"part": self.recipe.part_scale_max, "whole": self.recipe.whole_scale_max}
        for level, (log_scale, _) in self.model.temperatures.items():
            if log_scale.requires_grad:
                log_scale.clamp_(0, math.log(caps[level]))


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Batch norm takes the statistics of the batch, and does not count it again among those it has seen."""
    norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)]
    kept = [dict(norm.named_buffers()) for norm in norms]
    try:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer.clone())
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)
