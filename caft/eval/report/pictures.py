"""The sections of pictures: retrieval, attention, masks, queries of several lengths, segments, superpixels."""

from pathlib import Path

from PIL import Image

from caft.data.sets import RetrievalSet
from caft.eval.analysis.examples import KINDS, Answers
from caft.eval.report.content import SIDE, Report
from caft.eval.report.page import captioned, safe, table
from caft.eval.scores.referring import iou
from caft.model.drawing.figures import PREDICTION, TRUTH, borders, fit, outline, overlay, segmentations
from caft.transforms import open_image

_SMALL = 120  # pixels, where many pictures stand in a row


def retrieval(report: Report) -> str:
    """Queries with their best answers by CAFT++ and by the whole score alone."""
    if not report.retrieval:
        return ""
    blocks = [
        "<h2>What is retrieved</h2>\n<p>Queries whose right answer leads by most under CAFT++, by a middling margin, and by "
        "least or not at all; beside it the whole score alone, the baseline. The right answer is framed green.</p>\n"
    ]
    for cases in report.retrieval:
        blocks.append(f"<h3>{safe(cases.name)}: a text looks for its image</h3>\n")
        for case in cases.of_texts:
            rows = "".join(
                f'<div><h4>{name} {_place(answers)}</h4><div class="row small">'
                f"{_thumbnails(answers, case.query, cases.benchmark)}</div></div>"
                for name, answers in (("CAFT++", case.blended), ("Whole score alone", case.whole))
            )
            text = safe(cases.benchmark.captions[case.query])
            blocks.append(f'<div class="case"><p>{_kind(case.kind)}{text}</p><div class="halves">{rows}</div></div>\n')
        blocks.append(f"<h3>{safe(cases.name)}: an image looks for its text</h3>\n")
        for case in cases.of_images:
            image = captioned(_thumbnail(cases.benchmark.images[case.query]), case.kind)
            lists = "".join(
                f"<div><h4>{name} {_place(answers)}</h4><ol>{_texts(answers, case.query, cases.benchmark)}</ol></div>"
                for name, answers in (("CAFT++", case.blended), ("Whole score alone", case.whole))
            )
            blocks.append(
                f'<div class="case"><div class="answers">{image}<div class="halves">{lists}</div></div></div>\n'
            )
    return "".join(blocks)


def _kind(kind: str) -> str:
    return f'<span class="kind">{safe(kind)}</span> '


def _place(answers: Answers) -> str:
    if answers.rank == 1:
        return '<span class="hit">found first</span>'
    return f'<span class="miss">place {answers.rank}</span>'


def _thumbnails(answers: Answers, query: int, benchmark: RetrievalSet) -> str:
    places = list(enumerate(answers.best, start=1))
    if query not in answers.best:
        places[-1] = (answers.rank, query)
    return "".join(
        captioned(_thumbnail(benchmark.images[i], _SMALL), str(place), "truth" if i == query else "")
        for place, i in places
    )


def _texts(answers: Answers, query: int, benchmark: RetrievalSet) -> str:
    items = [(place, i) for place, i in enumerate(answers.best[:3], start=1)]
    if query not in answers.best[:3]:
        items[-1] = (answers.rank, query)
    return "".join(
        f'<li class="{"truth" if i == query else ""}" value="{place}">{safe(benchmark.captions[i])}</li>'
        for place, i in items
    )


def attention(report: Report) -> str:
    """Where each sentence of long captions looks."""
    if not report.looks:
        return ""
    blocks = [
        "<h2>Where each sentence looks</h2>\n<p>Every sentence of a long caption asks the segments of its image; bright is "
        "where its attention lies. Each map has its own scale. Images at even distances through the set.</p>\n"
    ]
    for look in report.looks:
        shown = fit(look.image, SIDE)
        figures = captioned(shown, "the image") + "".join(
            captioned(overlay(shown, values), text) for text, values in zip(look.texts, look.maps, strict=True)
        )
        blocks.append(f'<div class="case"><div class="row">{figures}</div></div>\n')
    return "".join(blocks)


