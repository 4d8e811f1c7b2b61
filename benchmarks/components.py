"""Who spends the time of a step: a clock that components switch as they begin and end, forward and backward.

A component is a module or a function. Between its inputs and its outputs go identities whose backward passes switch the
clock back, so that the backward pass is told apart too: autograd runs it in the reverse order of the forward pass.
"""

import pkgutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.measuring import now
from caft.loss.exchange import Exchange
from caft.network.vision.encoder import HierarchicalVisionEncoder
from caft.train.task import TrainingTask

REST = "rest"


class Clock:
    """Seconds of each component, and bytes that autograd keeps for it.

    Seconds are processor time on a CPU, so that other work on the machine does not count; on a GPU, time between events
    among its kernels, which disturb none of them, and in which it may also wait for the program.

    Attributes:
        kept: Bytes of tensors saved for the backward pass, each storage once, with the component that saved it first.
    """

    def __init__(self, device: torch.device, weights: set[int]) -> None:
        self.device = device
        self._spans: list[tuple[bool, str, Any, Any]] = []
        self.kept: dict[str, int] = defaultdict(int)
        self.is_backward = False
        self._seen = set(weights)
        self._stack = [REST]
        self._last = self._now()

    def now(self) -> float:
        """Seconds."""
        return now(self.device)

    @property
    def forward(self) -> dict[str, float]:
        """Seconds by component, all that is not backward."""
        return self._seconds(False)

    @property
    def backward(self) -> dict[str, float]:
        """Likewise."""
        return self._seconds(True)

    def switch(self, name: str) -> None:
        """What is done from here on is this component's."""
        self._charge()
        self._stack[-1] = name

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """What is done inside is this component's, and after it again the one's before."""
        self._charge()
        self._stack.append(name)
        try:
            yield
        finally:
            self._charge()
            self._stack.pop()

    def note(self, tensor: Tensor) -> Tensor:
        """Counts a tensor that is saved for the backward pass."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.kept[self._stack[-1]] += storage.nbytes()
        return tensor

    def wrap(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The function as a component."""

        def timed(*arguments: Any, **named: Any) -> Any:
            arguments, named = self._marked((arguments, named), REST)
            with self.inside(name):
                found = function(*arguments, **named)
            return self._marked(found, name)

        return timed

    def _charge(self) -> None:
        now = self._now()
        self._spans.append((self.is_backward, self._stack[-1], self._last, now))
        self._last = now

    def _now(self) -> Any:
        if self.device.type != "cuda":
            return now(self.device)
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _seconds(self, backward: bool) -> dict[str, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        found: dict[str, float] = defaultdict(float)
        for is_backward, name, start, end in self._spans:
            if is_backward == backward:
                found[name] += start.elapsed_time(end) / 1e3 if self.device.type == "cuda" else end - start
        return found

    def _marked(self, value: Any, name: str) -> Any:
        """The value with one mark behind all tensors in it that have a gradient."""
        found: list[Tensor] = []

        def note(tensor: Tensor) -> Tensor:
            found.append(tensor)
            return tensor

        _map(value, note)
        if not found:
            return value
        marked = iter(_Mark.apply(self, name, *found))
        return _map(value, lambda _: next(marked))


class _Mark(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, clock: Clock, name: str, *tensors: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        ctx.set_materialize_grads(False)
        ctx.clock, ctx.name = clock, name
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:  # noqa: D102
        ctx.clock.switch(ctx.name)
        return None, None, *gradients


def _map(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """Changes the tensors with a gradient in nested tuples and dicts."""
    if isinstance(value, Tensor):
        return change(value) if value.requires_grad else value
    if isinstance(value, tuple):
        parts = [_map(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, dict):
        return {key: _map(part, change) for key, part in value.items()}
    return value


# Functions that are components, by the place where their callers look them up.
_FUNCTIONS = {
    "caft.network.vision.graph_pool.farthest_points": "sampling",
    "caft.network.vision.encoder.superpixel_tokens": "superpixel tokens",
    "caft.loss.part.fused_pair_sum": "part loss",
    "caft.loss.part.softmax_pair_sum": "part loss",
    "caft.loss.whole.matrix_loss": "whole loss",
}


@contextmanager
def watching(clock: Clock, task: TrainingTask) -> Iterator[None]:
    """Makes components of a task's parts, compiled or not, of the forward passes that run inside."""
    model, vision = task.model, task.model.vision
    modules: list[tuple[nn.Module, str]] = [(model.sub_caption, "text")]
    if model.whole_caption is not None:
        modules.append((model.whole_caption, "text"))
    if isinstance(vision, HierarchicalVisionEncoder):
        modules += [] if "stem" in vars(model) else [(vision.stem, "stem")]
        modules += [(blocks, f"blocks {number}") for number, blocks in enumerate(vision.stages, start=1)]
        modules += [(pool, "pooling") for pool in vision.pools]
    else:
        modules += [(vision.blocks, "blocks 1")] + ([] if "stem" in vars(model) else [(vision.patches, "stem")])
    with ExitStack() as stack:
        for module, name in modules:
            # A module that is compiled as a whole is called by another way than `forward`, which the compiler has read.
            method = "forward" if module._compiled_call_impl is None else "_compiled_call_impl"
            stack.enter_context(mock.patch.object(module, method, clock.wrap(getattr(module, method), name)))
        if "stem" in vars(model):
            stack.enter_context(mock.patch.object(model, "stem", clock.wrap(model.stem, "stem")))
        for place, name in _FUNCTIONS.items():
            stack.enter_context(mock.patch(place, clock.wrap(pkgutil.resolve_name(place), name)))
        stack.enter_context(mock.patch("caft.loss.exchange.Exchange.result", clock.wrap(Exchange.result, "exchange")))
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(clock.note, lambda tensor: tensor))
        yield
