"""Losses over several gloo ranks against one process on the whole batch, and against loops over pairs."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from caft.loss.exchange import Exchange
from caft.loss.hierarchical import Features, Temperature, hierarchical_loss
from caft.loss.labels import rank_blocks
from caft.loss.part import PartTerm
from caft.loss.whole import PartClsTerm, WholeTerm
from caft.network.text_pool import TextConditionedPool
from tests.ranks import run_ranks
from tests.reference import losses as reference

IMAGES, SUB_CAPTIONS, DIM, SEED, STEP = 3, 2, 8, 5, 11
WORLD_SIZES = (3, 2, 1)
CASES = [("part", "all"), ("part_cls", "all"), ("whole", "all"), ("part", "sampled")]


class Tower(torch.nn.Module):
    """Something to train in front of the losses."""

    def __init__(self) -> None:
        super().__init__()
        self.image = torch.nn.Linear(DIM, DIM)
        self.text = torch.nn.Linear(DIM, DIM)
        self.pool = TextConditionedPool(DIM, 2)
        self.log_scale = torch.nn.Parameter(torch.tensor(1.0))
        self.bias = torch.nn.Parameter(torch.tensor(-1.0))

    def features(self, inputs: dict[str, Tensor]) -> Features:
        classes = [Exchange(self.image(inputs[name]), needed=False) for name in ("cls", "whole")]
        texts = [Exchange(self.text(inputs[name])) for name in ("texts", "captions")]
        return Features(self.image(inputs["part"]), *classes, *texts)

    def forward(self, inputs: dict[str, Tensor], term: str, negatives: str) -> Tensor:
        shared = 1.0, Temperature(self.log_scale.exp(), self.bias), "sigmoid"
        draw = partial(rank_blocks, seed=SEED, step=STEP) if negatives == "sampled" else None
        terms = [PartTerm(*shared, self.pool, draw), PartClsTerm(*shared), WholeTerm(*shared)]
        found = hierarchical_loss(terms, self.features(inputs))
        return found[term] + 0 * found["loss"]  # every parameter takes part, as DDP asks


def make(world_size: int) -> tuple[Tower, dict[str, Tensor]]:
    torch.manual_seed(0)
    images = IMAGES * world_size
    inputs = {
        "part": torch.randn(images, 4, DIM),
        "cls": torch.randn(images, DIM),
        "whole": torch.randn(images, DIM),
        "texts": torch.randn(images * SUB_CAPTIONS, DIM),
        "captions": torch.randn(images, DIM),
    }
    return Tower().double(), {name: value.double() for name, value in inputs.items()}


def run_cases(rank: int, world_size: int, folder: Path) -> None:
    for case in CASES:
        tower, inputs = make(world_size)
        wrapped = DistributedDataParallel(tower)  # its hooks are gone with it, so it must outlive the backward pass
        loss = wrapped({name: value.chunk(world_size)[rank] for name, value in inputs.items()}, *case)
        loss.backward()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        gradients = {name: parameter.grad for name, parameter in tower.named_parameters()}
        found = {"loss": mean / world_size, "gradients": gradients}
        torch.save(found, folder / f"{world_size}-{rank}-{'-'.join(case)}.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every rank found in every case."""
    path = tmp_path_factory.mktemp("ranks")
    run_ranks(run_cases, path, *WORLD_SIZES)
    return path


def assert_every_rank_found(
    folder: Path, world_size: int, case: tuple[str, str], expected: Tensor, tower: Tower
) -> None:
    expected.backward()
    for rank in range(world_size):
        found: dict[str, Any] = torch.load(folder / f"{world_size}-{rank}-{'-'.join(case)}.pt")
        torch.testing.assert_close(found["loss"], expected.detach(), atol=1e-10, rtol=1e-10)
        for name, parameter in tower.named_parameters():
            gradient = found["gradients"][name]
            wanted = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            close = torch.allclose(gradient, wanted, atol=1e-10, rtol=1e-10)
            assert close, f"rank {rank}, {name}: {gradient} instead of {wanted}"


@pytest.mark.parametrize("world_size", WORLD_SIZES)
@pytest.mark.parametrize("term", ["part", "part_cls", "whole"])
def test_all_pairs_over_ranks_equal_one_process_on_the_whole_batch(term: str, world_size: int, folder: Path) -> None:
    tower, inputs = make(world_size)
    assert_every_rank_found(folder, world_size, (term, "all"), tower(inputs, term, "all"), tower)


@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_all_pairs_over_ranks_equal_a_loop_over_pairs(world_size: int, folder: Path) -> None:
    tower, inputs = make(world_size)
    features = tower.features(inputs)
    images, texts = len(features.part), features.sub_captions.own
    every = [list(range(len(texts)))] * images
    expected = reference.part_loss(
        features.part, texts, every, tower.pool, tower.log_scale.exp(), tower.bias, SUB_CAPTIONS
    )
    assert_every_rank_found(folder, world_size, ("part", "all"), expected / images, tower)
    tower, inputs = make(world_size)
    features = tower.features(inputs)
    expected = reference.whole_loss(features.whole.own, features.captions.own, tower.log_scale.exp(), tower.bias)
    assert_every_rank_found(folder, world_size, ("whole", "all"), expected / images, tower)


@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_sampled_negatives_over_ranks_equal_a_loop_over_pairs(world_size: int, folder: Path) -> None:
    tower, inputs = make(world_size)
    features = tower.features(inputs)
    table = rank_blocks(IMAGES, SUB_CAPTIONS, world_size, SEED, STEP).tolist()
    total = sum(
        reference.part_loss(
            features.part[rank * IMAGES : (rank + 1) * IMAGES],
            features.sub_captions.own,
            table,
            tower.pool,
            tower.log_scale.exp(),
            tower.bias,
            SUB_CAPTIONS,
            first_image=rank * IMAGES,
        )
        for rank in range(world_size)
    )
    assert isinstance(total, Tensor)
    expected = total / (IMAGES + SUB_CAPTIONS - 1) / world_size
    assert_every_rank_found(folder, world_size, ("part", "sampled"), expected, tower)
