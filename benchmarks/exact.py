"""Measures ranks and searches by proof (`caft.eval.scores.certified`, `caft.model.search`) against all part scores.

    python -m benchmarks.exact --images 520
    python -m benchmarks.exact --images 500 1000 2000 --weights 0.3 0.7 --rows 20  # how time and memory grow
    python -m benchmarks.exact --images 520 --features random --weights 1

Scenes are rendered and encoded by the default model: its own features are those of `--features tiny`. `base` gives them the
base model's sizes: features are turned into 512 numbers by orthonormal columns, with noise of a fifth of their length, and
each image gets as many segments again that are means of two of its own, 64 in all; the pooling's weights are turned likewise,
queries and keys by a further rotation, and values by another, so that each of eight heads sees an eighth of the numbers, and
get noise of a fifth of their norm: no matrix is of the default model's low rank. Without that noise
their part scores correlate with the model's own by 0.96 (own 0.74 for 0.77, others 0.11 +- 0.21 for 0.10 +-
0.22). Whole scores are the model's.
`random` are of that size and random. Captions are in eight chunks, of `tiny` in the model's four.

Printed is processor time of one thread, forms in turn, medians; `--rows` scores only so many images with all captions and
extrapolates the time of all pairs by them, and then ranks are not compared. Features lie in files that are mapped into
memory, as those of a set that does not fit would. Memory is the peak that ranks by proof add to a fresh process, beyond
these files' pages and what it holds before: whole scores and captions' features are among it.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.measuring import machine, peak_memory
from caft.data.scenes.examples import random_examples
from caft.eval.scores.certified import Needed, needed_part_scores
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


class Lift:
    """Brings the default model's pooling and features to the base model's sizes, see above."""

    def __init__(self, small: TextConditionedPool, dim: int, segments: int) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.columns, *turns = (torch.linalg.qr(self._random(DIM, n))[0] for n in (dim, DIM, DIM))
        self.pool, centred = TextConditionedPool(DIM, HEADS), torch.eye(dim) - 1 / dim
        columns = self.columns
        for name in ("query", "key", "value"):
            layer, norm = getattr(small, name), getattr(small, f"norm_{name}")
            scale = HEADS * (DIM / HEADS / dim) ** 0.5 if name == "query" else 1.0
            turn = scale * turns[name == "value"] @ columns
            weight = turn @ (layer.weight * norm.weight) @ centred @ columns.T * (dim / DIM) ** 0.5
            getattr(self.pool, name).weight.copy_(self._noisy(weight))
            getattr(self.pool, name).bias.copy_(turn @ (layer.weight @ norm.bias + layer.bias))
        self.pool.out.weight.copy_(self._noisy(columns @ small.out.weight @ columns.T @ turns[1].T))
        self.pool.out.bias.copy_(columns @ small.out.bias)
        self.one, self.other = torch.randint(0, segments, (2, segments), generator=self.generator)

    def part(self, part: Tensor) -> Tensor:
        """Segments of images, (B, N, d) to (B, 2 N, D)."""
        return self.turned(torch.cat([part, (part[:, self.one] + part[:, self.other]) / 2], 1))

    def turned(self, features: Tensor) -> Tensor:
        """Features (..., d) to (..., D)."""
        noise = self._random(*features.shape[:-1], DIM) * NOISE * DIM**-0.5
        return features @ self.columns.T + features.norm(dim=-1, keepdim=True) * noise

    def _random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def _noisy(self, weight: Tensor) -> Tensor:
        return weight + self._random(*weight.shape) * NOISE * weight.norm() / DIM


def write(model: Model, kind: str, count: int, folder: Path) -> None:
    """Writes features of scenes and their captions, and the pooling, to a folder; block by block."""
    seen, read, part, texts = scenes(model, count, model.card.chunks if kind == "tiny" else CHUNKS)
    pool = model.network.pool
    assert pool is not None
    if kind == "tiny":
        np.save(folder / "part.npy", part.numpy())
    else:
        lift = Lift(pool, part.shape[-1], part.shape[1])
        pool, texts = lift.pool, lift.turned(texts)
        shape = (count, 2 * part.shape[1], DIM)
        kept = np.lib.format.open_memmap(folder / "part.npy", mode="w+", dtype=np.float32, shape=shape)
        for first in range(0, count, 64):
            kept[first : first + 64] = lift.part(part[first : first + 64]).numpy()
            if kind == "random":
                kept[first : first + 64] = np.random.default_rng(first).standard_normal(kept[first : first + 64].shape)
        if kind == "random":
            texts = torch.randn(texts.shape, generator=torch.Generator().manual_seed(1))
    np.save(folder / "texts.npy", texts.numpy())
    torch.save((pool, seen, read), folder / "rest.pt")


class Features:
    """What `write` wrote, mapped into memory, and the network that scores it."""

    def __init__(self, path: str, folder: Path) -> None:
        model = load(path)
        pool, self.seen, self.read = torch.load(folder / "rest.pt", weights_only=False)
        self.network = cast(RetrievalNetwork, Scorer(model, pool.requires_grad_(False)))
        self.part, self.texts = (
            torch.from_numpy(np.load(folder / f"{n}.npy", mmap_mode="c")) for n in ("part", "texts")
        )

    @torch.no_grad()
    def prove(self, blends: list[tuple[float, str]]) -> tuple[Tensor, Needed]:
        """Whole scores and the part scores that ranks need."""
        whole = whole_scores(self.network, self.seen, self.read)
        return whole, needed_part_scores(self.network, whole, self.part, self.texts, blends)


def proof(path: str, folder: Path, blends: list[tuple[float, str]]) -> Callable[[], object]:
    """Ranks by proof, for `peak_memory`; the files' pages are touched before."""
    features = Features(path, folder)
    features.part.sum(), features.texts.sum()
    return lambda: features.prove(blends)


