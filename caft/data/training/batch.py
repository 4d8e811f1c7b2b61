"""Batches for training: which images, which sub-captions, in an order that a step number determines."""

import logging
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from caft.captions.chunking import random_chunks
from caft.captions.tokenizer import pad
from caft.data.tables.fields import FIELDS
from caft.data.training.reader import Pair, TrainingIndex
from caft.errors import DataError
from caft.transforms import random_resized_crop, squash

logger = logging.getLogger(__name__)

_LONG = tuple(number for number, field in enumerate(FIELDS) if field.startswith("long_"))
# A long caption with fewer sentences is not taken apart, as in the authors' release.
_ENOUGH = 3
_FALLBACK = 8
# Rows that are tried in the place of one whose picture cannot be read; if all are as bad, something else is wrong.
_SUBSTITUTES = 8


@dataclass(frozen=True)
class Batch:
    """What one rank trains on in one step.

    Attributes:
        images: uint8 (B, 3, S, S).
        tokens: Ids with start and end, zero padded, int64 (B, K, L); by the rule "caft" the first M sub-captions are one
            long caption.
        rows: Position of each image in the index, int64 (B,).
    """

    images: Tensor
    tokens: Tensor
    rows: Tensor

    def pin_memory(self) -> "Batch":
        """The same where a GPU can fetch it by itself; a loader asks for it, which knows no other class than its own."""
        return Batch(self.images.pin_memory(), self.tokens.pin_memory(), self.rows)


@dataclass(frozen=True)
class Sampling:
    """How sub-captions are drawn: K, M, the most sentences of each, what is done with a longer caption, and by whom."""

    sub_captions: int = 8
    chunks: int = 4
    max_sentences: int = 3
    rule: Literal["paper", "release"] = "paper"
    captions: str = "caft"


DEFAULT_SAMPLING = Sampling()


def sample_sub_captions(
    num_sentences: list[int], rng: np.random.Generator, sampling: Sampling = DEFAULT_SAMPLING
) -> list[list[Pair]]:
    """Draws the sub-captions of an image, by the rule of the sampling.

    Args:
        num_sentences: Sentences in each of the seven captions; not all zero.
        rng: Source of the draws.
        sampling: Its `captions` says whose rule, "caft" or "flair".

    Returns:
        K lists of sentences (caption, number).

    Raises:
        ValueError: There is no sentence.
    """
    rule = _diverse if sampling.captions == "flair" else _chunks_and_others
    everything = [(field, s) for field, count in enumerate(num_sentences) for s in range(count)]
    if not everything:
        raise ValueError("an image without a sentence has no sub-captions")
    return rule(num_sentences, everything, rng, sampling)


def _diverse(
    num_sentences: list[int], everything: list[Pair], rng: np.random.Generator, sampling: Sampling
) -> list[list[Pair]]:
    """FLAIR's rule: each sub-caption is one to three sentences of all captions, put one after the other.

    Of more than one sentence, half are a window of the pool, which may straddle two captions, half distinct sentences
    in order of the draw. FLAIR never draws the last window, by a slip; here every window is as likely.
    """
    result = []
    for _ in range(sampling.sub_captions):
        count = int(rng.integers(1, sampling.max_sentences + 1))
        if count > 1 and rng.random() < 0.5:
            start = int(rng.integers(max(0, len(everything) - count) + 1))  # a pool of fewer is one window
            result.append(everything[start : start + count])
        else:
            result.append(_draw(everything, count, rng))
    return result


def _chunks_and_others(
    num_sentences: list[int], everything: list[Pair], rng: np.random.Generator, sampling: Sampling
) -> list[list[Pair]]:
    """The rule of the authors' release.

    The first M are random chunks of one long caption with at least three sentences. Each of the others is one to
    three distinct sentences of all other captions. Without such a caption, up to eight sentences of all captions
    stand for it, in order of the draw, and the others come from all captions.
    """
    eligible = [field for field in _LONG if num_sentences[field] >= _ENOUGH]
    if eligible:
        chosen = eligible[int(rng.integers(len(eligible)))]
        long = [(chosen, sentence) for sentence in range(num_sentences[chosen])]
        rest = [pair for pair in everything if pair[0] != chosen] or everything
    else:
        order = rng.permutation(len(everything))[:_FALLBACK]
        long, rest = [everything[i] for i in order], everything
    groups = random_chunks(len(long), sampling.chunks, rng, sampling.max_sentences, sampling.rule)
    result = [[long[i] for i in group] for group in groups]
    for _ in range(sampling.sub_captions - sampling.chunks):
        result.append(_draw(rest, int(rng.integers(1, sampling.max_sentences + 1)), rng))
    return result


