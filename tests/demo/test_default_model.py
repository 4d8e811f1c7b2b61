"""The default run's model in a browser: 20 pictures with 5 sentences each, and how long a sentence takes."""

import base64
import zlib
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import caft
from caft.data.sets import load_retrieval
from caft.demo.parts import page_parts
from caft.model.encoding import encode_squashed
from caft.model.model import Model
from caft.params import load_params
from caft.transforms import open_image

pytestmark = [pytest.mark.verify, pytest.mark.slow]

PROJECT = Path(__file__).parents[2]
PICTURES, SENTENCES = 20, 5
SCRIPT = """
const model = Caft.open({...given, weights: bytes(given.weights)});
const found = given.pictures.map(({rgba, width, height, sentences, caption}) => {
  const began = performance.now(), picture = model.see(Caft.squash(bytes(rgba), width, height, model.size));
  const seconds = [(performance.now() - began) / 1000];
  const looks = sentences.map(sentence => {
    const asked = performance.now(), look = model.look(picture, model.read([sentence]).texts)[0];
    model.mask(look.map, height, width);
    seconds.push((performance.now() - asked) / 1000);
    return look;
  });
  const cropped = width === height ? picture : model.see(Caft.centre(bytes(rgba), width, height, model.size));
  const score = model.score(cropped, model.caption(caption));
  return {
    seconds, maps: looks.map(look => [...look.map]), logits: looks.map(look => look.logit),
    labels: picture.labels.map(labels => [...labels]), score,
  };
});
return {found, requests: performance.getEntriesByType("resource").length};
"""


def rounded(model: Model) -> Model:
    """With word embeddings as a page may hold them, in half precision."""
    network = deepcopy(model.network)
    with torch.no_grad():
        embedding = network.sub_caption.embedding.weight
        embedding.copy_(embedding.half())
    return Model(network, model.card)


def unpacked(parts: dict[str, Any]) -> dict[str, Any]:
    """What `Caft.unpack` makes of the parts, which takes a moment that a page's clock cannot be asked for."""
    weights, vocabulary = (zlib.decompress(base64.b64decode(parts[name])) for name in ("weights", "vocabulary"))
    words = np.frombuffer(weights, np.uint8).reshape(4, -1).T
    return {
        "card": parts["card"],
        "weights": base64.b64encode(words.tobytes()).decode(),
        "vocabulary": vocabulary.decode(),
    }


@pytest.mark.parametrize("form", ["exact", "rounded"])
def test_maps_picks_and_scores_are_those_of_torch(form, in_browser, monkeypatch):
    monkeypatch.chdir(PROJECT)
    if not Path("models/caft.safetensors").exists():
        pytest.skip("the default run's model is not here; `make repro` trains it")
    model = caft.load("models/caft.safetensors")
    pairs = load_retrieval(load_params(Path("params.yaml")).benchmarks["random"])
    pictures = [open_image(path) for path in pairs.images[:PICTURES]]
    captions = pairs.captions[:PICTURES]
    # Sentences of the picture's own caption, and of others', which are not true of it.
    asked = [
        [sentence for of in range(SENTENCES) for sentence in model.sentences(captions[(number + of) % PICTURES])]
        for number in range(PICTURES)
    ]
    asked = [sentences[:SENTENCES] for sentences in asked]
    given = {
        **unpacked(page_parts(model if form == "exact" else rounded(model))),
        "pictures": [
            {
                "rgba": base64.b64encode(np.array(picture.convert("RGBA")).tobytes()).decode(),
                "width": picture.width,
                "height": picture.height,
                "sentences": sentences,
                "caption": caption,
            }
            for picture, sentences, caption in zip(pictures, asked, captions, strict=True)
        ],
    }
    answer = in_browser(SCRIPT, given, waits=False)
    assert answer["requests"] == 0
    size, alike, scale, worst = model.network.image_size, 0, 0.0, 0.0
    for picture, sentences, caption, found in zip(pictures, asked, captions, answer["found"], strict=True):
        maps = model.ground(picture, sentences, size=(size, size)).reshape(SENTENCES, -1)
        np.testing.assert_allclose(found["maps"], maps, atol=1e-3)
        alike += int((np.argmax(found["maps"], axis=1) == maps.argmax(1)).sum())
        features = next(encode_squashed(model.network, [picture]))
        assert found["labels"] == [labels.flatten().tolist() for labels in model.network.stage_labels(features)]
        wanted = float(model.similarity(picture, caption))
        assert found["score"]["both"] == pytest.approx(wanted, rel=1e-4 if form == "exact" else 1e-3)
        worst = max(worst, float(np.abs(found["maps"] - maps).max()))
        scale = max(scale, float(np.ptp(maps)))
    assert alike >= 99 and scale > 0.5
    seconds = np.array([found["seconds"] for found in answer["found"]])
    assert np.median(seconds[:, 1:]) < 0.3 and np.median(seconds[:, 0]) < 2
    print(
        f"{form}: {alike} of 100; picture {np.median(seconds[:, 0]):.3f} s, sentence {np.median(seconds[:, 1:]):.4f} s"
    )
