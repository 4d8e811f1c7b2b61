"""Stage of pipelines/audit: how well support tells planted false sentences about scenes from true ones, by what is false."""

import argparse
from typing import Any

from caft.errors import ParamsError
from caft.eval.analysis.planted import over_plantings
from caft.params import Params
from caft.params.corpora import ScenesCorpus
from caft.storage import write_json
from caft.weights.placed import load_model
from pipelines.stage import run

RATES = (0.05, 0.2)
SCENES, SEEDS = 1000, 5


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Writes ``metrics/audit/planted.json``.

    Raises:
        ParamsError: No corpus of the settings is rendered here.
    """
    sides = [corpus.image_size for corpus in params.corpus.values() if isinstance(corpus, ScenesCorpus)]
    if not sides:
        raise ParamsError("corpus: none is of the kind scenes, in which false sentences could be planted")
    model = load_model(arguments.model)
    content: dict[str, Any] = {"weights": model.card.fingerprint, "scenes": arguments.scenes, "seeds": arguments.seeds}
    for rate in RATES:
        content[f"{rate:g}"] = over_plantings(model.network, arguments.scenes, rate, arguments.seeds, sides[0])
    write_json(arguments.output, content)


def more(parser: argparse.ArgumentParser) -> None:
    """The stage's own arguments."""
    parser.add_argument(
        "--model", default="models/caft.safetensors", help="weights that judge (models/caft.safetensors)"
    )
    parser.add_argument("--scenes", type=int, default=SCENES, help=f"of each seed ({SCENES})")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"of scenes and false sentences ({SEEDS})")
    parser.add_argument("--output", default="metrics/audit/planted.json", help="(metrics/audit/planted.json)")


if __name__ == "__main__":
    run(main, more=more)
