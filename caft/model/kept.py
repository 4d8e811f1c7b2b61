"""Tensors kept in a file for a next time: taken only if they are what was asked for, whole and unchanged."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from caft.digests import tensors_digest
from caft.storage import replacing

logger = logging.getLogger(__name__)


def read_kept(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """Tensors and facts that `write_kept` wrote under this key.

    Returns:
        None if there is no file, or if it has another key or is damaged, which a line of the log says.
    """
    if not os.path.isfile(path):  # False, and no error, also where the folder may not be read
        return None
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
        if facts.pop("digest") != _digest(tensors, facts):
            raise ValueError("its content is not what was written")
        kept_under = facts.pop("key")
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        logger.warning("%s: is damaged (%s) and is computed anew", path, error)
        return None
    if kept_under != key:
        logger.info("%s: is of another version of the code or the model, and is computed anew", path)
        return None
    return tensors, facts


def write_kept(path: Path, key: str, tensors: Mapping[str, Tensor | None], facts: Mapping[str, str]) -> None:
    """Keeps tensors, by name, and facts about them in a `.safetensors` file under a key that differs where they would.

    Tensors that are None are left out. A disk without room stops nothing.
    """
    present = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}
    head = {**facts, "key": key}
    head["digest"] = _digest(present, head)
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(save(present, head))  # as weights are written
    except (SafetensorError, OSError) as error:
        logger.warning("%s: features are not kept (%s)", path, error)


def _digest(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> str:
    return hashlib.sha256(
        (tensors_digest(sorted(tensors.items())) + json.dumps(facts, sort_keys=True)).encode()
    ).hexdigest()
