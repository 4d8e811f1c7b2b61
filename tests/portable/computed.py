"""What the pipeline computes, at small sizes, as digests: run by test_processors.py as rank 0 or 1 of two processes.

    python tests/portable/computed.py FOLDER STEPS [weights]

The last argument leaves it at the weights after the steps. An environment without CAFT_ARITHMETIC=portable makes it run
as the processor is fastest.
"""

import hashlib
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import caft.params.arithmetic  # isort: skip  # before numpy and torch
import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from caft.captions.tokenizer import tokenize
from caft.data.scenes.captions import captions
from caft.data.scenes.grammar import training_scene
from caft.data.scenes.render import jpeg, render
from caft.data.scenes.sets import write_benchmarks
from caft.data.sets import load_referring
from caft.data.training.batch import Batch
from caft.data.training.leakage import perceptual_hash, thumbnail
from caft.eval.analysis.superpixel_methods import compare_methods
from caft.eval.scores import referring, regions, retrieval_sets
from caft.eval.scores.superpixels import score_superpixels
from caft.model.card import ModelCard
from caft.model.model import Model
from caft.network.caft import CAFT
from caft.params import Params, load_params
from caft.train.distributed import World, seed_step, start, stop
from caft.train.superpixels import train_superpixels
from caft.train.task import TrainingTask
from caft.train.trainer import Trainer
from caft.transforms import random_resized_crop, squash

PROJECT = Path(__file__).parents[2]
PICTURES, SIDE = 8, 64
SFCN_STEPS = 3


def digest(values: Iterable[object]) -> str:
    """Digest of tensors, arrays, bytes and of what `repr` shows of anything else."""
    found = hashlib.sha256()
    for value in values:
        if isinstance(value, Tensor):
            value = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        content = np.ascontiguousarray(value).tobytes() if isinstance(value, np.ndarray) else value
        found.update(content if isinstance(content, bytes) else repr(content).encode())
    return found.hexdigest()[:16]


