"""The model in plain JavaScript, for pages without a server and without a request."""

import html.entities
import json
import re
from pathlib import Path

from ftfy.badness import BADNESS_RE

# Each builds on those before it.
FILES = (
    "tensors.js",  # rows of numbers: products, norms, attention, blocks
    "convolutions.js",
    "weights.js",  # the safetensors file, and how a page holds it
    "pixels.js",  # Pillow's resizing
    "words.js",  # characters as Python sees them
    "cleaning.js",  # ftfy and entities
    "tokenizer.js",  # CLIP's byte pairs
    "sentences.js",
    "superpixels.js",
    "sampling.js",  # farthest points
    "tower.js",  # the image tower
    "text.js",  # both text transformers
    "pool.js",  # texts that ask segments
    "maps.js",  # enlarging, Otsu's threshold
    "scores.js",  # CAFT++ and its shares
    "caft.js",  # the model
)


def engine_source() -> str:
    """A script that defines `Caft`; caft.js says what it has. It may stand in a `<script>` as it is, or run in a worker."""
    folder = Path(__file__).parent
    tables = {"ENTITIES": {"__proto__": None, **html.entities.html5}, "MISREAD": _plain(BADNESS_RE.pattern)}
    given = "".join(f"const {name} = {json.dumps(table)};\n" for name, table in tables.items()).replace("<", "\\u003c")
    parts = [f"// {name}\n{(folder / name).read_text(encoding='utf-8')}" for name in FILES]
    return f'const Caft = (() => {{\n"use strict";\n{given}' + "\n".join(parts) + "\nreturn Caft;\n})();\n"


def _plain(pattern: str) -> str:
    """A verbose pattern of Python without its comments and spaces; those of classes stay."""
    kept = re.findall(r"\[[^\]]*\]|\\.|#.*|\s+|.", pattern)
    return "".join(part for part in kept if not part.startswith("#") and not part.isspace())
