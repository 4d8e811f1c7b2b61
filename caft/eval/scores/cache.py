"""Encoded evaluation sets, kept so that a change of a score does not encode ten thousand images again.

A file is found by a hash of all that its features depend on: the model's weights, all code that encodes (what this module
and the model's import), how captions are read, names, sizes and times of the image files, and the captions. A damaged file
is replaced. One process encodes: for the largest set, 10,000 images, that is minutes on a GPU, and happens once.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from caft.digests import code_digest, tensors_digest
from caft.model.encoding import EncodedCaptions, EncodedImages, encode_captions, encode_cropped
from caft.model.kept import read_kept, write_kept
from caft.model.protocols import RetrievalModel
from caft.params import arithmetic

logger = logging.getLogger(__name__)

_COUNTS = ("cut_chunks", "cut_tokens", "chunks", "tokens", "seen_tokens")


def encode_pairs(
    model: RetrievalModel, images: Sequence[Path], captions: Sequence[str], batch: int, folder: Path | None = None
) -> tuple[EncodedImages, EncodedCaptions]:
    """Encodes a retrieval set, or takes what an earlier call has kept in `folder`; None keeps nothing.

    Raises:
        DataError: An image cannot be decoded, or a caption has no sentence.
    """
    if folder is None:
        return encode_cropped(model.network, images, batch), encode_captions(model, captions, batch)
    key = _key(model, images, captions)
    path = folder / f"{key[:16]}.safetensors"
    if (kept := read_kept(path, key)) is not None:
        tensors, facts = kept
        logger.info("features are taken from %s", path)
        counts = [int(facts[name]) for name in _COUNTS]
        return (
            EncodedImages(tensors["image_whole"], tensors.get("image_part")),
            EncodedCaptions(tensors["caption_whole"], tensors.get("caption_parts"), *counts),
        )
    encoded, read = encode_cropped(model.network, images, batch), encode_captions(model, captions, batch)
    features = {
        "image_whole": encoded.whole,
        "image_part": encoded.part,
        "caption_whole": read.whole,
        "caption_parts": read.parts,
    }
    write_kept(path, key, features, {name: str(getattr(read, name)) for name in _COUNTS})
    return encoded, read


def _key(model: RetrievalModel, images: Sequence[Path], captions: Sequence[str]) -> str:
    """Hash of all that features depend on."""
    keys = ("model", "splitter", "chunks", "balanced_rule")
    reading = {key: value for key, value in model.card.record().items() if key in keys}
    files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in images]
    weights = tensors_digest(model.network.state_dict().items())
    code = code_digest([__name__, type(model.network).__module__])
    content = [torch.__version__, model.network.device.type, arithmetic.current(), reading, weights, code]
    return hashlib.sha256(json.dumps([*content, files, list(captions)], sort_keys=True).encode()).hexdigest()
