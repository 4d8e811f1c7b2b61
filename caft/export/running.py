"""A model's graphs as they are run in each form: by the network itself, by torch.export and by onnxruntime."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from caft.export.graphs import Graph
from caft.export.programs import load_program
from caft.network.caft import CAFT
from caft.network.vision.graph_pool import GraphPool, Pooled

Arrays = dict[str, NDArray[Any]]


class Form(Protocol):
    """A form of a model."""

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Outputs of a graph by their names."""


class Network:
    """The network as it is trained and evaluated: what the other forms are compared with.

    Nothing of `caft.export.forms` takes part, and the picks are those of its own poolings.
    """

    def __init__(self, network: CAFT) -> None:
        self.network = network

    @torch.no_grad()
    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Outputs of a graph by their names."""
        given = {name: torch.from_numpy(array).to(self.network.device) for name, array in inputs.items()}
        found: dict[str, Tensor] = getattr(self, f"_{graph}")(**given)
        return {name: tensor.cpu().numpy() for name, tensor in found.items()}

    def _image(self, pixels: Tensor) -> dict[str, Tensor]:
        picks = list[Tensor]()

        def keep(module: nn.Module, given: Any, pooled: Pooled) -> None:
            picks.append(pooled.picks)

        pools = [module for module in self.network.modules() if isinstance(module, GraphPool)]
        hooks = [pool.register_forward_hook(keep) for pool in pools]
        try:
            features = self.network.image_features(pixels)
        finally:
            for hook in hooks:
                hook.remove()
        found = {"whole": features.whole} | ({} if features.part is None else {"segments": features.part})
        found["labels"] = torch.stack(self.network.stage_labels(features), dim=1)
        found |= {f"assignment_{number}": one for number, one in enumerate(features.assignments, 1)}
        return found | {f"picks_{number}": one for number, one in enumerate(picks, 1)}

    def _text(self, tokens: Tensor) -> dict[str, Tensor]:
        features = self.network.sub_caption(tokens)
        return {"features": features} | (
            {"texts": self.network.project_sub_captions(features)} if self.network.has_part else {}
        )

    def _caption(self, features: Tensor) -> dict[str, Tensor]:
        return {"whole": F.normalize(self.network.combine(features).float(), dim=-1)}

    def _score(self, segments: Tensor, texts: Tensor) -> dict[str, Tensor]:
        asked = texts.expand(len(segments), -1, -1)
        return {
            "logits": self.network.part_logits(segments, texts),
            "attention": self.network.attention(segments, asked),
        }


class Programs:
    """Files of `torch.export`, in a folder."""

    def __init__(self, folder: Path, graphs: list[Graph]) -> None:
        self._modules = {graph.name: load_program(folder / f"{graph.name}.pt2") for graph in graphs}
        self._outputs = {graph.name: graph.outputs for graph in graphs}

    @torch.no_grad()
    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Outputs of a graph by their names."""
        found = self._modules[graph](**{name: torch.from_numpy(array) for name, array in inputs.items()})
        return {name: tensor.numpy() for name, tensor in zip(self._outputs[graph], found, strict=True)}


class Sessions:
    """Files of ONNX in a folder, by onnxruntime on the processor; `ending` is .onnx, or another where there is one."""

    def __init__(self, folder: Path, graphs: list[Graph], ending: str = ".onnx") -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self._sessions = {}
        for graph in graphs:
            path = folder / f"{graph.name}{ending}"
            path = path if path.exists() else folder / f"{graph.name}.onnx"
            self._sessions[graph.name] = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Outputs of a graph by their names."""
        session = self._sessions[graph]
        names = [output.name for output in session.get_outputs()]
        found = session.run(names, {name: np.ascontiguousarray(array) for name, array in inputs.items()})
        return dict(zip(names, found, strict=True))
