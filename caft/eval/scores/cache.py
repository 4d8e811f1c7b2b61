"""Encoded evaluation sets, kept so that a change of a score does not encode ten thousand images again.

A file is found by a hash of all that its features depend on: weights and code of the model, how it reads captions, names,
sizes and times of the image files, and the captions. What is damaged is made again. One process encodes: for the largest
set, 10,000 images, that is minutes on a GPU, and happens once.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import caft.network.layers
from caft import storage
from caft.model.encoding import EncodedCaptions, EncodedImages, encode_captions, encode_cropped
from caft.model.protocols import RetrievalModel

logger = logging.getLogger(__name__)

# Code that features depend on.
_CODE = ("network", "captions", "model/encoding.py", "transforms.py")
_COUNTS = ("cut_chunks", "cut_tokens", "chunks", "tokens", "seen_tokens")


def encode_pairs(
    model: RetrievalModel, images: Sequence[Path], captions: Sequence[str], batch: int, folder: Path | None = None
) -> tuple[EncodedImages, EncodedCaptions]:
    """Encodes a retrieval set, or takes what an earlier call has kept.

    Args:
        model: The model.
        images: Files.
        captions: Texts.
        batch: Images or captions at once.
        folder: Where features are kept; None keeps nothing.

    Raises:
        DataError: An image cannot be decoded, or a caption has no sentence.
    """
    if folder is None:
        return encode_cropped(model.network, images, batch), encode_captions(model, captions, batch)
    key = _key(model, images, captions)
    path = folder / f"{key[:16]}.safetensors"
    if (kept := _read(path, key)) is not None:
        logger.info("features are taken from %s", path)
        return kept
    found = encode_cropped(model.network, images, batch), encode_captions(model, captions, batch)
    _write(path, key, *found)
    return found


def _key(model: RetrievalModel, images: Sequence[Path], captions: Sequence[str]) -> str:
    """Hash of all that features depend on."""
    keys = ("model", "splitter", "chunks", "balanced_rule")
    reading = {key: value for key, value in model.card.record().items() if key in keys}
    files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in images]
    settings = [reading, files, list(captions)]
    digest = hashlib.sha256(
        json.dumps([torch.__version__, model.network.device.type, *settings], sort_keys=True).encode()
    )
    package = Path(caft.network.layers.__file__).parents[1]
    for name in _CODE:
        place = package / name
        for source in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(source.read_bytes())
    digest.update(_digest(model.network.state_dict().items()).encode())
    return digest.hexdigest()


def _digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(path: Path, key: str) -> tuple[EncodedImages, EncodedCaptions] | None:
    """What a file holds; None if there is none, or it is damaged."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if facts.get("key") != key or facts.get("digest") != _digest(sorted(tensors.items())):
            raise ValueError("its content is not what was written")
        counts = [int(facts[name]) for name in _COUNTS]
        images = EncodedImages(tensors["image_whole"], tensors.get("image_part"))
        return images, EncodedCaptions(tensors["caption_whole"], tensors.get("caption_parts"), *counts)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        logger.warning("%s: is damaged (%s); the set is encoded again", path, error)
        return None


def _write(path: Path, key: str, images: EncodedImages, captions: EncodedCaptions) -> None:
    """Keeps features; a disk that has no room for them stops nothing."""
    named = {
        "image_whole": images.whole,
        "image_part": images.part,
        "caption_whole": captions.whole,
        "caption_parts": captions.parts,
    }
    tensors = {name: tensor.contiguous() for name, tensor in named.items() if tensor is not None}
    facts = {name: str(getattr(captions, name)) for name in _COUNTS}
    try:
        with storage.replacing(path) as temporary:
            save_file(tensors, temporary, {**facts, "key": key, "digest": _digest(sorted(tensors.items()))})
    except (SafetensorError, OSError) as error:
        logger.warning("%s: features are not kept (%s)", path, error)
