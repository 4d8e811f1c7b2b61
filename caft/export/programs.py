"""Files of graphs: programs of torch.export, and ONNX from these, in float32 or with weights of eight bits."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from caft.errors import CaftError
from caft.export.graphs import Graph

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 20  # the first with GELU, and what torch's exporter writes without conversion
_MOST = 2**31  # bytes of one ONNX file


def require_onnx() -> None:
    """Makes sure that what writes and runs ONNX is there.

    Raises:
        CaftError: A package is missing.
    """
    if missing := [name for name in ONNX_PACKAGES if find_spec(name) is None]:
        raise CaftError(
            f"ONNX needs {', '.join(ONNX_PACKAGES)}, and {', '.join(missing)} cannot be found; install the extra: "
            "pip install 'caft[export]'"
        )


def trace(graph: Graph) -> ExportedProgram:
    """The graph as torch's program, with its open sizes."""
    with torch.no_grad(), _quiet():
        program = torch.export.export(graph.module.eval(), (), graph.inputs, dynamic_shapes=_shapes(graph))
    for module in program.graph_module.modules():  # blocks under autocast are modules of their own
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # places of this machine, which would go into the file
    return program


def _shapes(graph: Graph) -> dict[str, dict[int, Dim]]:
    """Open sizes by input and dimension; equal letters are equal sizes."""
    sizes = {
        letter: Dim(letter, min=1, max=graph.most.get(letter))
        for dims in graph.open.values()
        for letter in dims.values()
    }
    return {name: {place: sizes[letter] for place, letter in dims.items()} for name, dims in graph.open.items()}


def write_program(program: ExportedProgram, path: Path) -> None:
    """Writes a program for `torch.export.load`."""
    with _quiet():
        torch.export.save(program, path)


def write_onnx(program: ExportedProgram, graph: Graph, path: Path) -> None:
    """Writes ONNX in float32, weights inside.

    Raises:
        CaftError: The weights are more than one ONNX file can hold.
    """
    held = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    if held >= _MOST:
        raise CaftError(
            f"{path.name}: the weights take {held / 1e9:.1f} GB, and an ONNX file holds at most 2; use --torch-export"
        )
    with torch.no_grad(), _quiet():
        written = torch.onnx.export(
            program,
            (),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=_shapes(graph),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert written is not None
    graphs = [written.model.graph, *(function.graph for function in written.model.functions.values())]
    for node in (node for one in graphs for node in one.all_nodes()):
        node.metadata_props.clear()  # more of these: findings/torch_onnx_source_paths.sh
    written.save(path)


def load_program(path: Path) -> torch.nn.Module:
    """What `write_program` wrote, ready to be called."""
    with _quiet():
        return torch.export.load(path).module()


def write_int8(path: Path, output: Path) -> None:
    """Writes an ONNX file again with the weights of its matrix products and embeddings in eight bits, by onnxruntime.

    What these products are given is brought to eight bits as it comes, each time by its own range. Convolutions stay: their
    labels and picks are choices, which a coarser number changes.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            path,
            output,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back what exporters say of their own state: neither the user nor we can act on it."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "root")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