def _draw(pool: list[Pair], count: int, rng: np.random.Generator) -> list[Pair]:
    """Distinct sentences of a pool in order of the draw; with repeats where it has fewer."""
    if len(pool) < count:
        return [pool[place] for place in rng.integers(len(pool), size=count).tolist()]
    drawn: list[int] = []
    while len(drawn) < count:  # far cheaper for three of many than a shuffle
        place = int(rng.integers(len(pool)))
        if place not in drawn:
            drawn.append(place)
    return [pool[place] for place in drawn]


@dataclass(eq=False)
class TrainingSet(Dataset[tuple[Tensor, Tensor, int]]):
    """Samples by (epoch, row); every draw is seeded by seed, epoch and row, so no worker matters.

    Attributes:
        image_size: S.
        crop_scale: Of `random_resized_crop`; None takes the whole picture.
        substitutes: Rows of which one, determined by the sample, stands in where a picture cannot be read; None stops.
        replaced: How often one stood in, over all workers.
    """

    index: TrainingIndex
    image_size: int
    crop_scale: tuple[float, float] | None
    sampling: Sampling
    seed: int
    substitutes: np.ndarray | None = None
    replaced: Any = field(default_factory=lambda: multiprocessing.Value("q", 0), init=False)

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, Tensor, int]:
        epoch, row = place
        row, image = self._readable(epoch, row)
        rng = np.random.Generator(np.random.PCG64([self.seed, epoch, row]))
        pairs = sample_sub_captions(self.index.num_sentences(row), rng, self.sampling)
        if self.crop_scale is None:
            pixels = squash(image, self.image_size)
        else:
            pixels = random_resized_crop(image, self.image_size, self.crop_scale, rng)
        return pixels, pad([self.index.sub_caption_ids(row, sentences) for sentences in pairs]), row

    def _readable(self, epoch: int, row: int) -> tuple[int, Image.Image]:
        """A row and its picture, or those of the row that stands in."""
        try:
            return row, self.index.picture(row)
        except DataError as error:
            if self.substitutes is None:
                raise
            damaged = error
        for other in np.random.default_rng([self.seed, epoch, row, 1]).choice(self.substitutes, _SUBSTITUTES).tolist():
            try:
                image = self.index.picture(other)
            except DataError:
                continue
            with self.replaced.get_lock():
                self.replaced.value += 1
            logger.warning("%s; row %d stands in", damaged, self.index.row_ids[other])
            return other, image
        raise damaged


def collate(samples: list[tuple[Tensor, Tensor, int]]) -> Batch:
    """Stacks samples into a batch; in a loader's process right where the process that trains reads it."""
    images, tokens, rows = zip(*samples, strict=True)
    return Batch(default_collate(list(images)), default_collate(list(tokens)), torch.tensor(rows))


@dataclass(frozen=True)
class Blocks:
    """An order in which only some shards are read at a time.

    Attributes:
        shards: Shard of each position in the index, (images,).
        at_once: How many shards, in an order of their own each epoch, are mixed with each other.
    """

    shards: np.ndarray
    at_once: int

    def order(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws a permutation of the rows, block after block."""
        names, of_row = np.unique(self.shards[rows], return_inverse=True)
        block = rng.permutation(len(names)) // self.at_once
        return rows[np.lexsort((rng.random(len(rows)), block[of_row]))]


@dataclass(eq=False)
class BatchOrder:
    """The places (epoch, row) of each step for one rank, by arithmetic alone.

    An epoch is a permutation of the rows drawn from (seed, epoch); a global batch is a slice of it, and rank r takes
    the r-th part of the slice. What is left at an epoch's end, less than a batch, is left out. On storage that is slow at
    random reads, the permutation can be drawn in blocks of some shards at a time; each row still comes once.

    Attributes:
        rows: Positions in the index.
        batch: Global batch, which the number of ranks divides.
        first_step: Step to start with.
        steps: Step to end before.
        blocks: None draws from all rows at once.
    """

    rows: np.ndarray
    batch: int
    rank: int
    world_size: int
    seed: int
    first_step: int
    steps: int
    blocks: Blocks | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch; 1 for a corpus smaller than a batch."""
        return max(1, len(self.rows) // self.batch)

    def __len__(self) -> int:
        return self.steps - self.first_step

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        current, order = -1, self.rows
        share = self.batch // self.world_size
        for step in range(self.first_step, self.steps):
            epoch, place = divmod(step, self.steps_per_epoch)
            if epoch != current:
                current, order = epoch, self._epoch(epoch)
            start = place * self.batch + self.rank * share
            rows = order[start : start + share]
            yield [(epoch, row) for row in rows.tolist()]

    def _epoch(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(self.rows) if self.blocks is None else self.blocks.order(self.rows, rng)
        # A corpus smaller than one batch repeats within it.
        repeats = -(-self.batch // len(order))
        return np.tile(order, repeats) if repeats > 1 else order
