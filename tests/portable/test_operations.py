"""The operations that take the place of torch's, against torch's own and against exact roots."""

import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

import caft.network.portable  # noqa: F401  puts them there, whichever tests run

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda matrix: matrix,
    "transposed": lambda matrix: matrix.mT.contiguous().mT,
    "every second": lambda matrix: matrix.repeat_interleave(2, -1).repeat_interleave(2, -2)[..., ::2, ::2],
    "expanded": lambda matrix: matrix[..., :1, :].expand(matrix.shape),
}


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


def by_sums(left: Tensor, right: Tensor) -> Tensor:
    """The definition: sums of products."""
    return (left[..., :, :, None] * right[..., None, :, :]).sum(-2)


@pytest.mark.parametrize("right_layout", LAYOUTS)
@pytest.mark.parametrize("left_layout", LAYOUTS)
@pytest.mark.parametrize("batch", [(), (5,)])
def test_products_of_all_layouts(batch: tuple[int, ...], left_layout: str, right_layout: str) -> None:
    left, right = LAYOUTS[left_layout](draw(*batch, 7, 6)), LAYOUTS[right_layout](draw(*batch, 6, 9))
    torch.testing.assert_close(left @ right, by_sums(left, right))
    torch.testing.assert_close((left.float() @ right.float()).double(), by_sums(left, right), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 0, 3), (4, 3, 0), (1, 4, 1), (1, 1, 1)])
def test_products_of_few_or_no_values(shape: tuple[int, int, int]) -> None:
    rows, inner, columns = shape
    left, right = draw(rows, inner), draw(inner, columns)
    torch.testing.assert_close(left @ right, by_sums(left, right))
    torch.testing.assert_close(left[None] @ right[None], by_sums(left, right)[None])


def test_linear_maps_and_their_scaled_form() -> None:
    bias, left, right = draw(9), draw(7, 6), draw(6, 9)
    torch.testing.assert_close(torch.addmm(bias, left, right), bias + by_sums(left, right))
    torch.testing.assert_close(torch.addmm(bias, left, right, beta=0.5, alpha=2), bias / 2 + 2 * by_sums(left, right))
    lost = torch.full_like(bias, math.nan)
    torch.testing.assert_close(torch.addmm(lost, left, right, beta=0), by_sums(left, right))
    torch.testing.assert_close(
        torch.nn.functional.linear(left[None], right.T.contiguous(), bias), bias + by_sums(left, right)[None]
    )


def test_gradients() -> None:
    left, right, bias = (values.requires_grad_() for values in (draw(3, 4), draw(4, 5), draw(5)))
    assert gradcheck(lambda a, b: a @ b, (left, right))
    assert gradcheck(torch.addmm, (bias, left, right))
    assert gradcheck(torch.bmm, (draw(2, 3, 4).requires_grad_(), draw(2, 4, 5).requires_grad_()))
    assert gradcheck(torch.sqrt, (draw(6).abs().add(0.1).requires_grad_(),))


def test_other_types_and_wrong_shapes_are_torchs() -> None:
    left, right = torch.arange(6).reshape(2, 3), torch.arange(12).reshape(3, 4)
    assert torch.equal(left @ right, by_sums(left, right))
    half = draw(2, 3).bfloat16() @ draw(3, 4).bfloat16()
    assert half.dtype == torch.bfloat16
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        draw(2, 3) @ draw(4, 5)
    with pytest.raises(RuntimeError, match="same dtype"):
        draw(2, 3) @ draw(3, 5).float()


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: torch.mm(draw(2, 3, 4), draw(2, 4, 3)), "must be a matrix"),
        (lambda: torch.mm(draw(3), draw(3, 2)), "must be a matrix"),
        (lambda: torch.mm(draw(3, 2), draw(2)), "must be a matrix"),
        (lambda: torch.bmm(draw(3, 2), draw(2, 3)), "must be a 3D tensor"),
        (lambda: torch.bmm(draw(1, 2, 3, 2), draw(1, 2, 2, 3)), "must be a 3D tensor"),
        (lambda: torch.addmm(torch.zeros(3, dtype=torch.int64), draw(3, 2), draw(2, 3)), "dtype"),
        (lambda: torch.arange(4).sqrt_(), "can't be cast"),
    ],
)
def test_what_torch_refuses_is_refused(call: Callable[[], Tensor], problem: str) -> None:
    with pytest.raises(RuntimeError, match=problem):
        call()


