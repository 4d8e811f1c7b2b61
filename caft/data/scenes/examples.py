"""The evaluation scenes, painted and described: what every evaluation set is written from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from caft.data.scenes.captions import ANNOTATORS, THOROUGH, Sentence, join, long_caption
from caft.data.scenes.grammar import (
    GROUP,
    LOOK_ALIKE,
    PIXELS,
    RANDOM,
    SPEC,
    WORDS,
    Scene,
    generator,
    look_alike_group,
    random_scene,
)
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
    annotators = tuple(ANNOTATORS)
    examples = []
    for number in track(range(corpus.evaluation_images), "random scenes"):
        scene = random_scene(generator(corpus.evaluation_seed, RANDOM, number, SPEC))
        examples.append(_example(scene, annotators[number % len(annotators)], RANDOM, number, corpus))
    return examples


def look_alike_examples(corpus: ScenesCorpus) -> list[Example]:
    """Returns groups of four in which three differ from the first by one change.

    Only annotators who name everything that may have changed describe them: else two captions of a
    group could be equally true of both images.
    """
    examples = []
    for group in track(range(corpus.evaluation_images // GROUP), "look-alike groups"):
        annotator = THOROUGH[group % len(THOROUGH)]
        for member, scene in enumerate(look_alike_group(corpus.evaluation_seed, group)):
            examples.append(_example(scene, annotator, LOOK_ALIKE, group * GROUP + member, corpus))
    return examples


def _example(scene: Scene, annotator: str, stream: int, number: int, corpus: ScenesCorpus) -> Example:
    seed = corpus.evaluation_seed
    rendering = render(scene, generator(seed, stream, number, PIXELS), corpus.image_size)
    words = generator(seed, stream, number, WORDS)
    sentences = long_caption(scene, annotator, words)
    return Example(scene, rendering, sentences, join(sentences, annotator, words))
