"""The commands `caft info` and `caft convert`."""

import argparse
from pathlib import Path
from typing import Any

from caft.digests import file_digest
from caft.errors import CaftError, CheckpointError
from caft.model.card import ModelCard
from caft.model.card_page import SCORES, render
from caft.model.command.common import say
from caft.model.interrupts import importing
from caft.model.output import check_output
from caft.storage import read_json
from caft.weights.hub import is_hub_name, local


def info(arguments: argparse.Namespace) -> None:
    """Prints a model's card, and what its file holds."""
    with importing():
        from caft.weights.load import load
    model = load(arguments.model)
    try:
        card = render(
            model.card, metrics_of(arguments.metrics, arguments.model, model.card) if arguments.metrics else {}
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # JSON of another shape
        raise CaftError(
            f"{arguments.metrics}: holds files that are not as the stages write them ({error!r}); run `dvc repro` again"
        ) from None
    say(card)
    say("## Weights\n")
    network = model.network
    groups = {"superpixels (frozen)": network.superpixels, "image tower": network.vision, "text pooling": network.pool}
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in groups.items() if module}
    total = sum(p.numel() for p in network.parameters())
    counts["text tower, norms and projections"] = total - sum(counts.values())
    for name, count in {**counts, "all": total}.items():
        say(f"- {name}: {count:,}")
    for level, (log_scale, bias) in network.temperatures.items():
        say(f"- {level} level: scale {log_scale.detach().exp():.2f}, bias {bias.detach():.2f}")


def convert(arguments: argparse.Namespace) -> None:
    """Turns the authors' checkpoint into this project's two files, weights and card."""
    output: Path = arguments.output
    check_output(output, ".safetensors")
    if not is_hub_name(arguments.checkpoint) and Path(arguments.checkpoint).suffix == ".safetensors":
        raise CheckpointError(f"{arguments.checkpoint}: is in this project's form already; caft.load reads it")
    with importing():
        from caft.weights.files import save_model
        from caft.weights.load import load
    model = load(arguments.checkpoint)
    save_model(model.network, output, model.card)
    say(f"{output}\n{output.with_suffix('.json')}")


def metrics_of(folder: Path, name: str, card: ModelCard, required: bool = False) -> dict[str, Any]:
    """What the stages wrote of a model's scores, by the name of the file.

    Args:
        folder: Where they wrote: `metrics`, or of given weights `metrics/external`.
        name: The model's file, or its name on a hub.
        card: The model's.
        required: Whether the folder must say whose scores they are.

    Raises:
        CaftError: There are none, they are another model's, or not as the stages write them.
    """
    found = {name: read_json(path, "evaluate") for name in SCORES if (path := folder / f"{name}.json").is_file()}
    if not found:
        raise CaftError(f"{folder}: none of {', '.join(SCORES)} (.json) there; give the folder that the stages write")
    given = read_json(path, "weights") if (path := folder / "weights.json").is_file() else {}
    for file, scores in {**found, "weights": given}.items():
        if not isinstance(scores, dict):
            raise CaftError(
                f"{folder / file}.json: expected an object of scores, found {type(scores).__name__}; "
                "give the folder that the stages write, metrics"
            )
    if (trained := found.get("train", {}).get("settings_digest")) not in (None, card.fingerprint):
        raise CaftError(f"{folder}: scores of the model {trained}, not of {card.fingerprint}; run `dvc repro` again")
    if trained is None and "sha256" in given:
        # Converted weights keep the beginning of their file's digest as fingerprint.
        if (trained := str(given["sha256"])[:16]) not in (card.fingerprint, own := file_digest(local(name))[:16]):
            raise CaftError(f"{folder}: scores of the weights {trained}, not of {own}; score these (docs/score.md)")
    if required and trained is None:
        raise CaftError(f"{folder}: nothing says whose scores these are; give a folder with train.json or weights.json")
    return found
