"""Batches on their way to the device while it works on the one before."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from caft.data.training.batch import Batch
from caft.network import gpu
from caft.network.text.encoder import Packed


@dataclass(frozen=True)
class Placed:
    """A batch that a step can take.

    Attributes:
        batch: Images and ids on the device, rows on the host.
        tokens: The ids on the host.
        packed: The texts without padding, on the device; None where they are not packed.
    """

    batch: Batch
    tokens: Tensor
    packed: Packed | None


def placed(
    batches: Iterable[Batch], device: torch.device, pack: Callable[[Tensor], Packed | None] | None = None
) -> Iterator[Placed]:
    """The batches on the device; of a GPU one ahead, copied on a stream of its own, so that no step waits for a copy.

    Args:
        batches: On the host.
        device: Where they are wanted.
        pack: Packs the ids of a batch.
    """
    if device.type != "cuda":
        for batch in batches:
            yield _place(batch, device, pack)
        return
    stream = torch.cuda.Stream(device)

    def ready(found: Placed) -> Placed:
        ours = torch.cuda.current_stream(device)
        ours.wait_stream(stream)
        for tensor in (found.batch.images, found.batch.tokens, *(found.packed or ())):
            tensor.record_stream(ours)
        return found

    before: Placed | None = None
    for batch in batches:
        if before is not None:
            before = ready(before)  # before the next copy begins, so that it is not waited for too
        with torch.cuda.stream(stream):
            following = _place(batch, device, pack)
        if before is not None:
            yield before
        before = following
    if before is not None:
        yield ready(before)


def _place(batch: Batch, device: torch.device, pack: Callable[[Tensor], Packed | None] | None) -> Placed:
    packed = pack(batch.tokens) if pack is not None else None
    if packed is not None:
        packed = Packed(*(gpu.sent(tensor, device) for tensor in packed))
    there = Batch(gpu.sent(batch.images, device), gpu.sent(batch.tokens, device), batch.rows)
    return Placed(there, batch.tokens, packed)
