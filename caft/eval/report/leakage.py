"""The section on evaluation images that were seen in training."""

from caft.eval.report.content import SIDE, Report
from caft.eval.report.page import captioned, safe, table
from caft.model.drawing.figures import fit


def leakage(report: Report) -> str:
    """Counts for each evaluation set, and pairs to judge by eye."""
    facts = report.metrics.get("leakage", {})
    if not facts:
        return ""
    corpora = list(next((entry["training_images"] for entry in facts["sets"].values() if "images" in entry), {}))
    rows: list[list[object]] = []
    for name, entry in facts["sets"].items():
        if "images" in entry:
            of_corpora = [entry["training_images"][corpus] for corpus in corpora]
            rows.append([name, entry["images"], entry["seen_in_training"], *of_corpora, entry["without_detail"]])
    absent = len(facts["sets"]) - len(rows)
    header = ["set", "images", "seen in training", *(f"images of {corpus}" for corpus in corpora), "without detail"]
    excluded = f"{facts['excluded']:,} of them were left out of training." if facts["excluded"] else (
        "None of them was left out of training; data.exclude_eval_duplicates: true does that."
    )  # fmt: skip
    text = (
        "<h2>Evaluation images seen in training</h2>\n<p>Near-duplicates by perceptual hash (pHash, at most "
        f"{facts['most_bits']} of 64 bits apart) whose thumbnails agree too (on average {facts['most_steps']:g} of 255 steps "
        "apart at most): copies in another size or encoding, not crops or mirror images. "
        f"{facts['near_duplicates']:,} of {facts['images']:,} training images look like an evaluation image. "
        f"{excluded} Pictures of almost one colour look like each other and are not compared; {facts['without_detail']:,} "
        f"training images are such. {absent} sets are not there.</p>\n" + table(header, rows)
    )
    if facts["shared"]:
        pairs = "; ".join(f"{pair['first']} and {pair['second']} {pair['images']:,}" for pair in facts["shared"])
        text += f"<p>Images that two sets share: {safe(pairs)}.</p>\n"
    cards = "".join(
        '<div class="card">'
        + captioned(fit(leak.evaluated, SIDE), leak.benchmark)
        + captioned(fit(leak.trained, SIDE), f"{leak.where}, {leak.bits} bits apart")
        + "</div>"
        for leak in report.leaks
    )
    return text + (f'<div class="cards">{cards}</div>\n' if cards else "")
