"""Writes docs/claims.md: what the paper says in prose, and what was seen of it; from docs/claims.yaml and metrics/."""

from pathlib import Path
from typing import Any

from benchmarks.text_length import ratios
from caft import storage
from caft.errors import exits_with_message
from caft.eval.paper.claims import claims_page, read_claims

LEDGER, PAGE = Path("docs/claims.yaml"), Path("docs/claims.md")
# Files of metrics/ that rules and texts name; those of long runs may not be there yet.
METRICS = ("superpixels", "ablation", "batches", "scaling")


def page() -> str:
    """Returns the page as it should be now."""
    numbers: dict[str, Any] = {name: _metrics(name) for name in METRICS}
    return claims_page(read_claims(LEDGER), {**numbers, "text": ratios()})


def _metrics(name: str) -> Any:
    path = Path(f"metrics/{name}.json")
    return storage.read_json(path, name) if path.exists() else {}


def main() -> None:
    """Runs the command."""
    with exits_with_message():
        storage.write_text(PAGE, page())
    print(PAGE)


if __name__ == "__main__":
    main()
