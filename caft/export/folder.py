"""A folder with a model in one form: the graphs, what to know of them, how they compare, and the model's page."""

import importlib.metadata
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray
from torch.export import ExportedProgram

from caft.digests import file_digest
from caft.errors import CaftError
from caft.export import parity, programs
from caft.export.graphs import Graph, chunks_of, graphs
from caft.export.running import Form, Network, Programs, Sessions
from caft.model.card import ModelCard
from caft.model.card_page import render, saw_scenes_alone
from caft.model.model import Model
from caft.storage import replacing

Kind = Literal["onnx", "torch-export"]
Scores = Callable[[Form], Mapping[str, Mapping[str, float]]]

_LARGEST = 1e-4  # difference from the network, as a share of an output's scale
_LICENCE = "Apache-2.0"
_INT8 = ".int8.onnx"
# Graphs that are also written in eight bits; that of the scores is small.
_IN_EIGHT_BITS = ("image", "text", "caption")


class Traced:
    """A model whose graphs are traced once for all forms, and what the network itself gives.

    Args:
        model: The model, on the CPU.
        weights: Its file.
        scores: What scores a form on evaluation sets.
    """

    def __init__(self, model: Model, weights: Path, scores: Scores) -> None:
        self.model, self.weights, self.scores = model, weights, scores
        self.graphs = graphs(model.network)
        self.programs: dict[str, ExportedProgram] = {graph.name: programs.trace(graph) for graph in self.graphs}
        network = Network(model.network)
        self.cases = parity.cases(network)
        self.of_network = scores(network)

    def write(self, folder: Path, kind: Kind, int8: bool = False) -> str:
        """Writes a folder, whole or not at all, and returns the parity table.

        Raises:
            CaftError: What was written gives other numbers than the network, or does not fit a file.
        """
        with replacing(folder) as temporary:
            temporary.mkdir()
            for graph in self.graphs:
                self._write_graph(graph, temporary, kind, int8)
            forms: dict[str, Form] = {}
            if kind == "onnx":
                forms["onnx"] = Sessions(temporary, self.graphs)
                if int8:
                    forms["int8"] = Sessions(temporary, self.graphs, _INT8)
            else:
                forms["torch.export"] = Programs(temporary, self.graphs)
            differences = {name: parity.compare(form, self.cases) for name, form in forms.items()}
            _require_equal(differences, folder)
            scores = {"network": self.of_network} | {name: self.scores(form) for name, form in forms.items()}
            table = parity.table(differences, scores)
            (temporary / "parity.md").write_text(table, encoding="utf-8")
            page = render(self.model.card).rstrip()
            (temporary / "card.md").write_text(f"{page}\n\n## Exported\n\n{_about(kind)}\n\n{table}", encoding="utf-8")
            # The last file: without it, nothing is whole.
            facts = self._facts(temporary, kind, differences, scores)
            (temporary / "manifest.json").write_text(json.dumps(facts, indent=1) + "\n")
        return table

    def _write_graph(self, graph: Graph, folder: Path, kind: Kind, int8: bool) -> None:
        program = self.programs[graph.name]
        if kind == "torch-export":
            programs.write_program(program, folder / f"{graph.name}.pt2")
            return
        path = folder / f"{graph.name}.onnx"
        programs.write_onnx(program, graph, path)
        if int8 and graph.name in _IN_EIGHT_BITS:
            programs.write_int8(path, folder / f"{graph.name}{_INT8}")

    def _facts(
        self,
        folder: Path,
        kind: Kind,
        differences: Mapping[str, parity.Difference],
        scores: Mapping[str, Mapping[str, Mapping[str, float]]],
    ) -> dict[str, Any]:
        network, card = self.model.network, self.model.card
        packages = ("torch", *(programs.ONNX_PACKAGES if kind == "onnx" else ()))
        files = sorted(path for path in folder.iterdir() if path.suffix in (".onnx", ".pt2"))
        return {
            "form": kind,
            "opset": programs.OPSET if kind == "onnx" else None,
            "made_with": {name: importlib.metadata.version(name) for name in packages},
            "model": {"file": self.weights.name, "sha256": file_digest(self.weights), "fingerprint": card.fingerprint},
            "licence": {"code": _LICENCE, "weights": _licence(card)},
            "files": {path.name: {"sha256": file_digest(path), "bytes": path.stat().st_size} for path in files},
            "graphs": {graph.name: self._ports(graph) for graph in self.graphs},
            "image_size": network.image_size,
            "context": network.context,
            "part_stage": network.config.part_stage - 1 if network.has_part else None,
            "reading": {"splitter": card.splitter, "chunks": chunks_of(network), "rule": card.balanced_rule},
            "temperatures": {
                level: {
                    "scale": float(network.temperature(level)[0].detach().exp()),
                    "bias": float(network.temperature(level)[1].detach()),
                }
                for level in (("whole", "part") if network.has_part else ("whole",))
            },
            "parity": {
                name: {"largest_difference": one.largest, "pictures": one.pictures, "same_segments": one.same}
                for name, one in differences.items()
            },
            "scores": scores,
            "card": card.record(),
        }

    def _ports(self, graph: Graph) -> dict[str, Any]:
        """Inputs and outputs of a graph: type, and shape with letters for sizes that are open."""
        case = next(case for case in self.cases if case.graph == graph.name)
        leading = [dims[0] for dims in graph.open.values()]  # each output begins with the first sizes of the inputs
        return {
            "inputs": {name: _port(value, graph.open[name]) for name, value in case.inputs.items()},
            "outputs": {name: _port(value, dict(enumerate(leading))) for name, value in case.wanted.items()},
        }


def _port(value: NDArray[Any], letters: Mapping[int, str]) -> dict[str, Any]:
    return {"dtype": str(value.dtype), "shape": [letters.get(place, size) for place, size in enumerate(value.shape)]}


def _require_equal(differences: Mapping[str, parity.Difference], folder: Path) -> None:
    for name, one in differences.items():
        if name != "int8" and (one.worst > _LARGEST or 2 * one.same < one.pictures):
            output = max(one.largest, key=one.share)
            raise CaftError(
                f"{folder}: not written, since {name} gives other numbers than the network: {output} by "
                f"{one.largest[output]:.1e} (at most {_LARGEST:.0e} of {one.scale[output]:.1e}), {one.same} of {one.pictures} "
                "pictures with the same segments; the installed packages may be at fault: docs/export.md says which were tested"
            )


def _about(kind: Kind) -> str:
    made = "ONNX, for onnxruntime" if kind == "onnx" else "programs of `torch.export`"
    return (
        f"In the form of {made}; docs/export.md of the project says what goes in and out. Differences are of random "
        "batches from the network itself; scores are CAFT++'s R@1 and the mean IoU of masks, in percent."
    )


def _licence(card: ModelCard) -> str:
    if saw_scenes_alone(card):
        return _LICENCE
    return "as where they were published; terms of training data may bind them (data/README.md of the project)"
