"""What torch.compile is for gives one graph, and the same numbers as without it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from caft.loss.part_tiles import tile_loss
from caft.network.layers import TransformerBlock
from caft.network.part_pairs import PairImages, PairTexts
from caft.network.vision.graph_pool import GraphPool
from caft.params import arithmetic
from caft.train.compiled import apart_by_processor
from tests.portable.environment import without_arithmetic

# Traces forward and backward as inductor does, but runs torch's own kernels: no minute of C++ compilation.
BACKEND = "aot_eager"


def assert_same_when_compiled(module: nn.Module, function: str, *inputs: Tensor) -> None:
    """One graph (else fullgraph raises), and the values and gradients of eager mode."""
    eager = getattr(module, function)
    outcomes = []
    for run in (eager, torch.compile(eager, fullgraph=True, backend=BACKEND)):
        module.zero_grad()
        leaves = [tensor.clone().requires_grad_(tensor.is_floating_point()) for tensor in inputs]
        found = run(*leaves)
        tensors = [found] if isinstance(found, Tensor) else [tensor for tensor in found if tensor.is_floating_point()]
        sum((tensor * torch.linspace(-1, 1, tensor.numel()).view_as(tensor)).sum() for tensor in tensors).backward()
        gradients = [leaf.grad for leaf in leaves if leaf.is_floating_point()]
        outcomes.append([*tensors, *gradients, *(parameter.grad for parameter in module.parameters())])
    for expected, found in zip(*outcomes, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("causal", [False, True], ids=["image", "text"])
def test_a_transformer_block_is_one_graph(causal: bool) -> None:
    torch.manual_seed(0)
    assert_same_when_compiled(TransformerBlock(16, 2, 2, causal=causal), "forward", torch.randn(2, 5, 16))


def test_a_graph_pooling_without_its_sampling_is_one_graph() -> None:
    torch.manual_seed(0)
    pool = GraphPool(16, 2, 3, dropout=0.0)
    inputs = torch.randn(2, 1, 16), torch.randn(2, 7, 16), torch.tensor([[0, 2, 4], [1, 6, 2]])
    assert_same_when_compiled(pool, "group", *inputs)


@pytest.mark.parametrize(
    ("gram", "own_texts", "backend"),
    [
        (False, False, BACKEND),
        (False, True, BACKEND),
        (True, False, BACKEND),
        (True, True, BACKEND),
        pytest.param(
            *(False, True, "inductor"),
            marks=pytest.mark.skipif(arithmetic.current() == "portable", reason="compile is native"),
        ),
    ],
)
def test_the_body_of_the_part_loss_is_one_graph(gram: bool, own_texts: bool, backend: str) -> None:
    torch.manual_seed(0)
    images, texts, segments, heads, dim = 3, 5, 4, 2, 16
    width, batch = (heads * segments, (images,)) if gram else (dim, ())
    asked = (images, texts) if own_texts else (texts,)
    root = torch.randn(*batch, width, width)
    arguments = (
        torch.randn(images, texts).sign(),
        PairTexts(
            torch.randn(*asked, heads, dim // heads), torch.randn(*asked, heads, dim // heads), torch.randn(asked)
        ),
        PairImages(
            torch.randn(images, segments, heads, dim // heads),
            torch.randn(images, segments, heads, dim // heads),
            root @ root.mT,
            torch.randn(*batch, width),
        ),
        torch.tensor(30.0),
        torch.tensor(14.0),
        torch.tensor(-10.0),
    )
    loss, clamped, gradients = tile_loss(*arguments)
    apart_by_processor()
    found = torch.compile(tile_loss, fullgraph=True, backend=backend)(*arguments)
    torch.testing.assert_close(found[0], loss)
    assert found[1] == clamped
    for ours, eager in zip(found[2], gradients, strict=True):
        torch.testing.assert_close(ours, eager, atol=1e-5, rtol=1e-5)


_SUM = """
import torch
from caft.train.compiled import apart_by_processor
apart_by_processor()
print(torch.compile(lambda numbers: (2 * numbers).sum())(torch.ones(15)).item())
"""


@pytest.mark.verify
@pytest.mark.skipif(not torch.cpu._is_avx512_supported(), reason="this processor has no AVX-512")
def test_code_compiled_for_another_processor_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    environment = without_arithmetic() | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    sums = [
        subprocess.run(
            [sys.executable, "-c", _SUM],
            env=environment | {"ATEN_CPU_CAPABILITY": capability},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for capability in ("avx512", "avx2")
    ]
    assert sums == ["30.0\n", "30.0\n"]


@pytest.mark.slow
def test_inductor_compiles_where_arithmetic_is_native() -> None:
    """Settings refuse `compile` elsewhere: its code rounds as this processor's compiler likes."""
    environment = without_arithmetic() | {arithmetic.VARIABLE: "native"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"{__file__}",
        "-k",
        "inductor and graph",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout
