"""Zero-shot classification: which class, named in eighty sentences, is nearest to an image?"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from caft.captions.tokenizer import tokenize
from caft.data.sets import ZeroShotSet
from caft.model.encoding import encode_cropped
from caft.model.protocols import RetrievalModel
from caft.progress import track

# The sentences of CLIP's authors for ImageNet. Most come twice, with "a" and with "the"; `{a}` stands for either.
_WITH_ARTICLE = (
    "a bad photo of {a} {name}.",
    "a good photo of {a} {name}.",
    "a photo of {a} {name}.",
    "a photo of {a} hard to see {name}.",
    "a photo of {a} clean {name}.",
    "a photo of {a} dirty {name}.",
    "a photo of {a} cool {name}.",
    "a photo of {a} nice {name}.",
    "a photo of {a} weird {name}.",
    "a photo of {a} large {name}.",
    "a photo of {a} small {name}.",
    "a low resolution photo of {a} {name}.",
    "a cropped photo of {a} {name}.",
    "a close-up photo of {a} {name}.",
    "a bright photo of {a} {name}.",
    "a dark photo of {a} {name}.",
    "a blurry photo of {a} {name}.",
    "a pixelated photo of {a} {name}.",
    "a jpeg corrupted photo of {a} {name}.",
    "a black and white photo of {a} {name}.",
    "a sculpture of {a} {name}.",
    "a rendering of {a} {name}.",
    "a rendition of {a} {name}.",
    "a tattoo of {a} {name}.",
    "a drawing of {a} {name}.",
    "a painting of {a} {name}.",
    "a doodle of {a} {name}.",
    "a sketch of {a} {name}.",
    "graffiti of {a} {name}.",
    "art of {a} {name}.",
    "itap of {a} {name}.",  # "I took a picture"
    "{a} embroidered {name}.",
    "{a} plastic {name}.",
    "{a} origami {name}.",
    "{a} toy {name}.",
    "{a} cartoon {name}.",
    "{a} plushie {name}.",
    "{a} {name} in a video game.",
)
_OTHER = ("a photo of many {name}.", "a photo of one {name}.", "a photo of my {name}.", "itap of my {name}.")

# Images whose features are held at once.
_IMAGES_AT_ONCE = 1024


def prompts(name: str) -> list[str]:
    """The 80 sentences of CLIP's authors about a class."""
    with_article = [text.format(a=a, name=name) for text in _WITH_ARTICLE for a in ("a", "the")]
    return [*with_article, *(text.format(name=name) for text in _OTHER)]


@torch.no_grad()
def class_features(model: RetrievalModel, classes: list[str], batch: int) -> Tensor:
    """Features of classes, as open_clip's zero-shot classifier: the mean over their sentences, brought to unit norm.

    A sentence is not split at its full stops ("St. Bernard"): it is every chunk of its caption.

    Returns:
        Unit norm, (classes, D), on the CPU.
    """
    chunks, context = model.card.chunks, model.network.context
    features = []
    for name in track(classes, "classes"):
        sentences = []
        for tokens in tokenize(prompts(name), context).split(batch):
            captions = tokens[:, None].expand(-1, chunks, -1)  # (S, C, L)
            sentences.append(model.network.text_features(captions.to(model.network.device))[0].cpu())
        features.append(F.normalize(torch.cat(sentences).mean(0), dim=-1))
    return torch.stack(features)


def score_zero_shot(model: RetrievalModel, benchmark: ZeroShotSet, batch: int) -> dict[str, float | int]:
    """Classifies the images of a set by their whole features.

    The names that the field uses for ImageNet hold two pairs of equal ones, missile and sunglasses. Of such classes the
    first is ranked before the others, as `topk` over all classes does in open_clip.

    Returns:
        `top1` and `top5`, the percent of images whose class is among the first one or five, ties counted against it;
        `images` and `classes`, how many; `same_name`, how many classes have a name that an earlier one has, if any do.
    """
    names = list(dict.fromkeys(benchmark.classes))
    place = torch.tensor([names.index(name) for name in benchmark.classes])  # of each class among the names
    count = torch.bincount(place, minlength=len(names))
    before = torch.tensor([benchmark.classes[:number].count(name) for number, name in enumerate(benchmark.classes)])
    classes = class_features(model, names, batch)
    ranks = []
    for first in range(0, len(benchmark.images), _IMAGES_AT_ONCE):
        images = encode_cropped(model.network, benchmark.images[first : first + _IMAGES_AT_ONCE], batch).whole.float()
        scores = images @ classes.T
        labels = torch.tensor(benchmark.labels[first : first + _IMAGES_AT_ONCE])
        own = scores.gather(1, place[labels][:, None])
        others = ((scores >= own) * count).sum(1) - count[place[labels]]
        ranks.append((others + before[labels]).numpy())
    rank = np.concatenate(ranks)
    same = len(benchmark.classes) - len(names)
    return {
        "top1": 100.0 * float((rank < 1).mean()),
        "top5": 100.0 * float((rank < 5).mean()),
        "images": len(benchmark.images),
        "classes": len(benchmark.classes),
        **({"same_name": same} if same else {}),
    }
