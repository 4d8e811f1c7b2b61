"""Measures ranks and searches by proof (`caft.eval.scores.certified`, `caft.model.search`) against all part scores.

    python -m benchmarks.exact --model models/caft.safetensors --images 400
    python -m benchmarks.exact --model models/caft.safetensors --images 2000 --weights 0.3 --rows 40
    python -m benchmarks.exact --model models/caft.safetensors --images 400 --features random --weights 0.3 1

Scenes are rendered and encoded by the default model: its own features are those of `--features tiny`. `base` gives them the
base model's sizes: features are turned into 512 numbers by orthonormal columns, with noise of a fifth of their length, and
each image gets as many segments again that are means of two of its own, 64 in all; the pooling's weights are turned likewise,
queries and keys by a further rotation, and values by another, so that each of eight heads sees an eighth of the numbers.
Their part scores correlate with the model's own by 0.96 (own 0.74 for 0.77, others 0.11 +- 0.21 for 0.10 +-
0.22). Whole scores are the model's.
`random` are of that size and random. Captions are in eight chunks, of `tiny` in the model's four.

Printed is processor time of one thread, forms in turn; `--rows` scores only so many images with all captions and
extrapolates the time of all pairs by them, and then ranks are not compared.
"""

import argparse
import statistics
import time
from typing import cast

import torch
from PIL import Image
from torch import Tensor

from benchmarks.measuring import machine
from caft.data.scenes.examples import random_examples
from caft.eval.scores.certified import needed_part_scores
from caft.eval.scores.retrieval import rank
from caft.eval.scores.retrieval_sets import WEIGHTS
from caft.model.encoding import encode_captions, encode_cropped, token_rows
from caft.model.model import Model
from caft.model.protocols import RetrievalNetwork
from caft.model.scores import blend, part_scores, whole_scores
from caft.model.search import best_images
from caft.network.caft import Level
from caft.network.text_pool import TextConditionedPool
from caft.params import load_params
from caft.params.corpora import ScenesCorpus
from caft.weights.load import load

DIM, HEADS, CHUNKS, NOISE = 512, 8, 8, 0.2
SEED = 7  # of the scenes; training and evaluation have 0 and 1
QUERIES = 20


class Scorer:
    """A model's temperatures with another pooling."""

    device = torch.device("cpu")

    def __init__(self, model: Model, pool: TextConditionedPool) -> None:
        self.pool, self._network = pool, model.network

    def temperature(self, level: Level) -> tuple[Tensor, Tensor]:
        """Log scale and bias of a level."""
        return self._network.temperature(level)