def test_what_is_not_finite_passes_without_a_warning() -> None:
    left = torch.tensor([[math.inf, 1.0], [math.nan, 1.0], [3e38, 3e38]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = left @ torch.tensor([[0.0], [1.0]])
        over = left[2:] @ torch.tensor([[2.0], [2.0]])
        roots = torch.tensor([-1.0, math.inf, -0.0, math.nan]).sqrt()
    assert found.isnan().flatten().tolist() == [True, True, False] and over.item() == math.inf
    assert roots.isnan().tolist() == [True, False, False, True]
    assert roots[1] == math.inf and math.copysign(1, roots[2].item()) == -1


def test_square_roots_are_the_nearest_numbers() -> None:
    values = torch.rand(20_000, generator=torch.Generator().manual_seed(0)) * 100
    # A root in double precision, rounded once more, is the nearest single: its digits are more than twice as many.
    exact = torch.tensor([math.sqrt(value) for value in values.tolist()], dtype=torch.float64)
    assert torch.equal(values.sqrt(), exact.float())
    assert torch.equal(values.clone().sqrt_(), exact.float())
    assert torch.equal(values.double().sqrt(), exact)
    turned = values.reshape(100, 200).T
    assert torch.equal(turned.sqrt(), exact.float().reshape(100, 200).T)
    assert torch.arange(5).sqrt().dtype == torch.float32 and torch.tensor(4).sqrt() == 2
    assert torch.tensor([4.0, 9.0], dtype=torch.float16).sqrt().tolist() == [2, 3]


def test_attention_is_that_of_its_definition() -> None:
    query, key, value = draw(2, 3, 5, 4), draw(2, 3, 5, 4).flip(0), draw(2, 3, 5, 4).flip(1)
    for causal in (False, True):
        logits = torch.einsum("bhqe,bhke->bhqk", query, key) / 2
        if causal:
            logits = logits.masked_fill(torch.ones(5, 5, dtype=torch.bool).triu(1), -math.inf)
        expected = torch.einsum("bhqk,bhke->bhqe", logits.softmax(-1), value)
        found = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softmax_of_attention_gives_zeros_where_all_is_shut_out_and_else_the_bits_of_softmax(
    dtype: torch.dtype,
) -> None:
    values = draw(4, 5, 6, dtype=dtype)
    assert torch.equal(torch._safe_softmax(values, -1), values.softmax(-1))
    values[1, 2], values[2, :, 0], values[3, 0, 3] = -math.inf, -math.inf, math.nan
    values.requires_grad_()
    found = torch._safe_softmax(values, -1)
    expected = values.detach().softmax(-1)
    assert expected[1, 2].isnan().all() and not found[1, 2].any()
    expected[1, 2] = 0
    assert torch.equal(found.nan_to_num(7), expected.nan_to_num(7)) and found[3, 0].isnan().all()
    # Of s(x) with an incoming gradient g: s (g - sum of g s).
    incoming = draw(4, 5, 6).flip(0).to(dtype)
    (gradient,) = torch.autograd.grad(found, values, incoming)
    by_hand = found * (incoming - (incoming * found).sum(-1, keepdim=True))
    torch.testing.assert_close(gradient, by_hand.detach(), equal_nan=True)
    assert torch._safe_softmax(values[:, :, :0], -1).shape == (4, 5, 0)
