"""Figures of speed against counts by hand and torch's own counter."""

import json
import time
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
from caft.train.spent import spent
from tests.gpu import checks
from tests.ranks import run_ranks

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


class Clock:
    """Stands still unless a test moves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(speed.time, "perf_counter", lambda: self.now)

    def passes(self, seconds: float) -> None:
        self.now += seconds


BATCH_OF_2 = SMOKE.model_copy(update={"batch": 2, "sub_captions": 4})
ALONE = World(0, 1, torch.device("cpu"))
TOKENS = texts(2, 7, 8, 30)[None]


def test_a_window_is_counted_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    meter = speed.Speed(TINY, BATCH_OF_2, World(0, 2, torch.device("cpu")), is_half=True)
    clock.passes(50)
    meter.add(TOKENS)  # the first step ends the start and is in no window
    with meter.waiting():
        clock.passes(2)
    clock.passes(5)
    meter.add(TOKENS)
    clock.passes(1)
    found = meter.read()
    assert found["step_seconds"] == 8 and found["images_per_s"] == 2 / 8 and found["data_wait_share"] == 2 / 8
    assert found["padded_token_share"] == pytest.approx(1 - (3 + 8 + 9 + 31) / (8 + 8 + 16 + 32))
    flops = step_flops(TINY, BATCH_OF_2, 1, 2, [8, 8, 16, 32])
    assert found["tflops"] == pytest.approx(2 * flops / 8 / 1e12)
    assert found["peak_memory_mib"] > 50
    # A CPU has no peak in the table and compiles nothing here; without counters there is no energy, not one of zero.
    assert not {"mfu", "recompilations", "joules"} & set(found)


def test_stops_are_left_out_of_the_steps_and_written_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two windows of unequal length, with stops inside the first and between them, and the start before both."""
    clock = Clock(monkeypatch)
    meter = speed.Speed(TINY, BATCH_OF_2, ALONE, is_half=False, stops=tmp_path / "stops.jsonl", since=90.0)
    clock.passes(30)
    meter.add(TOKENS, 1, again=0)
    clock.passes(4)
    meter.add(TOKENS)
    with meter.stopped("validation", 2):
        clock.passes(70)
    clock.passes(2)
    meter.add(TOKENS)
    first = meter.read()
    with meter.stopped("checkpoint", 3):
        clock.passes(20)
    clock.passes(1)
    meter.add(TOKENS)
    second = meter.read()
    assert (first["step_seconds"], first["images_per_s"]) == (6, 4 / 6)
    assert (second["step_seconds"], second["images_per_s"]) == (1, 2)
    assert [json.loads(line) for line in (tmp_path / "stops.jsonl").read_text().splitlines()] == [
        {"kind": "start", "step": 1, "seconds": 40, "device": "CPU", "ranks": 1, "again": 0},
        {"kind": "validation", "step": 2, "seconds": 70},
        {"kind": "checkpoint", "step": 3, "seconds": 20},
    ]


def test_a_start_whose_only_step_is_its_first_has_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    meter = speed.Speed(TINY, BATCH_OF_2, ALONE, is_half=False)
    meter.add(TOKENS)
    assert set(meter.read()) == {"peak_memory_mib"}


def waits(rank: int, size: int, folder: Path) -> None:
    """The second rank waits for three of four seconds, the first for one."""
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(patch)
        meter = speed.Speed(TINY, BATCH_OF_2, World(rank, size, torch.device("cpu")), False, folder / "stops.jsonl")
        meter.add(TOKENS)
        with meter.waiting():
            clock.passes(1 + 2 * rank)
        clock.passes(3 - 2 * rank)
        meter.add(TOKENS)
        (folder / f"{rank}.json").write_text(json.dumps(meter.read()))


