"""Scores of a form on evaluation sets: R@1 of retrieval, and the mean IoU of the masks of referring expressions."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from caft.captions.tokenizer import tokenize
from caft.data.sets import Missing, ReferringSet, RetrievalSet, load_referring, load_retrieval
from caft.errors import DataError
from caft.eval.scores.referring import ReferringTally
from caft.eval.scores.retrieval import recall_at_k
from caft.export.running import Form
from caft.model.encoding import token_rows
from caft.model.model import Model
from caft.params import Params
from caft.transforms import center_crop, open_image, squash

_BATCH = 64
_PART_WEIGHT = 0.3  # of CAFT++, as `Model.similarity`

Sets = Mapping[str, RetrievalSet | ReferringSet]


def find_sets(params: Params, names: Sequence[str] | None) -> Sets:
    """Evaluation sets of the settings by name; None: the first of each kind that is there.

    Raises:
        DataError: A set that is named is not there, or of another kind.
    """
    loaders = {"retrieval": load_retrieval, "referring": load_referring}
    found: dict[str, RetrievalSet | ReferringSet] = {}
    kinds = set[str]()
    usable = [name for name, benchmark in params.benchmarks.items() if benchmark.kind in loaders]
    if unknown := [name for name in names or () if name not in usable]:
        raise DataError(
            f"--sets: {unknown[0]!r} is no retrieval or referring set of params.yaml; it has {', '.join(usable)}"
        )
    for name in usable if names is None else names:
        benchmark = params.benchmarks[name]
        if names is None and benchmark.kind in kinds:
            continue
        try:
            loaded = loaders[benchmark.kind](benchmark)
        except DataError as error:
            raise DataError(f"benchmark {name}: {error}") from error
        if not isinstance(loaded, Missing):
            found[name] = loaded
            kinds.add(benchmark.kind)
        elif names is not None:
            raise DataError(f"--sets: {name}: {loaded.reason}")
    return found


def score(form: Form, model: Model, sets: Sets) -> dict[str, dict[str, float]]:
    """Percent by set and name of the score; a referring set needs a part level."""
    found = {}
    for name, loaded in sets.items():
        if isinstance(loaded, RetrievalSet):
            found[name] = _retrieval(form, model, loaded)
        elif model.network.has_part:
            found[name] = {"mIoU": _grounding(form, model, loaded)}
    return found


def _retrieval(form: Form, model: Model, pairs: RetrievalSet) -> dict[str, float]:
    """R@1 of CAFT++, or of the whole level where there is no other."""
    network = model.network
    images = [form.run("image", {"pixels": pixels}) for pixels in _crops(pairs.images, network.image_size)]
    whole = np.concatenate([found["whole"] for found in images])
    captions, parts = [], []
    for first in range(0, len(pairs.captions), _BATCH):
        ids = token_rows(model.card, pairs.captions[first : first + _BATCH], network.context, first).ids
        texts = form.run("text", {"tokens": ids.flatten(0, 1).numpy()})
        captions.append(form.run("caption", {"features": texts["features"].reshape(*ids.shape[:2], -1)})["whole"])
        if "texts" in texts:
            parts.append(texts["texts"])
    scores = network.whole_scale * whole @ np.concatenate(captions).T
    if network.has_part:
        bias = float(network.temperature("part")[1].detach())
        rows = []
        for found in images:
            logits = [form.run("score", {"segments": found["segments"], "texts": part})["logits"] for part in parts]
            rows.append(np.concatenate(logits, axis=1))
        part_scores = np.concatenate(rows).reshape(len(scores), len(pairs.captions), -1).mean(2) - bias
        scores = (1 - _PART_WEIGHT) * scores + _PART_WEIGHT * part_scores
    recall = recall_at_k(scores, pairs.truth, ks=(1,))
    return {"R@1 I2T": recall["i2t_r1"], "R@1 T2I": recall["t2i_r1"]}


def _crops(paths: Sequence[Path], size: int) -> Iterator[NDArray[np.uint8]]:
    for first in range(0, len(paths), _BATCH):
        yield torch.stack([center_crop(open_image(path), size) for path in paths[first : first + _BATCH]]).numpy()


def _grounding(form: Form, model: Model, loaded: ReferringSet) -> float:
    """Mean IoU of the masks, as `caft.eval.scores.referring` makes them of maps."""
    network, tally = model.network, ReferringTally()
    context, stage = network.context, network.config.part_stage - 1
    for image in loaded.images:
        found = form.run("image", {"pixels": squash(image.picture, network.image_size)[None].numpy()})
        rows = tokenize([expression.text for expression in image.expressions], context).numpy()
        texts = form.run("text", {"tokens": rows})["texts"]
        attention = form.run("score", {"segments": found["segments"], "texts": texts})["attention"][0]
        maps = torch.from_numpy(attention[:, found["labels"][0, stage]])[None]
        maps = F.interpolate(maps, size=(image.height, image.width), mode="bilinear", align_corners=False)[0]
        objects, places = list(image.masks.values()), list(image.masks)
        for values, expression in zip(maps.numpy(), image.expressions, strict=True):
            tally.add(values, objects, places.index(expression.annotation))
    return float(tally.scores()["miou"])
