"""The command `caft push`."""

import argparse
import tempfile
from pathlib import Path

from caft.model.command.common import say
from caft.model.command.weights import metrics_of
from caft.model.interrupts import importing


def push(arguments: argparse.Namespace) -> None:
    """Sends a model to a model hub: weights, card and page, and nothing else."""
    with importing():
        from caft.weights.load import load
        from caft.weights.push import destination, licence_of, pack, push
    to = destination(arguments.to)
    model = load(arguments.model)
    licence = licence_of(model, arguments.license)
    metrics = metrics_of(arguments.metrics, arguments.model, model.card, True) if arguments.metrics else {}
    with tempfile.TemporaryDirectory(prefix="caft-push-") as name:
        files = pack(model, to, licence, metrics, Path(name))
        if arguments.dry_run:
            kind = (
                "private"
                if arguments.private
                else "as the hub makes it by default, public unless your organization says otherwise"
            )
            say(f"would be sent to {to.repository}, if new {kind}:")
            for file in files:
                say(f"  {file.name}  {file.stat().st_size:,} bytes")
            say(f"\n{files[0].read_text(encoding='utf-8')}")
            return
        say(push(files, to, arguments.private or None))