def referring(report: Report) -> str:
    """Masks of referring expressions: best, median, worst."""
    if not report.segmented:
        return ""
    blocks = [
        "<h2>Which object is meant</h2>\n<p>Left of each pair: the object that the expression means, in green. Right: the "
        "attention, and in pink the mask that Otsu's threshold makes of it.</p>\n"
    ]
    for kind in KINDS:
        figures = ""
        for case in report.segmented:
            if case.kind == kind:
                shown = fit(case.image, SIDE)
                mask = outline(overlay(shown, case.values), case.mask, PREDICTION)
                figures += (
                    f'<div class="pair">{captioned(outline(shown, case.truth, TRUTH), case.text)}'
                    f"{captioned(mask, f'IoU {100 * case.iou:.0f}')}</div>"
                )
        if figures:
            blocks.append(f'<div class="case"><p>{_kind(kind)}</p><div class="row">{figures}</div></div>\n')
    return "".join(blocks)


def granularity(report: Report) -> str:
    """One object asked for by queries from long to short."""
    if not report.asked:
        return ""
    blocks = [
        "<h2>One object, from sentence to word</h2>\n<p>Truth in green, mask in pink, over the attention of each query. The "
        "last query is the name of a category and means all its objects.</p>\n"
    ]
    for case in report.asked:
        shown = fit(case.image, SIDE)
        figures = captioned(shown, "the image")
        for text, values, mask, truth in zip(case.texts, case.maps, case.masks, case.truths, strict=True):
            drawn = outline(outline(overlay(shown, values), truth, TRUTH), mask, PREDICTION)
            figures += captioned(drawn, f"{text} (IoU {100 * iou(mask, truth):.0f})")
        blocks.append(f'<div class="case"><p>{_kind(case.kind)}</p><div class="row">{figures}</div></div>\n')
    return "".join(blocks)


def segments(report: Report) -> str:
    """Superpixels and the nested groupings."""
    if not report.nested:
        return ""
    rows = []
    for case in report.nested:
        shown = fit(case.image, SIDE)
        figures = captioned(shown, "the image")
        figures += captioned(borders(shown, case.levels[0]), f"{len(set(case.levels[0].flat))} superpixels")
        for labels, drawn in zip(case.levels[1:], segmentations(shown, case.levels[1:]), strict=True):
            figures += captioned(drawn, f"{len(set(labels.flat))} segments")
        rows.append(f'<div class="case"><div class="row">{figures}</div></div>\n')
    return (
        "<h2>From superpixels to a few segments</h2>\n<p>Each level groups the segments of the one before, every token in its "
        "most likely group. Each of the coarsest segments has a hue, shared by all segments inside it; a segment need not "
        f"hang together. Nothing here was trained on masks.</p>\n{''.join(rows)}"
    )


def superpixels(report: Report) -> str:
    """Superpixel methods side by side."""
    if not report.methods:
        return ""
    rows: list[list[object]] = [
        [
            method.name,
            method.boundary_recall,
            method.achievable_accuracy,
            method.oracle_miou,
            method.thin_recall,
            method.count,
            f"{method.milliseconds:.1f} ms",
        ]
        for method in report.methods
    ]
    header = ["method", "boundary recall", "ASA", "oracle mIoU", "thin parts", "per image", "one image, one thread"]
    blocks = []
    for case in report.method_cases:
        shown = case.image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        figures = captioned(shown, "the image") + "".join(
            captioned(borders(shown, labels), name) for name, labels in case.labels.items()
        )
        blocks.append(f'<div class="case"><div class="row">{figures}</div></div>\n')
    return (
        "<h2>Superpixels beside other methods</h2>\n<p>On the images of the referring set, at the model's size. ASA: pixels "
        "that are right if each superpixel takes its most frequent object. Thin parts: pixels of tips and arms, narrower "
        "than about half a superpixel, that lie in a superpixel of their object.</p>\n"
        + table(header, rows, ["" if number == 0 else "control" for number in range(len(rows))])
        + "".join(blocks)
    )


def _thumbnail(path: Path, side: int = SIDE) -> Image.Image:
    return fit(open_image(path), side)