class Trace(TorchDispatchMode):
    """Digests of the results of every operation, in their order, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[str]] = {}

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):  # type: ignore[no-untyped-def]
        result = operation(*arguments, **(keywords or {}))
        tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        # What is new holds whatever was there; a view of it, too.
        if not operation.is_view and "empty" not in str(operation):
            self.found.setdefault(str(operation), []).append(digest(tensors))
        return result

    def digests(self) -> dict[str, str]:
        return {f"operation {name}": digest(found) for name, found in sorted(self.found.items())}


def pictures() -> Iterator[tuple[bytes, list[str]]]:
    """Pictures as they are served, with their captions."""
    for number in range(PICTURES):
        rng = np.random.default_rng(number)
        scene = training_scene(0, number)
        yield jpeg(render(scene, rng, SIDE).image), captions(scene, rng)


def batches(world: World, images: Tensor, tokens: Tensor, steps: int) -> Iterator[Batch]:
    share = len(images) // world.size
    rows = torch.arange(share) + world.rank * share
    for step in range(steps):
        order = (rows + step) % len(images)
        yield Batch(images[order], tokens[order], order)


def trained(params: Params, world: World, images: Tensor, tokens: Tensor, steps: int, folder: Path) -> CAFT:
    """A model after steps of the training loop."""
    recipe = params.selected_recipe.model_copy(
        update={"warmup_steps": 1, "checkpoint_every": 1000, "validate_every": 1000}
    )
    seed_step(0, -1, 0)
    model = CAFT(params.selected_model, recipe.chunks, recipe.scale_start, recipe.bias_start)
    trainer = Trainer(TrainingTask(model, recipe, 0), recipe, world, folder, "none", steps, 0)
    trainer.train(
        batches(world, images, tokens, steps),
        lambda batch: model.superpixel_labels(batch.images),
        lambda: {"t2i_r1": 0.0},
    )
    return model.eval()


def traced(params: Params, images: Tensor, tokens: Tensor) -> dict[str, str]:
    """Digests of all operations of a training step, of one of SFCN and of the model's use."""
    recipe = params.selected_recipe
    with Trace() as trace:
        seed_step(0, -1, 0)
        model = CAFT(params.selected_model, recipe.chunks, recipe.scale_start, recipe.bias_start)
        task = TrainingTask(model, recipe, 0)
        optimizer = torch.optim.AdamW(task.parameters(), fused=True)
        task(images, model.superpixel_labels(images), tokens, 0)["loss"].backward()
        torch.nn.utils.clip_grad_norm_([p for p in task.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        assert params.selected_model.superpixels is not None
        one = params.superpixels.model_copy(update={"steps": 1})
        train_superpixels(params.selected_model.superpixels, one, lambda step: images, 0)
    return trace.digests()


def scored(params: Params, model: Model, folder: Path) -> Iterator[tuple[str, object]]:
    """Features, scores, masks and metrics on small sets."""
    images = sorted((folder / "data/benchmarks/scenes/random/image").iterdir())[:8]
    texts = [path.read_text() for path in sorted((folder / "data/benchmarks/scenes/random/caption").iterdir())[:8]]
    yield "similarity", model.similarity(images, texts)
    yield "maps", model.ground(images[0], texts[0])
    yield "segments", repr([level.tolist() for level in model.segment(images[0])])
    os.chdir(folder)
    yield "retrieval", retrieval_sets.score_benchmarks(params, model)
    found = load_referring(params.benchmarks["phrase"])
    yield "masks", referring.score_expressions(model.network, found, 8)  # type: ignore[arg-type]
    yield "regions", regions.score_benchmarks(params, model)
    yield "boundaries", score_superpixels(model.network.superpixels, SIDE, 8, found)  # type: ignore[arg-type]
    (case,) = compare_methods(model.network, found, 1, 1)[1]  # type: ignore[arg-type]
    yield "superpixel methods", repr([(name, labels.tolist()) for name, labels in case.labels.items()])


def waves() -> dict[str, str]:
    """Digests of numpy's functions."""
    values, found = np.abs(np.linspace(-9, 9, 1001)), {}
    for name in ("sin", "cos", "exp", "log1p", "sqrt", "tanh"):
        for kind in (np.float32, np.float64):
            found[f"numpy {name} {kind.__name__}"] = digest([getattr(np, name)(values.astype(kind))])
    return found


def used(params: Params, model: CAFT, images: Tensor, folder: Path) -> dict[str, str]:
    """Digests of a few steps of SFCN, its labels, the evaluation sets, and what the model makes of them."""
    sizes, scenes = params.selected_model.superpixels, params.corpus["scenes"]
    assert sizes is not None
    training = params.superpixels.model_copy(update={"steps": SFCN_STEPS})
    model.superpixels = train_superpixels(sizes, training, lambda step: images.roll(step, 0)[:4], 0)
    found = {"superpixel weights": digest(model.superpixels.parameters())}
    found["labels"] = digest([model.superpixel_labels(images)])
    write_benchmarks(folder / "data/benchmarks/scenes", scenes)  # type: ignore[arg-type]
    files = sorted(path for path in (folder / "data").rglob("*") if path.is_file())
    found["benchmarks"] = digest(path.read_bytes() for path in files)
    card = ModelCard(splitter="spacy", chunks=4, balanced_rule="paper", model=model.config, fingerprint="0" * 16)
    return found | {name: digest([values]) for name, values in scored(params, Model(model, card), folder)}


def main() -> None:
    folder, steps, is_weights_alone = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] == ["weights"]
    (folder / "run").mkdir(parents=True)
    (folder / "small.yaml").write_text(
        yaml.safe_dump(
            {
                "corpus": {"scenes": {"evaluation_images": 8, "regions": 4}},
                "benchmarks": {name: {"pairs": 8} for name in ("random", "look_alike")},
            }
        )
    )
    params = load_params(PROJECT / "params.yaml", [folder / "small.yaml"])
    served = list(pictures())
    opened = [Image.open(io.BytesIO(content)).convert("RGB") for content, _ in served]
    images = torch.stack([squash(picture, SIDE) for picture in opened])
    count = params.selected_recipe.sub_captions
    tokens = tokenize([text for _, texts in served for text in (texts + texts)[:count]]).unflatten(0, (-1, count))
    world = start()
    model = trained(params, world, images, tokens, steps, folder / "run")
    found = {"weights over two ranks": digest(model.parameters())}
    stop()
    if not is_weights_alone:
        found["arithmetic"] = caft.params.arithmetic.current()
        found["pictures"] = digest(content for content, _ in served)
        found["pixels"] = digest([images, *(squash(picture.resize((171, 113)), 48) for picture in opened)])
        found["crops"] = digest(
            random_resized_crop(picture.resize((171, 113)), 48, (0.3, 1.0), np.random.default_rng(number))
            for number, picture in enumerate(opened)
        )
        found["hashes"] = digest(part for picture in opened for part in (perceptual_hash(picture), thumbnail(picture)))
        found |= waves()
        found |= traced(params, images[:4], tokens[:4]) if world.rank else used(params, model, images, folder)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