@pytest.mark.slow
def test_the_rank_that_waits_most_is_told_and_a_stop_is_written_once(tmp_path: Path) -> None:
    run_ranks(waits, tmp_path, 2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert (first["step_seconds"], first["images_per_s"], first["data_wait_share"]) == (4, 0.5, 0.75)
    assert len((tmp_path / "stops.jsonl").read_text().splitlines()) == 1


# ---- of a whole run


def lines(path: Path, *rows: dict[str, object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def window(step: int, seconds: float, rate: float, **more: float) -> dict[str, object]:
    row = {"step": step, "samples": 10 * step, "loss": 1.0, "step_seconds": seconds, "images_per_s": rate}
    return {**row, "data_wait_share": 0.0, "tflops": 1.0, "padded_token_share": 0.1, "peak_memory_mib": 700.2, **more}


def test_the_speed_of_a_run_is_samples_over_the_time_of_its_steps(tmp_path: Path) -> None:
    """9 steps in 1 s, 10 in 4 s and after a resumption 9 in 1 s, of 10 images: 280 / 6; the windows' mean is 68.3."""
    lines(
        tmp_path / "metrics.jsonl",
        window(10, 1.0, 90.0, data_wait_share=0.5, joules=90.0),
        window(20, 4.0, 25.0, joules=900.0, peak_memory_mib=712.0),
        {"step": 20, "samples": 200, "validation_t2i_r1": 1.0},
        window(30, 1.0, 90.0, data_wait_share=0.1, joules=130.0),
    )
    lines(
        tmp_path / "stops.jsonl",
        {"kind": "start", "step": 1, "seconds": 30, "device": "CPU", "ranks": 2, "again": 0, "joules": 600},
        {"kind": "validation", "step": 20, "seconds": 5, "joules": 30},
        {"kind": "checkpoint", "step": 20, "seconds": 2, "joules": 10},
        {"kind": "start", "step": 21, "seconds": 20, "device": "CPU", "ranks": 2, "again": 7, "joules": 40},
        {"kind": "checkpoint", "step": 30, "seconds": 3, "joules": 0},
    )
    with (tmp_path / "stops.jsonl").open("a") as file:
        file.write('{"kind": "check')  # the machine went down
    found = spent(tmp_path)
    assert found["images_per_s"] == 46.7
    assert found["data_wait_share"] == 0.1  # (0.5 + 0.1) s of 6
    assert found["cost"] == {
        "step_seconds": 6,
        "start_seconds": 50,
        "validation_seconds": 5,
        "checkpoint_seconds": 5,
        "starts": 2,
        "steps_again": 7,
        "device": "CPU",
        "ranks": 2,
        "tflops": 1,
        "padded_token_share": 0.1,
        "peak_memory_mib": 712,
        "joules_per_image": 4,  # 1,120 J of 280 images
        "kwh": 0.0005,  # 1,800 J with those of the stops
    }


@pytest.mark.slow
def test_a_killed_and_resumed_run_tells_its_starts_and_counts_each_step_once(tmp_path: Path) -> None:
    """Of 24 steps, 20 were logged and 15 kept when the first start was killed at 23; batches have 8 images."""
    before = time.perf_counter()
    for end in (23, None):
        checks.train(tmp_path, ALONE.device, 24, "float32", every=15, stop_after=end)
    wall = time.perf_counter() - before
    stops = [json.loads(line) for line in (tmp_path / "stops.jsonl").read_text().splitlines()]
    assert [(stop["kind"], stop["step"], stop.get("again")) for stop in stops] == [
        ("start", 1, 0),
        ("checkpoint", 15, None),
        ("start", 16, 5),
        ("validation", 24, None),
        ("checkpoint", 24, None),
    ]
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "loss" in row]
    # Without the first step of each start: steps 2 to 10, 17 to 20 and 21 to 24.
    images = [72, 32, 32]
    assert [round(row["images_per_s"] * row["step_seconds"], 2) for row in rows] == images
    found = spent(tmp_path)
    seconds = sum(row["step_seconds"] for row in rows)
    assert found["images_per_s"] == pytest.approx(sum(images) / seconds, abs=0.06)
    assert found["cost"]["starts"] == 2 and found["cost"]["steps_again"] == 5
    assert seconds + sum(stop["seconds"] for stop in stops) < wall


def test_what_was_not_measured_is_absent(tmp_path: Path) -> None:
    lines(tmp_path / "metrics.jsonl", window(10, 1.0, 90.0, joules=90.0), window(20, 1.0, 90.0))
    assert not {"kwh", "joules_per_image", "mfu", "recompilations", "device"} & set(spent(tmp_path)["cost"])
    lines(tmp_path / "metrics.jsonl", {"step": 1, "samples": 10, "loss": 1.0, "peak_memory_mib": 700.0})
    assert set(spent(tmp_path)) == {"cost"}


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
