"""A training step asks a device that runs ahead for nothing: no number is read, no copy is waited for."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from caft.train.ahead import Placed, placed
from caft.train.distributed import World
from caft.train.trainer import Trainer
from tests.gpu import checks, pretend

aten = torch.ops.aten
# What a GPU's program waits in: sizes and values that the host must know.
_ASK = {
    aten._local_scalar_dense, aten.nonzero, aten.unique_dim, aten._unique2, aten.unique_consecutive, aten.bincount,
    aten.masked_select, aten.is_nonzero, aten.equal, aten.repeat_interleave,
}  # fmt: skip


@contextmanager
def counted_waits() -> Iterator[tuple[torch.device, Counter[str]]]:
    """The pretended device as one that runs ahead, and how often it is waited for inside, by operation."""
    waits: Counter[str] = Counter()
    run = pretend._run

    def watched(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        tensors = [leaf for leaf in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [tensor for tensor in tensors if isinstance(tensor, pretend.Elsewhere)]
        if there and func.overloadpacket in _ASK:
            waits[str(func)] += 1
        if func.overloadpacket in (aten._to_copy, aten.copy_):
            target = torch.device(kwargs.get("device") or tensors[0].device)
            crosses = any(tensor.device != target for tensor in tensors)
            if crosses and not (kwargs.get("non_blocking") or (len(args) > 2 and args[2])):
                waits[f"{func} to {target.type}"] += 1
        if there and func in pretend._INDEXES and len(there) < len(tensors):
            waits[f"{func} with a value of the host's"] += 1
        return run(func, args, kwargs)

    def listed(tensor: Tensor) -> Any:
        waits["tolist"] += 1
        return tensor.detach().inner.tolist()

    with (
        pretend.pretended_device() as device,
        mock.patch("tests.gpu.pretend._run", watched),
        mock.patch.object(pretend.Elsewhere, "tolist", listed),
        mock.patch("caft.network.gpu.runs_ahead", lambda device: torch.device(device) == pretend.ELSEWHERE),
        mock.patch.object(torch.Tensor, "pin_memory", lambda tensor: tensor),
        mock.patch.object(torch.Tensor, "is_pinned", lambda tensor: True),
        mock.patch("torch.cuda.Event", mock.Mock),
        mock.patch("caft.network.vision.sampling._HAS_TRITON", False),
        mock.patch("caft.network.layers.packed_attention", masked_attention),
    ):
        yield device, waits


def masked_attention(query: Tensor, key: Tensor, value: Tensor, starts: Tensor, longest: int, causal: bool) -> Tensor:
    """As `packed_attention`, over all tokens at once, by a mask that shuts the other sequences out."""
    places = torch.arange(len(query), device=query.device)
    sequence = (places[:, None] >= starts[None, 1:]).sum(1)
    seen = sequence[:, None] == sequence[None]
    if causal:
        seen = seen & (places[:, None] >= places[None])
    query, key, value = (part.transpose(0, 1) for part in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=seen).transpose(0, 1)


def trainer_on(device: torch.device, tmp_path: Any, **changes: Any) -> Trainer:
    settings = checks.recipe(batch=4, **changes)
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    made = checks.task(settings, device).train()
    return Trainer(made, settings, World(0, 1, device), tmp_path, "waits", 10, seed=0)


def step(trainer: Trainer, one: Placed) -> dict[str, Tensor]:
    terms, _, _ = trainer._one_step(one, lambda batch: trainer.task.model.superpixel_labels(batch.images))
    trainer.step += 1
    return terms


@pytest.mark.parametrize(("clip", "ema"), [(None, None), (1.0, 0.9)])
def test_a_step_waits_for_nothing(tmp_path: Any, clip: float | None, ema: float | None) -> None:
    batches = checks.random_batches(3, images=4)
    with counted_waits() as (device, waits):
        trainer = trainer_on(device, tmp_path, clip_norm=clip, weights_ema=ema)
        ready = list(placed(batches, device, trainer.task.pack))
        waits.clear()
        losses = [step(trainer, one)["loss"] for one in ready]
        assert not waits
        assert trainer.skipped == 0 and trainer._unread is not None
        found = [loss.item() for loss in losses]
        assert waits  # so that they are counted at all
    cpu = trainer_on(torch.device("cpu"), tmp_path, clip_norm=clip)
    expected = [step(cpu, one)["loss"].item() for one in placed(batches, torch.device("cpu"))]
    assert found == pytest.approx(expected, rel=1e-4)


def test_texts_that_are_not_packed_are_waited_for(tmp_path: Any) -> None:
    with counted_waits() as (device, waits):
        trainer = trainer_on(device, tmp_path)
        (ready,) = placed(checks.random_batches(1, images=4), device)
        waits.clear()
        step(trainer, ready)
        assert waits["tolist"] == 2 and any("unique" in name for name in waits)


def test_a_step_that_is_not_finite_is_masked_on_the_device_and_told_one_step_later(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    batches = checks.random_batches(3, images=4)
    with counted_waits() as (device, _):
        trainer = trainer_on(device, tmp_path)
        ready = list(placed(batches, device, trainer.task.pack))
        step(trainer, ready[0])
        before = [parameter.detach().clone() for parameter in trainer.task.parameters()]
        forward = trainer.wrapped.forward

        def spoilt(*arguments: Any) -> Any:
            terms = forward(*arguments)
            return {**terms, "loss": terms["loss"] * float("nan")}

        with mock.patch.object(trainer.wrapped, "forward", spoilt):
            step(trainer, ready[1])
        assert trainer.skipped == 0  # nobody has asked yet
        after = [parameter.detach() for parameter in trainer.task.parameters()]
        assert all(bool((a == b).all()) for a, b in zip(before, after, strict=True))
        step(trainer, ready[2])
        assert trainer.skipped == 1 and "step 1 is skipped, 1 so far: the loss is nan on 4, 5, 6, 7" in caplog.text
        trainer._judge_last()
        assert trainer.skipped == 1 and trainer.skipped_in_a_row == 0
        counts = {float(state["step"]) for state in trainer.optimizer.state.values()}
        assert counts == {2.0}  # the masked step is not one of the optimizer's
