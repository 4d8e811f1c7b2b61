"""Trains on scenes with false sentences, on the same without those that the auditor flags, and on scenes without any.

  python -m pipelines.audit_compare --seeds 0

Each arm is a folder of its own under the storage root, scratch/audit, in which the stages of dvc.yaml run one after the other,
so nothing of the checkout is touched but the result, metrics/audit/compare.json. What has run is not run again. The dirty arm's
own model is the auditor: nothing clean is known to it. Three trainings a seed.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from caft.errors import LaunchError
from caft.eval.analysis.filtered import caught, regained
from caft.params import Params
from caft.storage import read_json, scratch_folder, write_json
from pipelines.stage import run

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[1]
CORPUS = "scenes"
RATE = 0.2
ARMS = ("clean", "dirty", "filtered")
_DATA = ("source", "fetch", "captions", "sentences")  # of a corpus
_TRAINING = ("leakage", "superpixels", "train", "evaluate_retrieval")
_COPIED = ("urls", "images", "captions", "sentences", "benchmarks", "corpora.json")


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs what is left of the experiment and writes its result."""
    home = scratch_folder(params, "audit")
    scores: dict[str, dict[str, Any]] = {arm: {} for arm in ARMS}
    audits: dict[str, Any] = {}
    for seed in arguments.seeds:
        for arm in ARMS:
            folder = home / arm
            for module, words in steps(arm, arguments.share, home):
                _step(folder, home / "storage", module, [*words, *_settings(arguments, arm, seed, home)])
            scores[arm][str(seed)] = read_json(folder / "metrics/retrieval.json", "evaluate_retrieval")
        truth, tables = (home / "dirty/data" / name / CORPUS for name in ("benchmarks", "support"))
        audits[str(seed)] = caught(sorted(tables.glob("*.parquet")), truth / "false_sentences.csv")
    data = {arm: read_json(home / arm / "metrics/data.json", "index")[CORPUS] for arm in ARMS}
    result = {"rate": arguments.rate, "seeds": arguments.seeds, "audit": audits, "data": data}
    write_json("metrics/audit/compare.json", {**result, "scores": scores, "regained": regained(scores)})


def steps(arm: str, share: float | None, home: Path) -> Iterator[tuple[str, list[str]]]:
    """Stages of an arm in their order, each with its own arguments; `share` is what the dirty arm's audit flags."""
    if arm != "filtered":
        yield from ((stage, [CORPUS]) for stage in _DATA)
        yield "select", []
    else:
        _share(home / "dirty" / "data", home / arm / "data")
    yield from ((stage, []) for stage in ("index", *_TRAINING))
    if arm == "dirty":
        yield "audit_captions", [] if share is None else ["--share", str(share)]


def _share(source: Path, target: Path) -> None:
    """Gives the filtered arm the data of the dirty one, by links."""
    target.mkdir(parents=True, exist_ok=True)
    for name in _COPIED:
        if not (target / name).exists():
            (target / name).symlink_to(source / name)


def _settings(arguments: argparse.Namespace, arm: str, seed: int, home: Path) -> list[str]:
    values = ["init=null", *arguments.set, f"seed={seed}", f"corpora=[{CORPUS}]"]
    if arm != "clean":
        values.append(f"corpus.{CORPUS}.false_sentences={arguments.rate}")
    left_out = home / "dirty/data/support" if arm == "filtered" else "null"  # whatever the settings leave out
    values.append(f"data.exclude_unsupported={left_out}")
    overlays = (word for path in arguments.overlay for word in ("--overlay", str(Path(path).resolve())))
    return [
        "--params",
        str(Path(arguments.params).resolve()),
        *overlays,
        *(word for v in values for word in ("--set", v)),
    ]


def _step(folder: Path, storage: Path, module: str, words: Sequence[str]) -> None:
    """Runs a stage in a folder, unless it has run there last with the same arguments and all before it too.

    Raises:
        LaunchError: The stage has failed; its own message stands above.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "done.json"
    known: dict[str, list[str]] = json.loads(done.read_text()) if done.exists() else {}
    if known.get(module) == list(words):
        return
    following = list(known)[list(known).index(module) :] if module in known else []
    for name in following:  # they read what is written again now
        del known[name]
    write_json(done, known)
    logger.info("%s: %s", folder.name, module)
    environment: Mapping[str, str] = {
        **os.environ, "PYTHONPATH": str(ROOT), "CAFT_STORAGE": str(storage), "DVC_ROOT": str(folder),
    }  # fmt: skip
    ended = subprocess.run(
        [sys.executable, "-m", f"pipelines.{module}", *words], cwd=folder, env=environment, check=False
    )
    if ended.returncode:
        raise LaunchError(
            f"{folder}: stage {module} has ended with code {ended.returncode}; its message is above. Mend that and repeat the "
            "command, which goes on there"
        )
    write_json(done, {**known, module: list(words)})


def more(parser: argparse.ArgumentParser) -> None:
    """The script's own arguments."""
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of training (0)")
    parser.add_argument("--share", type=float, metavar="S", help="flag this share of the sentences (by Tukey's fence)")
    parser.add_argument("--rate", type=float, default=RATE, help=f"share of sentences that are false ({RATE})")


if __name__ == "__main__":
    run(main, more=more)
