"""Fine-tuning on few pictures, against the start and against training anew on the same budget: docs/finetune.md's table.

The pictures are rendered scenes of other seeds, described in other words and another order than the default corpus', so
that given weights know the things and not the language. A quarter is held out; training, its start and the training anew are
scored on that. Everything goes through the pipeline's own stages, in a folder that is removed afterwards.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from caft.data.scenes.grammar import Scene, training_scene
from caft.data.scenes.server import picture
from caft.digests import ROOT
from caft.errors import LaunchError, exits_with_message
from caft.params import load_params
from caft.storage import write_text

SEEDS = (0, 1, 2)
PICTURES = 268  # 201 to train on, 67 held out
_SIDE = 64
_FIRST = 1000  # seeds of scenes that no corpus has
_PLACES = ("north-west", "north", "north-east", "west", "midst", "east", "south-west", "south", "south-east")
_PATTERNS = {"plain": "of one tone", "striped": "with bands across it", "dotted": "with dots all over"}
_GROUNDS = {"smooth": "an even", "tiled": "a chequered", "grainy": "a speckled"}
_STAGES = ("source", "fetch", "captions", "sentences", "select", "index", "leakage", "superpixels")
_OF_CORPUS = _STAGES[:4]
_ANEW = ("init=null", "recipes.finetune.layer_decay=null")
SCORES = {"t2i_r1": "T2I", "i2t_r1": "I2T", "part_t2i_r1": "T2I, part"}


def described(scene: Scene) -> str:
    """A long caption in other words than the corpus' annotators have, what is farthest down first."""
    sentences = [f"Behind everything lies {_GROUNDS[scene.texture]} ground of {scene.background}."]
    for item in sorted(scene.objects, key=lambda item: -item.cell):
        size = "reaching far" if item.size == "large" else "taking little room"
        words = f"toward the {_PLACES[item.cell]}, {size}, sits some {item.shape} in {item.colour} {_PATTERNS[item.pattern]}"
        sentences.append(words[0].upper() + words[1:] + ".")
    return " ".join(sentences)


def write_table(folder: Path, seed: int, count: int) -> Path:
    """Renders the pictures and writes the table of their captions; returns where."""
    folder.mkdir()
    table = folder / "captions.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "long_caption"])
        for number in range(count):
            (folder / f"{number:04d}.jpg").write_bytes(picture(_FIRST + seed, number, _SIDE))
            writer.writerow([f"{number:04d}.jpg", described(training_scene(_FIRST + seed, number))])
    return table


def scored(given: Path, seed: int, count: int) -> dict[str, dict[str, float]]:
    """Held-out scores of the start, after fine-tuning, and of training anew."""
    with tempfile.TemporaryDirectory(prefix="finetune-") as name:
        home = Path(name)
        shutil.copy(ROOT / "params.yaml", home)
        table = write_table(home / "photos", seed, count)
        corpus = {"kind": "custom", "table": str(table), "expected_images": count, "licence": "generated"}
        corpus["fetch"] = {"image_size": _SIDE, "images_per_shard": 100}
        settings = {"corpora": ["mine"], "corpus": {"mine": corpus}, "recipe": "finetune", "seed": seed}
        weights = str(given.resolve())
        overlay = {**settings, "init": weights, "superpixels": {"checkpoint": weights}, "benchmarks": {}}
        write_text(home / "overlay.yaml", json.dumps(overlay))  # JSON is YAML
        for stage in _STAGES:
            _run(home, stage, ["mine"] if stage in _OF_CORPUS else [])
        _run(home, "train", [])
        held_out = json.loads((home / "metrics/train.json").read_text())["held_out"]
        # Training anew takes the default run's rate, at which a random start gets on.
        rate = load_params(home / "params.yaml").recipes["smoke"].learning_rate
        values = (*_ANEW, f"train.learning_rate={rate!r}")
        _run(home, "train", [word for value in values for word in ("--set", value)])
        with (home / "plots/train.csv").open(newline="", encoding="utf-8") as file:
            last = [row for row in csv.DictReader(file) if row["validation_t2i_r1"]][-1]
        anew = {key: float(last[f"validation_{key}"]) for key in SCORES}
    return {"start": held_out["before"], "fine-tuned": held_out["after"], "anew": anew}


def _run(home: Path, stage: str, words: Sequence[str]) -> None:
    command = [sys.executable, "-m", f"pipelines.{stage}", "--overlay", "overlay.yaml", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CAFT_STORAGE": str(home)}
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise LaunchError(f"stage {stage} ended with {done.returncode}:\n{done.stderr[-1500:]}")


def table_of(found: Mapping[int, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """Mean and range over seeds, as a table in Markdown."""
    lines = ["| held-out R@1, percent | " + " | ".join(SCORES.values()) + " |", "| --- |" + " ---: |" * len(SCORES)]
    for form in ("start", "fine-tuned", "anew"):
        cells = []
        for key in SCORES:
            values = [scores[form][key] for scores in found.values()]
            cells.append(f"{statistics.fmean(values):.1f} ({min(values):.1f} to {max(values):.1f})")
        lines.append(f"| {form} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Runs the seeds one after the other and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path, help="a finished default run's models/caft.safetensors")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of pictures and training")
    parser.add_argument("--pictures", type=int, default=PICTURES, help="of which a quarter is held out")
    arguments = parser.parse_args()
    found = {}
    with exits_with_message():
        for seed in arguments.seeds:
            found[seed] = scored(arguments.model, seed, arguments.pictures)
            print(f"seed {seed}: {json.dumps(found[seed])}", file=sys.stderr, flush=True)
    print("\n".join(table_of(found)))


if __name__ == "__main__":
    main()
