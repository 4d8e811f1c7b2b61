"""The evaluation scenes, painted and described: what every evaluation set is written from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from caft.data.scenes.captions import ANNOTATORS, Sentence, describers, join, long_caption
from caft.data.scenes.grammar import (
    LOOK_ALIKE,
    PIXELS,
    RANDOM,
    SPEC,
    WORDS,
    Scene,
    generator,
    training_scene,
)
from caft.data.scenes.look_alikes import GROUP, KINDS, Content, content, fresh_scene, kind_of, look_alike_group
from caft.data.scenes.render import Rendering, jpeg, render
from caft.params.corpora import ScenesCorpus
from caft.progress import track


@dataclass(frozen=True)
class Example:
    """An evaluation scene, its painting, and one annotator's long caption of it."""

    scene: Scene
    rendering: Rendering
    sentences: list[Sentence]
    caption: str

    @cached_property
    def jpeg(self) -> bytes:
        """The picture as it is written into every set."""
        return jpeg(self.rendering.image)

    def mask(self, index: int) -> np.ndarray:
        """Returns where object `index` is seen, bool (S, S)."""
        return self.rendering.labels == index + 1

    @property
    def visible(self) -> list[int]:
        """Indices of the objects that cover at least one pixel; on tiny pictures some do not."""
        return [index for index in range(len(self.scene.objects)) if self.mask(index).any()]


def random_examples(corpus: ScenesCorpus) -> list[Example]:
    """Returns scenes with no relation to each other, described by the three annotators in turn."""
    annotators, trained = tuple(ANNOTATORS), _trained(corpus.seed, corpus.images)
    examples = []
    for number in track(range(corpus.evaluation_images), "random scenes"):
        scene = fresh_scene(generator(corpus.evaluation_seed, RANDOM, number, SPEC), trained)
        words = generator(corpus.evaluation_seed, RANDOM, number, WORDS)
        examples.append(_example(scene, annotators[number % len(annotators)], words, RANDOM, number, corpus))
    return examples


def look_alike_examples(corpus: ScenesCorpus) -> list[Example]:
    """Returns groups of four in which three differ from the first in one thing; its kinds take turns.

    A group's captions are by one annotator, who always says what differs and draws the same words for all of them: what
    tells them apart is what differs, and no two are equally true of both images.
    """
    seed, trained = corpus.evaluation_seed, _trained(corpus.seed, corpus.images)
    examples = []
    for group in track(range(corpus.evaluation_images // GROUP), "look-alike groups"):
        annotators = describers(kind_of(group))
        annotator = annotators[group // len(KINDS) % len(annotators)]
        scenes = look_alike_group(generator(seed, LOOK_ALIKE, group, SPEC), kind_of(group), trained)
        for number, scene in enumerate(scenes, start=group * GROUP):
            words = generator(seed, LOOK_ALIKE, group, WORDS)
            examples.append(_example(scene, annotator, words, LOOK_ALIKE, number, corpus))
    return examples


@lru_cache(maxsize=1)
def _trained(seed: int, images: int) -> Collection[Content]:
    """What the training scenes show: no evaluation scene may show the same."""
    return frozenset(content(training_scene(seed, number)) for number in range(images))


def _example(
    scene: Scene, annotator: str, words: np.random.Generator, stream: int, number: int, corpus: ScenesCorpus
) -> Example:
    rendering = render(scene, generator(corpus.evaluation_seed, stream, number, PIXELS), corpus.image_size)
    sentences = long_caption(scene, annotator, words)
    return Example(scene, rendering, sentences, join(sentences, annotator, words))
