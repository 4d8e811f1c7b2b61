"""Scores of a model in training on the images that its training holds out."""

import numpy as np
import torch

from caft.captions.chunking import balanced_chunks
from caft.captions.tokenizer import pad
from caft.data.tables.schema import FIELDS
from caft.data.training.reader import TrainingIndex
from caft.errors import DataError
from caft.eval.scores.retrieval import recall_at_k
from caft.model.scores import part_scores, whole_scores
from caft.network.caft import CAFT
from caft.params import Params
from caft.train.stalled import time_limit
from caft.transforms import squash


@torch.no_grad()
def validate(model: CAFT, index: TrainingIndex, rows: np.ndarray, params: Params) -> dict[str, float]:
    """Retrieval among held-out images, each with its first long caption of enough sentences, chunks balanced.

    Returns:
        R@1 in percent: `i2t_r1` and `t2i_r1` of the whole score, `part_t2i_r1` of the part score if there is one.
    """
    recipe, device = params.selected_recipe, model.device
    pixels, tokens = [], []
    for row in rows.tolist():
        counts = index.num_sentences(row)
        field = next((f for f, name in enumerate(FIELDS) if name.startswith("long_") and counts[f]), None)
        if field is None:
            continue
        try:
            with time_limit(index.images_root):
                pixels.append(squash(index.picture(row), model.config.image_size))
        except DataError:
            if params.data.damaged == "stop":
                raise
            continue
        groups = balanced_chunks(counts[field], recipe.chunks, recipe.balanced_rule)
        ids = [index.sub_caption_ids(row, [(field, sentence) for sentence in group]) for group in groups]
        tokens.append(pad(ids, model.config.text.context))
    batch = params.evaluation.batch
    images = [model.image_features(torch.stack(pixels[i : i + batch]).to(device)) for i in range(0, len(pixels), batch)]
    whole, parts = model.text_features(torch.stack(tokens).to(device))
    image_whole = torch.cat([features.whole for features in images])
    scores = recall_at_k(whole_scores(model, image_whole, whole).numpy(), ks=(1,))
    if parts is not None:
        segments = torch.cat([features.part for features in images if features.part is not None])
        scores["part_t2i_r1"] = recall_at_k(part_scores(model, segments, parts).numpy(), ks=(1,))["t2i_r1"]
    return scores
