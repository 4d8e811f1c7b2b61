"""The live page: a model, its engine and some pictures in one file, from which no request leaves."""

import base64
import hashlib
import html
import re
import zlib
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch

from caft.demo.engine import engine_source
from caft.demo.parts import page_parts, require_structure, script_text
from caft.demo.scenes import Scenes
from caft.errors import CheckpointError
from caft.model.model import Model

LARGEST = 20_000_000  # bytes of a page
_STATIC = Path(__file__).with_name("static")
_SCRIPTS = ("draw.js", "shown.js", "main.js")
# Nothing is fetched: no source of requests, and scripts and styles are those of the page itself, by their digests.
_POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; img-src data:; worker-src blob:; "
    "base-uri 'none'; form-action 'none'"
)


def demo_page(model: Model, scenes: Scenes) -> str:
    """A page that runs a model on pictures and captions of whoever opens it, and searches some pictures that it holds.

    Args:
        model: The model. Its word embeddings are rounded to half precision, which moves a map by less than
            0.0001 and makes the page half as large.
        scenes: Pictures to begin with and to search.

    Raises:
        CheckpointError: The model is of another structure than pages run, or too large for one.
    """
    require_page(model)
    style, script = _static("page.css"), _wrapped(*map(_static, _SCRIPTS))
    pictures = [
        {"name": scene.name, "caption": scene.caption, "type": scene.type, "data": _base64(scene.content)}
        for scene in scenes.pictures
    ]
    page = _filled(
        _static("page.html"),
        {
            "policy": html.escape(_POLICY.format(script=_digest(script), style=_digest(style)), quote=False),
            "style": style,
            "script": script,
            "worker": engine_source() + _wrapped(_static("work.js")),
            "about": html.escape(_about(model)),
            "set": html.escape(scenes.title.encode(errors="replace").decode()),  # a folder's name may be no text
            "model": script_text(page_parts(_for_page(model))),
            "pictures": script_text({"pictures": pictures}),
            "features": _base64(zlib.compress(_features(model, scenes))) if pictures else "",
        },
    )
    if (size := len(page.encode())) > LARGEST:
        raise CheckpointError(
            f"the page would have {_megabytes(size)}, at most {_megabytes(LARGEST)}: give fewer pictures"
        )
    return page


def absent_page(reason: str) -> str:
    """A page that says why a model has none."""
    return _filled(_static("absent.html"), {"reason": html.escape(reason)})


def require_page(model: Model) -> None:
    """Refuses what no page runs.

    Raises:
        CheckpointError: The model is of another structure, or too large.
    """
    require_structure(model)
    size = sum(parameter.numel() for parameter in model.network.parameters()) * 2 * 4 // 3
    if size > LARGEST:
        raise CheckpointError(
            f"the model's weights alone would take {_megabytes(size)} of a page, at most {_megabytes(LARGEST)}; pages run "
            "models of the size of `tiny` of params.yaml. For larger ones: caft ground, caft search and caft export"
        )


def _for_page(model: Model) -> Model:
    """With word embeddings that deflate to less."""
    network = deepcopy(model.network).cpu()
    with torch.no_grad():
        embedding = network.sub_caption.embedding.weight
        embedding.copy_(embedding.half())
    return Model(network, model.card)


def _features(model: Model, scenes: Scenes) -> bytes:
    """What the model sees in the pictures: of each the whole-level feature in float32, then segments in half precision."""
    encoded = model.encode_images([scene.content for scene in scenes.pictures])
    assert encoded.part is not None, "pages run models with a part level"
    rows = (encoded.whole.numpy(), encoded.part.half().numpy())
    return np.concatenate([values.reshape(len(values), -1).view(np.uint8) for values in rows], axis=1).tobytes()


def _about(model: Model) -> str:
    card = model.card
    count = sum(corpus.count for corpus in card.data)
    trained = f", trained on {count:,} pictures" if count else ""
    only = " It has seen rendered shapes only: photographs, and texts about them, mean nothing to it."
    return f"Model {card.fingerprint or 'without a name'}{trained}.{only if card.is_of_rendered_shapes else ''}"


def _static(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8")


def _wrapped(*scripts: str) -> str:
    """Scripts with names of their own."""
    return '(() => {\n"use strict";\n' + "\n".join(scripts) + "})();\n"


def _filled(template: str, values: Mapping[str, str]) -> str:
    """A template with `{{name}}` replaced; values are not looked through."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template)


def _digest(content: str) -> str:
    return f"'sha256-{_base64(hashlib.sha256(content.encode()).digest())}'"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