def scenes(model: Model, count: int, chunks: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Whole features of images and captions, (B, D) twice, segments (B, N, D) and chunks (B, C, D)."""
    corpus = load_params("params.yaml").corpus["scenes"]
    assert isinstance(corpus, ScenesCorpus)
    examples = random_examples(corpus.model_copy(update={"evaluation_images": count, "evaluation_seed": SEED}))
    images = encode_cropped(model.network, [Image.fromarray(example.rendering.image) for example in examples])
    captions = [example.caption for example in examples]
    read = encode_captions(model, captions)
    assert images.part is not None and read.parts is not None
    if chunks == model.card.chunks:
        return images.whole, read.whole, images.part, read.parts
    card, parts = model.card.model_copy(update={"chunks": chunks}), []
    for first in range(0, count, 64):
        ids = token_rows(card, captions[first : first + 64], model.network.context, first).ids
        parts.append(model.network.sub_caption_features(ids.flatten(0, 1)).unflatten(0, ids.shape[:2]))
    return images.whole, read.whole, images.part, torch.cat(parts)


def lifted(small: TextConditionedPool, part: Tensor, texts: Tensor) -> tuple[TextConditionedPool, Tensor, Tensor]:
    """Pooling, segments and chunks of the base model's sizes, see above."""
    generator, dim = torch.Generator().manual_seed(0), part.shape[-1]
    columns, *turns = (torch.linalg.qr(torch.randn(DIM, n, generator=generator))[0] for n in (dim, DIM, DIM))
    pool, centred = TextConditionedPool(DIM, HEADS), torch.eye(dim) - 1 / dim
    for name in ("query", "key", "value"):
        layer, norm = getattr(small, name), getattr(small, f"norm_{name}")
        scale = HEADS * (DIM / HEADS / dim) ** 0.5 if name == "query" else 1.0
        turn = scale * turns[name == "value"] @ columns
        getattr(pool, name).weight.copy_(turn @ (layer.weight * norm.weight) @ centred @ columns.T * (dim / DIM) ** 0.5)
        getattr(pool, name).bias.copy_(turn @ (layer.weight @ norm.bias + layer.bias))
    pool.out.weight.copy_(columns @ small.out.weight @ columns.T @ turns[1].T)
    pool.out.bias.copy_(columns @ small.out.bias)

    def turned(features: Tensor) -> Tensor:
        noise = torch.randn(*features.shape[:-1], DIM, generator=generator) * NOISE * DIM**-0.5
        return features @ columns.T + features.norm(dim=-1, keepdim=True) * noise

    one, other = torch.randint(0, part.shape[1], (2, part.shape[1]), generator=generator)
    return pool, turned(torch.cat([part, (part[:, one] + part[:, other]) / 2], 1)), turned(texts)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models/caft.safetensors", help="the default run's weights")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--features", choices=("tiny", "base", "random"), default="base")
    parser.add_argument("--weights", type=float, nargs="*", default=[0.3, 0.7, 1.0], help="none: those of the stage")
    parser.add_argument("--rows", type=int, help="images that all pairs are timed on; all of them if left out")
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    model = load(asked.model)
    pool = model.network.pool
    assert pool is not None
    tiny = asked.features == "tiny"
    seen, read, part, texts = scenes(model, asked.images, model.card.chunks if tiny else CHUNKS)
    if not tiny:
        pool, part, texts = lifted(pool, part, texts)
    if asked.features == "random":
        part, texts = torch.randn_like(part), torch.randn_like(texts)
    network = cast(RetrievalNetwork, Scorer(model, pool))
    whole, rows = whole_scores(model.network, seen, read), asked.rows or asked.images
    stage = [(weight, space) for space in ("logit", "cosine") for weight in WEIGHTS]
    every: dict[str, list[tuple[float, str]]] = {f"{w:g}": [(w, "logit")] for w in asked.weights} or {"stage": stage}
    for name, blends in every.items():
        taken: list[tuple[float, float]] = []
        for _ in range(asked.repeat):
            start = time.process_time()
            all_pairs = part_scores(network, part[:rows], texts)
            between = time.process_time()
            needed = needed_part_scores(network, whole, part, texts, blends)
            taken.append(((between - start) * asked.images / rows, time.process_time() - between))
        old, new = (statistics.median(column) for column in zip(*taken, strict=True))
        ratio = statistics.median(mine / before for before, mine in taken)
        differ = 0
        for weight, space in blends if rows == asked.images else []:
            one, other = (rank(blend(network, whole, p, weight, space).numpy()) for p in (all_pairs, needed.scores))
            differ += int((one.images != other.images).sum() + (one.texts != other.texts).sum())
        compared = f"{differ} ranks differ" if rows == asked.images else f"all pairs by {rows} images"
        print(
            f"{asked.features}, {asked.images} x {asked.images}, weight {name}: {100 * needed.share:.2f} % of the pairs, "
            f"{new:.1f} for {old:.1f} s, {ratio:.3f} ({compared})", flush=True,
        )  # fmt: skip
    for weight in asked.weights:
        scored, seconds = [], []
        for query in range(QUERIES):
            start = time.process_time()
            part_scores(network, part, texts[query : query + 1])
            between = time.process_time()
            scored.append(
                best_images(network, seen, part, read[query : query + 1], texts[query : query + 1], 10, weight)[2]
            )
            seconds.append((time.process_time() - between) / (between - start))
        print(
            f"search for 10 of {asked.images}, weight {weight:g}: {statistics.median(scored):.0f} images scored, "
            f"time {statistics.median(seconds):.3f}", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    with torch.no_grad():
        main()
