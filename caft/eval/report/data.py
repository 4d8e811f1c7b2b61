"""Values of the section on data: counts beside the paper's, losses by cause, captions, suspicious ones, sampled pairs."""

from typing import Any

from caft.captions.sentences import SPLITTERS
from caft.eval.analysis.audit import EMPTY, MANY, Audit
from caft.eval.report.content import SIDE, Report
from caft.model.drawing.figures import fit

Rows = list[list[object]]


def data(report: Report) -> dict[str, Any]:
    """Values of data.html: what the model was trained on."""
    facts = report.metrics.get("data", {})
    causes = sorted({cause for corpus in facts.values() for cause in corpus["dropped"]})
    measures = [f"{what}_{splitter}" for splitter in SPLITTERS for what in ("sentences", "tokens")]
    corpus = report.corpus
    audits = corpus.audits if corpus else {}
    return {
        "counts": _counts(report),
        "causes": causes,
        "losses": [[name, *(entry["dropped"].get(cause, 0) for cause in causes)] for name, entry in facts.items()],
        "measures": measures,
        "flaws": next((list(flaws) for audit in audits.values() for flaws in audit.flaws.values()), []),
        "many": MANY,
        "suspicious": {name: _suspicious(audit) for name, audit in audits.items()},
        "examples": [row for name, audit in audits.items() for row in _examples(name, audit)],
        "samples": [(sample, fit(sample.image, SIDE)) for sample in corpus.samples] if corpus else [],
    }


def _counts(report: Report) -> Rows:
    """Rows of each corpus from its list to training, and its share of the expected images in percent."""
    rows: Rows = []
    for name, entry in report.metrics.get("data", {}).items():
        audit = report.corpus.audits.get(name) if report.corpus else None
        tables = (audit.addresses, audit.images) if audit else (None, None)
        kept, expected = entry["rows_out"], report.expected.get(name)
        share = 100 * kept / expected if expected else None
        rows.append([name, entry["rows_in"], *tables, kept, expected, share])
    return rows


def _suspicious(audit: Audit) -> Rows:
    """Counts and shares of each flaw by caption field; the share of empty captions is of all rows."""
    rows: Rows = []
    for field, flaws in audit.flaws.items():
        filled = audit.filled(field)
        shares = [_share(flaw.count, audit.images if name == EMPTY else filled) for name, flaw in flaws.items()]
        rows.append([field, *shares, _share(audit.repeats[field].many_rows, filled)])
    return rows


def _examples(corpus: str, audit: Audit) -> Rows:
    """Where a suspicious caption stands, what is suspicious, and the caption."""
    rows: Rows = []
    for field, flaws in audit.flaws.items():
        where = f"{corpus}, {field}"
        rows += [[where, f"{flaw}, row {row}", text] for flaw, found in flaws.items() for row, text in found.examples]
        rows += [[where, f"in {count:,} rows", text] for count, text in audit.repeats[field].top]
    return rows


def _share(count: int, of: int) -> str:
    return f"{count:,} ({100 * count / of:.2f} %)" if count else "0"
