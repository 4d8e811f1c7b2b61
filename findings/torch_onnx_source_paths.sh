#!/usr/bin/env bash
# torch 2.13.0 (build for CPUs), onnx 1.23.2, onnxscript 0.7.2 on Python 3.11.
# Guess: an ONNX file of `torch.onnx.export` holds the graph and its weights, so it can be published as it is.
# Seen:  each node also has the lines of Python that it came from, as the property `pkg.torch.onnx.stack_trace`, with the absolute
#        paths of the files on the machine that exported: user names and folders go with the model. Other properties of the node
#        name the modules around it.
# Here:  `caft export` clears the properties of all nodes; a test looks for paths in the files.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu numpy==2.4.6 \
  onnx==1.23.2 onnxscript==0.7.2
cat > "$work/my_model.py" <<'P'
import onnx
import torch


class Shift(torch.nn.Module):
    def forward(self, x):
        return x * 2 + 1


written = torch.onnx.export(Shift(), (torch.zeros(2, 4),), dynamo=True, verbose=False)
written.save("model.onnx")
nodes = onnx.load("model.onnx").graph.node
found = {prop.key: prop.value for node in nodes for prop in node.metadata_props}
print(torch.__version__, onnx.__version__, sorted(found))
print(found["pkg.torch.onnx.stack_trace"])
content = open("model.onnx", "rb").read()
assert __file__.encode() in content
P
(cd "$work" && "$work/env/bin/python" "$work/my_model.py" 2> /dev/null)
