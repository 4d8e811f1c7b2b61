"""A table of the paper beside ours, cell by cell."""

from collections import Counter
from collections.abc import Sequence

from caft.eval.paper.compare import Cell
from caft.eval.report.page import cell as text_of
from caft.eval.report.page import safe


def folded(cells: Sequence[Cell]) -> str:
    """The cells of one table, folded under the counts of their verdicts."""
    counts = Counter(cell.status for cell in cells)
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    header = ("row", "column", "paper", "ours", "status", "rule or reason", "weights", "images", "scored", "run")
    rows = "".join(f"<tr>{''.join(f'<td>{value}</td>' for value in _row(cell))}</tr>\n" for cell in cells)
    head = "".join(f"<th>{name}</th>" for name in header)
    return (
        f"<details><summary>{safe(cells[0].table)}: {told}</summary>\n"
        f'<div class="scroll"><table>\n<tr>{head}</tr>\n{rows}</table></div>\n</details>\n'
    )


def _row(cell: Cell) -> list[str]:
    tags = [cell.tags.get(key) for key in ("fingerprint", "recipe", "commit", "mlflow_run")]
    why = "; ".join(filter(None, (cell.rule, cell.reason)))
    ours = f"{cell.ours:.2f}" if isinstance(cell.ours, float) else text_of(cell.ours)
    known = " ".join(tag[:12] for tag in tags if tag)
    values = (cell.row, cell.column, str(cell.paper), ours, cell.status, why, cell.tags.get("weights") or "")
    return [*map(safe, values), text_of(cell.images), text_of(cell.evaluated), safe(known)]
