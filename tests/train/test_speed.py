"""Figures of speed against counts by hand and torch's own counter."""

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.costs import exchange, part_pair_flops
from caft.network.text.encoder import SubCaptionTransformer, encoded_lengths
from caft.params import load_params
from caft.train import speed
from caft.train.cost import sample_cost, step_flops, text_flops
from caft.train.distributed import World

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
TINY, SMOKE = PARAMS.models["tiny"], PARAMS.recipes["smoke"]


def texts(*ends: int) -> torch.Tensor:
    """Distinct texts with the end token at these places, (texts, 77)."""
    tokens = torch.zeros(len(ends), 77, dtype=torch.long)
    for number, (row, end) in enumerate(zip(tokens, ends, strict=True)):
        row[:end] = number + 1
        row[end] = 49407
    return tokens


def test_text_operations_are_those_that_torch_counts() -> None:
    encoder = SubCaptionTransformer(49408, 77, TINY.text.width, TINY.text.heads, TINY.text.sub_layers)
    tokens = texts(2, 7, 8, 30, 76)
    lengths = encoded_lengths(tokens).tolist()
    assert lengths == [8, 8, 16, 32, 77]
    # The counter does not know the fused attention of CPUs.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        encoder(tokens)
    assert text_flops(TINY.text, lengths) == counter.get_total_flops()


def test_a_step_of_full_texts_costs_what_its_samples_do_and_short_texts_take_away_theirs() -> None:
    images, ranks, count = 4, 2, SMOKE.sub_captions
    asked = ranks * (images + count - 1)
    work = sample_cost(TINY, SMOKE.chunks, count, asked)
    full = step_flops(TINY, SMOKE, images, ranks, [77] * images * count)
    # Maps of superpixels are computed once, not in each step.
    assert full == images * 3 * (work.vision + work.text + work.pooling)
    short = step_flops(TINY, SMOKE, images, ranks, [8] + [77] * (images * count - 1))
    assert full - short == 3 * (text_flops(TINY.text, [77]) - text_flops(TINY.text, [8]))


def test_a_window_is_counted_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 3.0, 8.0, 8.0])
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    recipe = SMOKE.model_copy(update={"batch": 2, "sub_captions": 4})
    meter = speed.Speed(TINY, recipe, World(0, 2, torch.device("cpu")), is_half=True)
    with meter.waiting():
        pass
    tokens = texts(2, 7, 8, 30)[None]
    meter.add(tokens)
    found = meter.read()
    assert found["images_per_s"] == 2 / 8 and found["data_wait_share"] == 2 / 8
    assert found["padded_token_share"] == pytest.approx(1 - (3 + 8 + 9 + 31) / (8 + 8 + 16 + 32))
    flops = step_flops(TINY, recipe, 1, 2, [8, 8, 16, 32])
    assert found["tflops"] == pytest.approx(2 * flops / 8 / 1e12)
    assert "mfu" not in found and found["peak_memory_mib"] > 50


def test_bytes_and_pairs_of_the_papers_step() -> None:
    sent = exchange(images=256, sub_captions=8, embed=512, ranks=8, number=2)
    # Texts 7 x 2 MiB and captions 7 x 256 KiB; selections 7 x 65.75 MiB and the texts again.
    assert sent.unique / 2**20 == 7 * 2 + 7 / 4
    assert sent.ring / 2**20 == 7 * 65.75 + 14
    naive = sum(part_pair_flops(512, 64, 8, fused=False))
    fused = sum(part_pair_flops(512, 64, 8, fused=True))
    # Of 16,384 texts an image, in GFLOP.
    assert naive * 16384 / 1e9 == pytest.approx(32.2, abs=0.2)
    assert fused * 16384 / 1e9 == pytest.approx(23.6, abs=0.2)
