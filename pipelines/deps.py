"""Writes into dvc.yaml and pipelines/*/dvc.yaml which code each stage depends on: what its script imports.

To be run when a module is added, moved or imported in another place; `--check` only names the files that would change.
Inputs, comments and all else stay as they are. A stage that always runs needs no list.
"""

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from caft.digests import NO_RESULT, ROOT, closure, has_code

SCORE = "pipelines/score/dvc.yaml"
AUDIT = "pipelines/audit/dvc.yaml"
GRAPHS = (
    "dvc.yaml",
    *(f"pipelines/{name}/dvc.yaml" for name in ("ablation", "batches", "scaling", "scaling/paper")),
    AUDIT,
    SCORE,
)
PACKAGES = ("caft", "pipelines", "slurm", "benchmarks")

# No result depends on it, as on `NO_RESULT`.
PLUMBING = NO_RESULT | {
    "pipelines/__init__.py": "starts the command line",
    "pipelines/recorded.py": "whether DVC records what was read",
    "pipelines/signals.py": "how a stage ends that is told to",
    "pipelines/stage.py": "the command line",
    "slurm": "where a job runs",
}
# Given weights, which `SCORE` alone has.
GIVEN = {"caft/eval/given.py", "caft/weights/authors.py", "caft/weights/flair.py"}
# Of the trained model, which `SCORE` alone has not.
LIVE = {"caft/demo"}
# What some stages import although their results do not depend on it.
NOT_OF = {
    # puts lost images back, and verifies that they are the same
    "caft/data/crawl/fetch.py": {"captions", "leakage", "superpixels", "support", "train", "rate", "row", "point"},
    # reads and writes weights; it imports all of the model
    "caft/weights/files.py": {"superpixels", "evaluate_superpixels"},
    # read pictures, by a reader that also gives texts
    "caft/captions": {"leakage", "superpixels"},
    # pictures, which these pages do not have
    "caft/model/drawing/figures.py": {"summary"},
}


def code_of(graph: str, name: str, command: str) -> list[Path]:
    """Files that the result of a stage of a dvc.yaml depends on; its name is without the item of a loop.

    Raises:
        ValueError: The command is another, or an import cannot be followed.
    """
    words = command.split()
    if words[:2] != ["python", "-m"]:
        raise ValueError(f"{graph}: stage {name} runs `{command}`; expected `python -m MODULE`, whose imports are read")
    left_out = set(PLUMBING) | {path for path, stages in NOT_OF.items() if name in stages}
    left_out = left_out - GIVEN | LIVE if graph == SCORE else left_out | GIVEN
    return closure([words[2]], left_out, PACKAGES)


def entries(files: Iterable[Path]) -> list[str]:
    """Paths for a list of dependencies, sorted: a folder in place of its files where all code in it is among them."""
    files = set(files)
    folders = {folder for file in files for folder in file.parents if len(folder.parts) > 1}
    whole = {folder for folder in folders if all(path in files for path in _code_in(folder))}
    found = {next((folder for folder in reversed(file.parents) if folder in whole), file) for file in files}
    return sorted(path.as_posix() for path in found)


def _code_in(folder: Path) -> list[Path]:
    paths = [path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.py")]
    return [path for path in paths if has_code(path)]


def rewritten(graph: str, text: str) -> str:
    """The text of a dvc.yaml with the lists of code that its stages need.

    Raises:
        ValueError: A stage has no list `deps`, or its code cannot be found.
    """
    stages: dict[str, dict[str, Any]] = yaml.safe_load(text)["stages"]
    blocks = re.split(r"^(?=  \w+:$)", text, flags=re.MULTILINE)
    for number, block in enumerate(blocks):
        name = block.split(":")[0].strip()
        stage = stages.get(name, {}).get("do", stages.get(name, {}))
        if not stage or stage.get("always_changed"):
            continue
        listed = re.search(r"^( +)deps:\n((?:\1  .*\n)+)", block, re.MULTILINE)
        if listed is None:
            raise ValueError(f"{graph}: stage {name} has no list `deps`; add one with its inputs")
        indent = f"{listed[1]}  "
        inputs = [line for line in listed[2].splitlines() if not _is_code(line.strip().removeprefix("- "))]
        lines = [*(f"{indent}- {entry}" for entry in entries(code_of(graph, name, stage["cmd"]))), *inputs]
        blocks[number] = block[: listed.start(2)] + "\n".join(lines) + "\n" + block[listed.end(2) :]
    return "".join(blocks)


def _is_code(entry: str) -> bool:
    return entry.split("/")[0] in PACKAGES and not (entry.startswith("pipelines/") and entry.endswith(".yaml"))


def main() -> None:
    """Writes or checks all graphs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 if a list is not up to date")
    check = parser.parse_args().check
    stale = False
    for graph in GRAPHS:
        text = (ROOT / graph).read_text(encoding="utf-8")
        if (new := rewritten(graph, text)) != text:
            stale = True
            print(f"{graph}: {'is not up to date; run `python -m pipelines.deps`' if check else 'written'}")
            if not check:
                (ROOT / graph).write_text(new, encoding="utf-8")
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
