"""Writes docs/claims.md: what the paper says in prose, and what was seen of it; from docs/claims.yaml and metrics/."""

from pathlib import Path
from typing import Any

from benchmarks.text_length import ratios
from caft import storage
from caft.errors import exits_with_message
from caft.eval.paper.claims import claims_page, read_claims

LEDGER, PAGE = Path("docs/claims.yaml"), Path("docs/claims.md")
# Files of metrics/, and what makes them.
METRICS = {
    **{name: f"evaluate_{name}" for name in ("retrieval", "grounding", "superpixels")},
    "ablation": "pipelines/ablation/dvc.yaml",
}


def page() -> str:
    """Returns the page as it should be now."""
    numbers: dict[str, Any] = {
        name: storage.read_json(f"metrics/{name}.json", stage) for name, stage in METRICS.items()
    }
    return claims_page(read_claims(LEDGER), {**numbers, "text": ratios()})


def main() -> None:
    """Runs the command."""
    with exits_with_message():
        storage.write_text(PAGE, page())
    print(PAGE)


if __name__ == "__main__":
    main()
