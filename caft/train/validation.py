"""Scores of a model in training on the images that its training holds out."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from caft.captions.chunking import balanced_chunks
from caft.captions.tokenizer import pad
from caft.data.tables.schema import FIELDS
from caft.data.training.reader import TrainingIndex
from caft.errors import DataError
from caft.eval.scores.retrieval import recall_at_k
from caft.model.scores import part_scores, whole_scores
from caft.network.caft import CAFT
from caft.params import Params
from caft.train.distributed import World, of_all, of_main_tensor
from caft.train.stalled import time_limit
from caft.transforms import squash

Encoded = tuple[Tensor, Tensor | None, Tensor, Tensor | None]  # whole and part of images, whole and part of texts


@torch.no_grad()
def validate(model: CAFT, index: TrainingIndex, rows: np.ndarray, params: Params, world: World) -> dict[str, float]:
    """Retrieval among held-out images, each with its first long caption of enough sentences, chunks balanced.

    Called by all ranks, which share the work: of n images, a rank reads, encodes and compares with all at most
    n / ranks, rounded up, and then waits for the others.

    Returns:
        R@1 in percent: `i2t_r1` and `t2i_r1` of the whole score, `part_t2i_r1` of the part score if there is one; on the
        main rank, and nothing on others.
    """
    for buffer in model.buffers():  # statistics of batch norm are those of each rank's last batch
        of_main_tensor(buffer)
    captioned = list(_captioned(index, rows))
    share = math.ceil(len(captioned) / world.size)
    mine = captioned[world.rank * share : (world.rank + 1) * share]
    batch = params.evaluation.batch
    parts = [_encoded(model, index, mine[i : i + batch], params) for i in range(0, len(mine), batch)]
    everything = [part for parts in of_all([part for part in parts if part is not None]) for part in parts]
    if not everything:  # nothing is held out of fewer than four images, and short captions are not asked for
        return {}
    wholes = torch.cat([whole for whole, _, _, _ in everything])
    segments = [part for _, part, _, _ in everything if part is not None]
    own = [part for part in parts if part is not None]
    whole, part = torch.empty(len(wholes), 0), torch.empty(len(wholes), 0)
    if own:
        whole = whole_scores(model, wholes, torch.cat([text for _, _, text, _ in own]))
        texts = [text for _, _, _, text in own if text is not None]
        if texts:
            part = part_scores(model, torch.cat(segments).to(model.device), torch.cat(texts).to(model.device))
    columns = of_all((whole, part))
    if not world.is_main:
        return {}
    scores = recall_at_k(torch.cat([whole for whole, _ in columns], 1).numpy(), ks=(1,))
    if segments:
        found = recall_at_k(torch.cat([part for _, part in columns], 1).numpy(), ks=(1,))
        scores["part_t2i_r1"] = found["t2i_r1"]
    return scores


def _captioned(index: TrainingIndex, rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Rows with a long caption, and the field of the first."""
    for row in rows.tolist():
        counts = index.num_sentences(row)
        field = next((f for f, name in enumerate(FIELDS) if name.startswith("long_") and counts[f]), None)
        if field is not None:
            yield row, field


def _encoded(model: CAFT, index: TrainingIndex, some: Sequence[tuple[int, int]], params: Params) -> Encoded | None:
    """Features on the CPU of the images that can be read, and of their captions; None of none."""
    recipe, device = params.selected_recipe, model.device
    pixels, tokens = [], []
    for row, field in some:
        try:
            with time_limit(index.images_root):
                pixels.append(squash(index.picture(row), model.config.image_size))
        except DataError:
            if params.data.damaged == "stop":
                raise
            continue
        groups = balanced_chunks(index.num_sentences(row)[field], recipe.chunks, recipe.balanced_rule)
        ids = [index.sub_caption_ids(row, [(field, sentence) for sentence in group]) for group in groups]
        tokens.append(pad(ids, model.config.text.context))
    if not pixels:
        return None
    images = model.image_features(torch.stack(pixels).to(device))
    whole, parts = model.text_features(torch.stack(tokens).to(device))
    return (
        images.whole.cpu(),
        images.part.cpu() if images.part is not None else None,
        whole.cpu(),
        parts.cpu() if parts is not None else None,
    )
