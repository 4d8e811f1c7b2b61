"""Counts what a long caption costs as sub-captions of several lengths, against one text of 248 tokens.

The paper holds sub-captions to be cheaper than a long context [P 3.2]. Compared are the operations of a forward pass of the
text towers alone: of the model `base`, and of CLIP's text tower of twelve layers.
"""

import argparse

from caft.params import load_params
from caft.train.cost import sample_cost
from caft.weights.flair import FLAIR

LONG = 248  # tokens of Long-CLIP's context
TEXTS = (8, 4)  # of an image in training, of a caption in evaluation
LENGTHS = (77, 45, 25)  # padded as in training; packed: of half a caption, of one sentence


def ratios() -> dict[str, float]:
    """Cost of sub-captions over that of one text of 248 tokens, by `<sub-captions>x<tokens of each>`."""
    base = load_params().models["base"]
    flat = FLAIR.model_copy(update={"text": FLAIR.text.model_copy(update={"context": LONG})})
    long = sample_cost(flat, 1, 1, asked=0).text
    return {
        f"{texts}x{length}": sample_cost(base, 4, texts, asked=0, text_length=length).text / long
        for texts in TEXTS
        for length in LENGTHS
    }


def main() -> None:
    """Runs the command."""
    argparse.ArgumentParser(prog="python -m benchmarks.text_length", description=__doc__).parse_args()
    print(f"sub-captions x tokens of each, over one text of {LONG} tokens")
    for name, ratio in ratios().items():
        print(f"{name:>6} {ratio:5.2f}")


if __name__ == "__main__":
    main()
