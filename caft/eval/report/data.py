"""The section on data: counts beside the paper's, losses by cause, captions, what is odd in them, sampled pairs."""

from caft.captions.sentences import SPLITTERS
from caft.eval.analysis.audit import EMPTY, MANY, Audit, Flaw
from caft.eval.report.content import SIDE, Report
from caft.eval.report.page import picture, safe, table
from caft.model.drawing.figures import fit

_LONGEST = 420  # letters of a caption in the contact sheet
_COLUMNS = {"url": "address", "sha256": "image"}  # others are caption fields


def data(report: Report) -> str:
    """What the model was trained on."""
    return _counts(report) + _captions(report) + _repeats(report) + _suspicious(report) + _contact_sheet(report)


def _counts(report: Report) -> str:
    facts = report.metrics.get("data", {})
    if not facts:
        return ""
    counts: list[list[object]] = []
    for name, corpus in facts.items():
        audit = report.corpus.audits.get(name) if report.corpus else None
        tables = (audit.addresses, audit.images) if audit else (None, None)
        kept, expected = corpus["rows_out"], report.expected.get(name)
        share = 100 * kept / expected if expected else None
        counts.append([name, corpus["rows_in"], *tables, kept, expected, share])
    causes = sorted({cause for corpus in facts.values() for cause in corpus["dropped"]})
    losses = [[name, *(corpus["dropped"].get(cause, 0) for cause in causes)] for name, corpus in facts.items()]
    prints = ", ".join(f"{name} {corpus['fingerprint'][:16]}" for name, corpus in facts.items())
    return (
        "<h2>What it was trained on</h2>\n<p>Every row of the published list is either trained on or counted as lost, "
        "with the cause. Expected are the images that the paper had, or that the settings name for a corpus of "
        "one's own.</p>\n"
        + table(["corpus", "rows in", "addresses", "images", "rows out", "expected", "% of expected"], counts)
        + (table(["lost", *(cause.replace("_", " ") for cause in causes)], losses) if causes else "")
        + f'<p class="soft">Fingerprints of the content: {safe(prints)}</p>\n'
    )


def _captions(report: Report) -> str:
    if report.corpus is None:
        return ""
    measures = [f"{what}_{splitter}" for splitter in SPLITTERS for what in ("sentences", "tokens")]
    rows: list[list[object]] = []
    kinds = []
    for name, fields in report.corpus.statistics.items():
        rows.append([name, *[""] * (2 + len(measures))])
        kinds.append("head")
        for field, values in fields.items():
            rows.append([field, *(values[key] for key in ("captions", "characters", *measures))])
            kinds.append("")
    header = ["field", "captions", "characters", *(measure.replace("_", ", ") for measure in measures)]
    return (
        "<h3>Captions</h3>\n<p>Fields that are not empty, and means over those. Tokens are CLIP's, of the sentences that a "
        f"splitter finds; training reads those of {safe(report.corpus.splitter)}. IB, SV and LLA are the three "
        "annotators.</p>\n" + table(header, rows, kinds)
    )


def _repeats(report: Report) -> str:
    if report.corpus is None:
        return ""
    audits = report.corpus.audits
    rows: list[list[object]] = []
    kinds = []
    for name, audit in audits.items():
        rows.append([name, *[""] * 5])
        kinds.append("head")
        for column, found in audit.repeats.items():
            shared = (found.shared_values, found.shared_rows) if len(audits) > 1 else (None, None)
            filled = (
                audit.addresses if column == "url" else audit.images if column == "sha256" else _filled(audit, column)
            )
            rows.append([_COLUMNS.get(column, column), filled, found.values, found.rows, *shared])
            kinds.append("")
    header = ["what", "rows", "several times", "rows with them", "in another corpus too", "rows with them"]
    return (
        "<h3>Repeated addresses, images and captions</h3>\n<p>Distinct values that occur several times in a corpus, and "
        "those that another corpus has too, each with the rows of this corpus that have them. Addresses are those of the "
        "list, without the repeated ones that were dropped; images are compared by their bytes.</p>\n"
        + table(header, rows, kinds)
    )


def _suspicious(report: Report) -> str:
    if report.corpus is None:
        return ""
    rows: list[list[object]] = []
    kinds = []
    examples: list[list[object]] = []
    names: list[str] = []
    for name, audit in report.corpus.audits.items():
        fields = audit.flaws.items()
        names = list(next(iter(audit.flaws.values())))
        rows.append([name, *[""] * (1 + len(names))])
        kinds.append("head")
        for field, flaws in fields:
            often, filled = audit.repeats[field], _filled(audit, field)
            # What is not empty is what the other flaws are a part of.
            counts = [
                _share(flaw.count, audit.images if flaw_name == EMPTY else filled) for flaw_name, flaw in flaws.items()
            ]
            rows.append([field, *counts, _share(often.many_rows, filled)])
            kinds.append("")
            examples += _examples(f"{name}, {field}", flaws)
            examples += [[f"{name}, {field}", f"in {count:,} rows", text] for count, text in often.top]
    shown = table(["where", "what", "caption"], examples) if examples else ""
    return (
        "<h3>Suspicious captions</h3>\n<p>Words are what white space parts. Shares are of all rows for empty captions, and of "
        "the captions that are not empty for the rest.</p>\n"
        + table(["field", *names, f"same text in {MANY} rows or more"], rows, kinds)
        + (f"<details><summary>{len(examples)} examples</summary>\n{shown}</details>\n" if examples else "")
    )


def _examples(where: str, flaws: dict[str, Flaw]) -> list[list[object]]:
    return [[where, f"{name}, row {row}", text] for name, flaw in flaws.items() for row, text in flaw.examples]


def _filled(audit: Audit, field: str) -> int:
    """How many captions of a field are not empty."""
    return audit.images - audit.flaws[field][EMPTY].count


def _share(count: int, of: int) -> str:
    return f"{count:,} ({100 * count / of:.2f} %)" if count else "0"


def _contact_sheet(report: Report) -> str:
    if report.corpus is None:
        return ""
    if report.corpus.missing:
        return f'<h3>Samples</h3>\n<p class="soft">None are shown: {safe(report.corpus.missing)}</p>\n'
    cards = []
    for sample in report.corpus.samples:
        lines = "".join(
            f"<p><b>{safe(field)}</b> {safe(text if len(text) <= _LONGEST else text[:_LONGEST] + ' …')}</p>"
            for field, text in sample.captions.items()
        )
        where = f"{sample.corpus}, row {sample.row_id}"
        cards.append(
            f'<div class="card"><figure>{picture(fit(sample.image, SIDE), where)}<figcaption>{safe(where)}</figcaption>'
            f"</figure><div>{lines}</div></div>"
        )
    return (
        "<h3>Samples, as training reads them</h3>\n<p>Pairs at even distances through the training index. If images and "
        f'captions were joined wrongly, it would show here.</p>\n<div class="cards">{"".join(cards)}</div>\n'
    )
