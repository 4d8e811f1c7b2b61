"""What a page holds of a model: its weights and card, and CLIP's vocabulary, as text."""

import base64
import json
import zlib
from typing import Any

import numpy as np
from safetensors.torch import save

from caft.demo.vocabulary import merges
from caft.errors import CheckpointError
from caft.model.encoding import encode_sub_captions
from caft.model.match import GENERAL_SENTENCES
from caft.model.model import Model

# Of the weights, what is for training alone.
_UNUSED = ("num_batches_tracked",)
# Of the card, what a page has no use for.
_KEPT = ("splitter", "chunks", "balanced_rule", "model", "fingerprint")


def page_parts(model: Model) -> dict[str, Any]:
    """The card, and as base64 the weights and the vocabulary, for `Caft.unpack`.

    Among the weights is, as `references`, what the part level compares of the sentences that `Model.match` ranks among, so
    that a page need not read them.

    Weights are a safetensors file whose bytes are sorted by their place in a word of four, deflated: a tenth smaller than
    as they come.

    Raises:
        CheckpointError: The model has a structure that pages do not run.
    """
    require_structure(model)
    state = {
        name: tensor.contiguous() for name, tensor in model.network.state_dict().items() if not name.endswith(_UNUSED)
    }
    state["references"] = encode_sub_captions(model.network, model.card.references or GENERAL_SENTENCES).cpu()
    planes = np.frombuffer(save(state), np.uint8).reshape(-1, 4).T
    record = model.card.record()
    return {
        "card": {name: record[name] for name in _KEPT if name in record},
        "weights": _packed(planes.tobytes()),
        "vocabulary": _packed("\n".join(map(" ".join, merges())).encode()),
    }


def script_text(parts: dict[str, Any]) -> str:
    """JSON that may stand in a `<script type="application/json">` as it is."""
    return json.dumps(parts).replace("<", "\\u003c")


def require_structure(model: Model) -> None:
    """Refuses a model of another structure than `tiny`'s, which is also `base`'s.

    Raises:
        CheckpointError: Says what it lacks.
    """
    sizes = model.card.sizes
    has = {
        "superpixels": sizes.superpixels is not None,
        "part level": sizes.grounding is not None,
        "levels of their own": sizes.levels == "separate",
        "whole-caption transformer": sizes.text.whole_layers is not None,
    }
    if lacking := [name for name, there in has.items() if not there]:
        raise CheckpointError(
            f"the model has no {' and no '.join(lacking)}; a page runs models of the structure of tiny and base alone"
        )


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 6)).decode()
