"""The part loss: fused against naive, naive against a loop over pairs, and what neither may do."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from caft.loss.exchange import Exchange, Gathered
from caft.loss.hierarchical import Features, Temperature
from caft.loss.labels import Pairs, positive_pairs, rank_blocks, sampled_index
from caft.loss.part import PartTerm, fused_pair_sum, naive_pair_sum, part_loss
from caft.loss.whole import WholeTerm
from caft.network.text_pool import TextConditionedPool
from tests.reference import losses as reference

DIM = 32
# Segments for which segments times heads are below the width, and above: Gram form and pooled form.
FORMS = [(1, 5), (1, 40), (8, 3), (8, 6)]


def make_pool(heads: int, dim: int = DIM) -> TextConditionedPool:
    """A pool none of whose parameters is at its start."""
    pool = TextConditionedPool(dim, heads).double()
    with torch.no_grad():
        for parameter in pool.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return pool


def run(
    implementation: str,
    pool: TextConditionedPool,
    tokens: Tensor,
    texts: Tensor,
    sub_captions: int,
    *,
    index: Tensor | None = None,
    first_image: int = 0,
    normaliser: float,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Loss, clamped pairs, and the gradient of everything that has one."""
    pool = copy.deepcopy(pool)
    leaves = {
        "tokens": tokens.clone().requires_grad_(),
        "texts": texts.clone().requires_grad_(),
        "log_scale": torch.tensor(1 / 0.07, dtype=tokens.dtype).log().requires_grad_(),
        "bias": torch.tensor(-3.0, dtype=tokens.dtype).requires_grad_(),
    }
    positive = positive_pairs(torch.arange(len(texts)) // sub_captions, len(tokens), first_image, index)
    pair_sum = naive_pair_sum if implementation == "naive" else fused_pair_sum
    pairs = Pairs(leaves["tokens"], leaves["texts"], positive, index)
    total, clamped = pair_sum(pairs, pool, leaves["log_scale"].exp(), leaves["bias"])
    loss = total / normaliser
    (1.7 * loss).backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items()}
    gradients |= {name: parameter.grad for name, parameter in pool.named_parameters()}
    return loss.detach(), clamped, gradients


