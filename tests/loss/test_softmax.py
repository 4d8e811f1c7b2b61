"""The softmax variant against cross-entropies written out, and over two ranks against one process."""

import math
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from caft.loss.exchange import Exchange
from caft.loss.hierarchical import Features, Temperature, hierarchical_loss
from caft.loss.labels import rank_blocks
from caft.loss.part import PartTerm
from caft.loss.softmax import cross_entropy
from caft.loss.whole import PartClsTerm, WholeTerm
from caft.network.text_pool import TextConditionedPool
from tests.ranks import run_ranks

IMAGES, SUB_CAPTIONS, DIM = 4, 3, 8


def test_a_row_with_two_positives_worked_by_hand() -> None:
    logits = torch.tensor([[math.log(1), math.log(2), math.log(5)]])
    found = cross_entropy(logits, torch.tensor([[True, True, False]]))
    assert found.item() == pytest.approx(-(math.log(1 / 8) + math.log(2 / 8)) / 2)


def test_one_positive_a_row_is_pytorchs_cross_entropy() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    truth = torch.tensor([3, 0, 6, 2, 2])
    found = cross_entropy(logits, F.one_hot(truth, 7).bool())
    torch.testing.assert_close(found, F.cross_entropy(logits, truth, reduction="sum"))


class Tower(torch.nn.Module):
    """Something to train in front of the losses; the bias takes no part."""

    def __init__(self) -> None:
        super().__init__()
        self.image = torch.nn.Linear(DIM, DIM)
        self.text = torch.nn.Linear(DIM, DIM)
        self.pool = TextConditionedPool(DIM, 2)
        self.scale = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, inputs: dict[str, torch.Tensor], negatives: str, step: int = 0) -> dict[str, torch.Tensor]:
        classes = [Exchange(self.image(inputs[name]), needed=True) for name in ("cls", "whole")]
        texts = [Exchange(self.text(inputs[name])) for name in ("texts", "captions")]
        features = Features(self.image(inputs["part"]), *classes, *texts)
        shared = 1.0, Temperature(self.scale.exp(), torch.tensor(0.0)), "softmax"
        draw = partial(rank_blocks, seed=0, step=step) if negatives == "sampled" else None
        terms = [PartTerm(*shared, self.pool, draw), PartClsTerm(*shared), WholeTerm(*shared)]
        return hierarchical_loss(terms, features)


def make(images: int = IMAGES) -> tuple[Tower, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    inputs = {
        "part": torch.randn(images, 5, DIM),
        "cls": torch.randn(images, DIM),
        "whole": torch.randn(images, DIM),
        "texts": torch.randn(images * SUB_CAPTIONS, DIM),
        "captions": torch.randn(images, DIM),
    }
    return Tower().double(), {name: value.double() for name, value in inputs.items()}


def naive_row(tower: Tower, image: torch.Tensor, texts: torch.Tensor, own: list[int]) -> float:
    """One image among texts, pair by pair: the even mean of minus the logarithm of its own texts' shares."""
    logits = []
    for text in texts:
        pooled, _ = tower.pool(text[None, None], image[None])
        logits.append((tower.scale.exp() * F.cosine_similarity(pooled[0, 0], text, dim=0)).item())
    total = sum(math.exp(logit) for logit in logits)
    return -sum(math.log(math.exp(logits[place]) / total) for place in own) / len(own)


@pytest.mark.parametrize("negatives", ["sampled", "all"])
@pytest.mark.parametrize("pairs_at_once", [1, 13, 10_000])
def test_the_part_term_is_each_image_among_its_texts(
    negatives: str, pairs_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caft.loss.softmax._PAIRS_AT_ONCE", pairs_at_once)
    tower, inputs = make()
    found = tower(inputs, negatives, step=3)["part"]
    tokens, texts = tower.image(inputs["part"]), tower.text(inputs["texts"])
    rows = [list(range(len(texts)))] * IMAGES
    if negatives == "sampled":
        rows = rank_blocks(IMAGES, SUB_CAPTIONS, 1, seed=0, step=3).tolist()
    expected = [
        naive_row(tower, tokens[i], texts[row], [place for place, text in enumerate(row) if text // SUB_CAPTIONS == i])
        for i, row in enumerate(rows)
    ]
    assert found.item() == pytest.approx(sum(expected) / IMAGES, rel=1e-10)


def test_the_other_terms_are_clips_loss_in_both_directions() -> None:
    tower, inputs = make()
    terms = tower(inputs, "sampled")
    image, text = F.normalize(tower.image(inputs["whole"])), F.normalize(tower.text(inputs["captions"]))
    logits = tower.scale.exp() * image @ text.T
    clip = (F.cross_entropy(logits, torch.arange(IMAGES)) + F.cross_entropy(logits.T, torch.arange(IMAGES))) / 2
    torch.testing.assert_close(terms["whole"], clip)
    image, text = F.normalize(tower.image(inputs["cls"])), F.normalize(tower.text(inputs["texts"]))
    logits = tower.scale.exp() * image @ text.T
    owner = torch.arange(IMAGES * SUB_CAPTIONS) // SUB_CAPTIONS
    targets = F.one_hot(owner).T.double() / SUB_CAPTIONS  # PyTorch takes probabilities as targets too
    clip = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, owner)) / 2
    torch.testing.assert_close(terms["part_cls"], clip)
    torch.testing.assert_close(terms["loss"], terms["part"] + terms["part_cls"] + terms["whole"])


def write_gradients(rank: int, world_size: int, folder: Path) -> None:
    tower, inputs = make(IMAGES * world_size)
    wrapped = DistributedDataParallel(tower)
    wrapped({name: value.chunk(world_size)[rank] for name, value in inputs.items()}, "all")["loss"].backward()
    torch.save({name: parameter.grad for name, parameter in tower.named_parameters()}, folder / f"{rank}.pt")


def test_two_ranks_equal_one_process_on_the_whole_batch(tmp_path: Path) -> None:
    run_ranks(write_gradients, tmp_path, 2)
    tower, inputs = make(IMAGES * 2)
    tower(inputs, "all")["loss"].backward()
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        for name, parameter in tower.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad, atol=1e-10, rtol=1e-8, msg=name)
