"""Writes what the ablation, the curves and the forms of the loss gave into docs/results.md and README.md.

Each has its place between two comments; a place in a page that lacks the comments, or whose graph has not run with this code,
stays as it is. `--check` writes nothing and ends with 1 if a page would change.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from caft import storage
from caft.errors import exits_with_message
from caft.eval.report import effects

PAGES = ("docs/results.md", "README.md")
# By the name in the comment: the file of metrics/, and what writes it.
PLACES: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "ablation": ("ablation", effects.ablation),
    "ablation in short": ("ablation", effects.ablation_in_short),
    "scaling": ("scaling", effects.scaling),
    "batches": ("batches", effects.batches),
}
_OLD = {"ablation": "contrasts", "scaling": "contrasts", "batches": "gaps"}  # a file of earlier code lacks this key


def written(text: str, metrics: Path = Path("metrics")) -> str:
    """Returns a page with its places filled."""
    for place, (name, write) in PLACES.items():
        path = metrics / f"{name}.json"
        summary = storage.read_json(path, name) if path.exists() else {}
        if _OLD[name] in summary:
            begin, end = f"<!-- {place}: by python -m pipelines.results -->\n", f"<!-- end of {place} -->"
            block = f"{begin}\n{write(summary)}\n{end}".replace("\\", r"\\")  # no escapes of a pattern
            text = re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", block, text, flags=re.S)
    return text


def main() -> None:
    """Writes or checks the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 if a page would change")
    check = parser.parse_args().check
    stale = False
    with exits_with_message():
        for page in PAGES:
            text = Path(page).read_text(encoding="utf-8")
            if (new := written(text)) != text:
                stale = True
                print(f"{page}: {'is not up to date; run `python -m pipelines.results`' if check else 'written'}")
                if not check:
                    storage.write_text(page, new)
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
