"""The engine in Chromium, and a small model with random weights for it."""

import html
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from caft.demo.engine import engine_source
from caft.demo.parts import script_text
from caft.model.card import ModelCard
from caft.model.model import Model
from tests.eval.browser import browse
from tests.export.conftest import random_network, sizes

# What a script returns goes to the page's text; what it throws, too.
PAGE = """<!doctype html><meta charset="utf-8"><script>%s</script>
<script type="application/json" id="given">%s</script><pre id="found"></pre>
<script>
const given = JSON.parse(document.getElementById("given").textContent);
const bytes = text => Uint8Array.from(atob(text), character => character.charCodeAt(0));
const say = found => { document.getElementById("found").textContent = JSON.stringify(found); };
(async () => { %s })().then(say, error => say({error: String(error.stack)}));
</script>"""

InBrowser = Callable[..., Any]


@pytest.fixture(scope="session")
def in_browser(require_system, tmp_path_factory) -> InBrowser:
    """A function that runs a script with the engine in Chromium: `script` is given `given`, and what it returns comes back.

    With `waits` the page's own clock leaps until what is awaited has come; without, it is a clock, and nothing may be awaited.
    """
    program = require_system("chromium")

    def run(script: str, given: dict[str, Any], waits: bool = True) -> Any:
        folder = tmp_path_factory.mktemp("page")
        page = folder / "page.html"
        page.write_text(PAGE % (engine_source(), script_text(given), script), encoding="utf-8")
        flags = ["--dump-dom", *(["--virtual-time-budget=600000"] if waits else [])]
        document, console = browse(program, page, folder / "profile", *flags)
        found = re.search(r'<pre id="found">(.*?)</pre>', document, re.S)
        assert found and found[1] and console == [], (document[-500:], console)
        answer = json.loads(html.unescape(found[1]))
        assert not (isinstance(answer, dict) and "error" in answer), answer["error"]
        return answer

    return run


@pytest.fixture(scope="session")
def small_model() -> Model:
    """Of `tiny`'s structure with three stages, and widths that are all different."""
    tiny = sizes()
    text = tiny.text.model_copy(update={"width": 16, "heads": 2, "adapter": 10})
    grounding = tiny.grounding.model_copy(update={"heads": 3})
    changes = {
        "image_size": 32,
        "tokens": (16, 8, 4),
        "blocks": (1, 2, 1),
        "width": 32,
        "embed_dim": 24,
        "mlp_ratio": 3,
    }
    config = tiny.model_copy(update={**changes, "text": text, "grounding": grounding})
    references = ("A cat sleeps.", "A dog runs along a beach.", "It rains.")
    card = ModelCard(
        splitter="spacy", chunks=4, balanced_rule="paper", model=config, fingerprint="0123456789abcdef",
        references=references,
    )  # fmt: skip
    return Model(random_network(config), card)