def assert_same(
    found: tuple[Tensor, Tensor, dict[str, Tensor]], expected: tuple[Tensor, Tensor, dict[str, Tensor]]
) -> None:
    close = {"atol": 1e-10, "rtol": 1e-10}
    torch.testing.assert_close(found[0], expected[0], **close)
    assert found[1] == expected[1]
    for name, gradient in expected[2].items():
        torch.testing.assert_close(found[2][name], gradient, **close, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("pairs", [7, 30, 4096], ids=lambda pairs: f"tiles of {pairs}")
@pytest.mark.parametrize("sub_captions", [1, 8])
@pytest.mark.parametrize(("heads", "segments"), FORMS)
def test_fused_equals_naive_in_value_and_every_gradient(
    heads: int, segments: int, sub_captions: int, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles of 7 cut through the texts of an image, tiles of 30 hold uneven numbers of images."""
    monkeypatch.setattr("caft.loss.part_tiles._PAIRS_ON_CPU", pairs)
    torch.manual_seed(heads + segments)
    images = 5
    pool = make_pool(heads)
    tokens = torch.randn(images, segments, DIM, dtype=torch.float64)
    texts = torch.randn(3 * images * sub_captions, DIM, dtype=torch.float64)  # of three ranks; this one is the second
    for index in (None, rank_blocks(images, sub_captions, 3, seed=0, step=0)):
        settings = {"index": index, "first_image": images, "normaliser": 3.0}
        expected = run("naive", pool, tokens, texts, sub_captions, **settings)
        assert_same(run("fused", pool, tokens, texts, sub_captions, **settings), expected)


@pytest.mark.parametrize("sampled", [True, False], ids=["sampled", "all"])
@pytest.mark.parametrize("implementation", ["naive", "fused"])
def test_both_forms_equal_a_loop_over_pairs(implementation: str, sampled: bool) -> None:
    torch.manual_seed(3)
    images, sub_captions, dim = 3, 2, 8
    pool = make_pool(2, dim)
    tokens, texts = torch.randn(images, 4, dim).double(), torch.randn(images * sub_captions, dim).double()
    index = sampled_index(images, sub_captions, torch.Generator().manual_seed(0)) if sampled else None
    table = index.tolist() if index is not None else [list(range(len(texts)))] * images
    scale, bias = torch.tensor(1 / 0.07).double(), torch.tensor(-3.0).double()
    found = run(implementation, pool, tokens, texts, sub_captions, index=index, normaliser=images)
    leaves = [tokens.requires_grad_(), texts.requires_grad_()]
    expected = reference.part_loss(tokens, texts, table, pool, scale, bias, sub_captions) / images
    (1.7 * expected).backward()
    torch.testing.assert_close(found[0], expected.detach(), atol=1e-10, rtol=1e-7)
    for name, leaf in zip(("tokens", "texts"), leaves, strict=True):
        torch.testing.assert_close(found[2][name], leaf.grad, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("implementation", ["naive", "fused"])
@pytest.mark.parametrize("segments", [3, 6], ids=["Gram", "pooled"])
def test_pooled_features_below_the_floor_are_counted_and_pass_no_gradient_through_their_norm(
    implementation: str, segments: int
) -> None:
    """One image whose values are too small: its cosines are products over the floor, 1e-12."""
    torch.manual_seed(0)
    pool = TextConditionedPool(DIM, 8).double()
    with torch.no_grad():
        pool.norm_value.weight.zero_()
        pool.norm_value.bias.copy_(1e-13 * torch.randn(DIM))
    tokens, texts = torch.randn(2, segments, DIM).double(), torch.randn(6, DIM).double()
    loss, clamped, gradients = run(implementation, pool, tokens, texts, 3, normaliser=1)
    assert clamped == 12
    # With the norm constant, the loss is one of scale * (u . t) / 1e-12, whose gradient autograd gives.
    pool.requires_grad_(True)
    pooled, _ = pool(texts.expand(2, -1, -1), tokens)
    cosines = (pooled * torch.nn.functional.normalize(texts, dim=-1)).sum(-1) / 1e-12
    labels = torch.where(torch.arange(6)[None] // 3 == torch.arange(2)[:, None], 1.0, -1.0)
    expected = torch.nn.functional.softplus(-labels * (cosines / 0.07 - 3)).sum()
    torch.testing.assert_close(loss, expected.detach(), atol=0, rtol=1e-7)
    (1.7 * expected).backward()
    for name in ("norm_value.bias", "value.weight", "out.weight", "out.bias"):
        torch.testing.assert_close(gradients[name], pool.get_parameter(name).grad, atol=0, rtol=1e-6)


def test_heads_that_cancel_in_single_precision_are_counted_and_do_not_blow_up_the_loss() -> None:
    """Two heads give opposite features: the squared norm of float32 is rounding, of either sign."""
    torch.manual_seed(0)
    pool = TextConditionedPool(DIM, 2)
    with torch.no_grad():
        half = DIM // 2
        pool.out.weight[:, half:] = -pool.out.weight[:, :half]
        for linear in (pool.query, pool.key, pool.value):
            linear.weight[half:] = linear.weight[:half]
        pool.out.weight *= 1 + 1e-6 * torch.randn(DIM, DIM)
    tokens, texts = torch.randn(8, 20, DIM), torch.randn(64, DIM)
    loss, clamped, gradients = run("fused", pool, tokens, texts, 8, normaliser=8)
    assert 0 < clamped <= 512
    # No pair can lose more than at a cosine of one.
    assert float(loss) < 512 * (1 / 0.07 + 3) / 8
    assert all(bool(gradient.isfinite().all()) for gradient in gradients.values())


@pytest.mark.parametrize(("heads", "segments"), FORMS)
def test_half_precision_outside_leaves_norms_and_loss_in_single_precision(heads: int, segments: int) -> None:
    torch.manual_seed(0)
    pool = make_pool(heads).float()
    tokens, texts = torch.randn(4, segments, DIM), torch.randn(32, DIM)
    expected = run("naive", pool, tokens, texts, 8, normaliser=4)
    with torch.autocast("cpu", torch.bfloat16):
        found = run("fused", pool, tokens.bfloat16(), texts.bfloat16(), 8, normaliser=4)
    assert found[0].dtype == torch.float32
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=0.02)
    assert found[2]["tokens"].dtype == torch.bfloat16
    for name in ("tokens", "texts", "out.weight"):
        cosine = torch.nn.functional.cosine_similarity(found[2][name].float().flatten(), expected[2][name].flatten(), 0)
        assert cosine > 0.99, name


class Largest(TorchDispatchMode):
    """Keeps the size of the largest tensor that any operation makes, views apart."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


@pytest.mark.parametrize("sampled", [True, False], ids=["sampled", "all"])
@pytest.mark.parametrize(("heads", "segments"), [(1, 5), (8, 6)], ids=["Gram", "pooled"])
def test_the_fused_form_never_holds_more_than_a_tile_of_pairs(
    heads: int, segments: int, sampled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor texts gathered more often than the pairs of a tile, nor pairs kept for the backward pass."""
    pairs, images, sub_captions = 50, 24, 8
    monkeypatch.setattr("caft.loss.part_tiles._PAIRS_ON_CPU", pairs)
    pool = make_pool(heads)
    tokens, texts = torch.randn(images, segments, DIM).double(), torch.randn(images * sub_captions, DIM).double()
    index = rank_blocks(images, sub_captions, 1, 0, 0) if sampled else None
    with Largest() as fused:
        run("fused", pool, tokens, texts, sub_captions, index=index, normaliser=1)
    with Largest() as naive:
        run("naive", pool, tokens, texts, sub_captions, index=index, normaliser=1)
    tile = pairs * max(DIM, heads * (segments + 1))
    assert fused.elements <= max(texts.numel(), tile)
    assert naive.elements >= images * (images + sub_captions - 1) * DIM > 2 * fused.elements


def orthogonal(images: int, segments: int, texts: int) -> tuple[TextConditionedPool, Tensor, Tensor]:
    """A pool, tokens and texts whose cosines are all zero: texts lie in one half of the space, and the output
    projection writes to the other."""
    pool = TextConditionedPool(8, 2)
    with torch.no_grad():
        pool.out.weight[:4] = 0
    asked = torch.randn(texts, 8)
    asked[:, 4:] = 0
    return pool, torch.randn(images, segments, 8), asked


@pytest.mark.parametrize(
    ("negatives", "normaliser", "expected"), [("sampled", 263, 77.964), ("sampled", 256, 80.10), ("all", 256, 80.74)]
)
def test_the_first_part_loss_of_eight_ranks_is_the_one_worked_out_by_hand(
    negatives: str, normaliser: int, expected: float
) -> None:
    """256 images a rank, K = 8, all cosines 0, b = -10: 2,048 times log(1 + e^10), the rest log(1 + e^-10)."""
    images, sub_captions, ranks, rank = 256, 8, 8, 3
    pool, tokens, texts = orthogonal(images, 3, ranks * images * sub_captions)
    loss = part_loss(
        tokens,
        texts,
        torch.arange(len(texts)) // sub_captions,
        pool,
        torch.tensor(1 / 0.07),
        torch.tensor(-10.0),
        index=rank_blocks(images, sub_captions, ranks, seed=0, step=0) if negatives == "sampled" else None,
        first_image=rank * images,
        normaliser=normaliser,
        negatives=negatives,
    )
    assert loss.item() == pytest.approx(expected, abs=1e-3 if expected == 77.964 else 5e-3)


def test_the_first_whole_loss_of_2048_images_is_the_one_worked_out_by_hand() -> None:
    images = 2048
    vision, text = torch.randn(images, 8), torch.randn(images, 8)
    vision[:, :4], text[:, 4:] = 0, 0
    term = WholeTerm(1.0, Temperature(torch.tensor(1 / 0.07), torch.tensor(-10.0)), "sigmoid")
    whole, captions = Exchange(vision, text).result()
    assert float(term(Features(whole=whole, captions=captions))["whole"]) == pytest.approx(10.093, abs=1e-3)


@pytest.mark.parametrize("negatives", ["all", "sampled"])
def test_an_index_that_does_not_fit_the_negatives_is_refused(negatives: str) -> None:
    pool, tokens, texts = orthogonal(2, 3, 4)
    index = torch.zeros(2, 2, dtype=torch.int64) if negatives == "all" else None
    with pytest.raises(ValueError, match=f"negatives is '{negatives}', so index must"):
        part_loss(
            tokens,
            texts,
            torch.arange(4) // 2,
            pool,
            torch.tensor(1.0),
            torch.tensor(0.0),
            index=index,
            normaliser=1,
            negatives=negatives,
        )


@pytest.mark.parametrize("negatives", ["all", "sampled"])
@pytest.mark.parametrize("rank", [0, 2])
def test_the_term_of_a_rank_is_the_loss_of_its_images_with_the_texts_of_all_ranks(negatives: str, rank: int) -> None:
    images, sub_captions, ranks = 4, 2, 3
    pool = make_pool(2)
    tokens = torch.randn(images, 5, DIM, dtype=torch.float64)
    texts = torch.randn(ranks * images * sub_captions, DIM, dtype=torch.float64)
    temperature = Temperature(torch.tensor(14.0), torch.tensor(-3.0))
    index = rank_blocks(images, sub_captions, ranks, seed=7, step=1) if negatives == "sampled" else None
    draw = None if index is None else partial(rank_blocks, seed=7, step=1)
    own = texts.chunk(ranks)[rank]
    found = PartTerm(1.0, temperature, "sigmoid", pool, draw)(
        Features(part=tokens, sub_captions=Gathered(own, texts, rank))
    )
    expected = part_loss(
        tokens,
        texts,
        torch.arange(len(texts)) // sub_captions,
        pool,
        *temperature,
        index=index,
        first_image=rank * images,
        normaliser=images + sub_captions - 1 if negatives == "sampled" else images,
        negatives=negatives,
        implementation="naive",
    )
    torch.testing.assert_close(found["part"], expected, atol=1e-10, rtol=1e-10)
    assert found["clamped_pairs"] == 0


def test_features_that_were_not_exchanged_are_not_taken_for_those_of_all_ranks() -> None:
    features, none = Exchange(torch.randn(2, DIM), None, needed=False).result()
    assert none is None
    with pytest.raises(AssertionError, match="not exchanged"):
        _ = features.all