def measure(asked: argparse.Namespace, count: int, folder: Path) -> dict[str, tuple[float, float]]:
    """Prints one size; returns seconds and MiB by name of the blends."""
    features = Features(asked.model, folder)
    network, rows = features.network, asked.rows or count
    stage = [(weight, space) for space in ("logit", "cosine") for weight in WEIGHTS]
    every: dict[str, list[tuple[float, str]]] = {f"{w:g}": [(w, "logit")] for w in asked.weights} or {"stage": stage}
    found: dict[str, tuple[float, float]] = {}
    for name, blends in every.items():
        taken: list[tuple[float, float]] = []
        for _ in range(asked.repeat):
            start = time.process_time()
            all_pairs = part_scores(network, features.part[:rows], features.texts)
            between = time.process_time()
            whole, needed = features.prove(blends)
            taken.append(((between - start) * count / rows, time.process_time() - between))
        old, new = (statistics.median(column) for column in zip(*taken, strict=True))
        ratio = statistics.median(mine / before for before, mine in taken)
        differ = 0
        for weight, space in blends if rows == count else []:
            one, other = (rank(blend(network, whole, p, weight, space).numpy()) for p in (all_pairs, needed.scores))
            differ += int((one.images != other.images).sum() + (one.texts != other.texts).sum())
        compared = f"{differ} ranks differ" if rows == count else f"all pairs by {rows} images"
        memory = peak_memory(proof, asked.model, folder, blends)
        found[name] = new, memory
        print(
            f"{asked.features}, {count} x {count}, weight {name}: {100 * needed.bounds / count**2:.2f} % of the pairs "
            f"bounded, {100 * needed.pairs / count**2:.2f} % scored, {new:.1f} for {old:.1f} s, {ratio:.3f}, "
            f"{memory:.0f} MiB ({compared})", flush=True,
        )  # fmt: skip
    return found


def search(asked: argparse.Namespace, count: int, folder: Path) -> None:
    """Prints what searches for the ten best images take."""
    features = Features(asked.model, folder)
    for weight in asked.weights:
        scored, seconds = [], []
        for query in range(QUERIES):
            caption, chunks = features.read[query : query + 1], features.texts[query : query + 1]
            start = time.process_time()
            part_scores(features.network, features.part, chunks)
            between = time.process_time()
            scored.append(best_images(features.network, features.seen, features.part, caption, chunks, 10, weight)[2])
            seconds.append((time.process_time() - between) / (between - start))
        print(
            f"search for 10 of {count}, weight {weight:g}: {statistics.median(scored):.0f} images scored, "
            f"time {statistics.median(seconds):.3f}", flush=True,
        )  # fmt: skip


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models/caft.safetensors", help="the default run's weights")
    parser.add_argument("--images", type=int, nargs="+", default=[520], help="of several sizes, growth is printed too")
    parser.add_argument("--features", choices=("tiny", "base", "random"), default="base")
    parser.add_argument("--weights", type=float, nargs="*", default=[0.3, 0.7, 1.0], help="none: those of the stage")
    parser.add_argument("--rows", type=int, help="images that all pairs are timed on; all of them if left out")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--search", action="store_true", help="also searches for the ten best images")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    grown: dict[str, list[tuple[float, float]]] = {}
    for count in asked.images:
        with tempfile.TemporaryDirectory() as name:
            write(load(asked.model), asked.features, count, Path(name))
            for blends, cost in measure(asked, count, Path(name)).items():
                grown.setdefault(blends, []).append(cost)
            if asked.search:
                search(asked, count, Path(name))
    for blends, costs in grown.items() if len(asked.images) > 2 else []:
        time_power, memory_power = (
            np.polyfit(np.log(asked.images), np.log(column), 1)[0] for column in zip(*costs, strict=True)
        )
        print(f"weight {blends}: time grows as images^{time_power:.2f}, memory as images^{memory_power:.2f}")


if __name__ == "__main__":
    with torch.no_grad():
        main()
