"""Draws examples of a set of referring expressions: where each looks, and the mask it finds. (Of your own picture:
`caft ground`.)

The README's picture: python -m pipelines.figures --set sentence -o docs/overlay.png
"""

import argparse
from pathlib import Path

from caft.data.sets import Missing, load_referring
from caft.errors import CaftError, exits_with_message
from caft.eval.analysis.examples import score_examples, segment, spread
from caft.model.drawing.figures import fit, overlay
from caft.model.drawing.panels import Block, masked, write
from caft.model.output import check_output
from caft.network.caft import CAFT
from caft.params import load_params
from caft.weights.placed import load_model

EXAMPLES, SIDE, IMAGES = 4, 132, 128


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.figures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", required=True, help="a set of referring expressions of params.yaml")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a .png file, or a folder for single pictures")
    parser.add_argument("--model", default="models/caft.safetensors", help="weights (models/caft.safetensors)")
    arguments = parser.parse_args()
    with exits_with_message():
        check_output(arguments.output, folder=True)
        blocks = of_set(load_model(arguments.model).network, arguments.set)
        for path in write(blocks, 2, arguments.output, palette=True):
            print(path)


def of_set(model: CAFT, name: str) -> list[Block]:
    """Expressions of a referring set, from the best to the worst IoU at even distances, the very ends left out.

    Raises:
        CaftError: The settings have no such set, or its files are not there.
    """
    params = load_params()
    benchmarks, membership = params.benchmarks, params.evaluation.membership
    if name not in benchmarks or benchmarks[name].kind != "referring":
        known = ", ".join(key for key, benchmark in benchmarks.items() if benchmark.kind == "referring")
        raise CaftError(f"--set {name}: params.yaml has no such set of referring expressions; known are {known}")
    loaded = load_referring(benchmarks[name])
    if isinstance(loaded, Missing):
        raise CaftError(f"--set {name}: {loaded.reason}")
    cases = sorted(
        score_examples(model, loaded, params.evaluation.batch, IMAGES, membership), key=lambda case: -case.iou
    )
    blocks: list[Block] = []
    for place in spread(len(cases), EXAMPLES):
        found = segment(model, "", cases[place + len(cases) // (2 * EXAMPLES)], membership)
        shown = fit(found.image, SIDE)
        mask = (masked(shown, found.mask), f"mask, IoU {100 * found.iou:.0f}")
        blocks.append((found.text, [(shown, "picture"), (overlay(shown, found.values), "attention"), mask]))
    return blocks


if __name__ == "__main__":
    main()
