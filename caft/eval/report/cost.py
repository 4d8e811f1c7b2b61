"""What a training took, beside what was expected of it."""

from collections.abc import Mapping
from typing import Any

Rows = list[tuple[str, str, str]]


def cost_rows(train: Mapping[str, Any]) -> Rows:
    """Rows of what, found and predicted, from metrics/train.json; what was not measured has no row.

    Hours are samples over the speed, so of the steps alone; what the stops between them took has rows of its own.
    """
    cost: Mapping[str, Any] = train.get("cost", {})
    before: Mapping[str, Any] = cost.get("predicted", {})
    rows: Rows = []

    def row(what: str, found: Any, predicted: Any, form: str, low: Any = None, high: Any = None) -> None:
        if found is not None:
            expected = "" if predicted is None else format(predicted, form)
            between = f" ({format(low, form)} to {format(high, form)})" if low is not None else ""
            rows.append((what, format(found, form), expected + between))

    rate = train.get("images_per_s")
    hours = train["samples"] / rate / 3600 if rate else None
    speeds, spans = (before.get("slowest"), before.get("fastest")), (before.get("hours_low"), before.get("hours_high"))
    row("images/s, stops left out", rate, before.get("images_per_s"), ",.1f", *speeds)
    row("hours of steps", hours, before.get("hours"), ",.1f" if (hours or 0) >= 10 else ".3g", *spans)
    row("share of the steps' time that waited for data", train.get("data_wait_share") if cost else None, None, ".1%")
    for kind, words in (("start", "start"), ("validation", "validations"), ("checkpoint", "checkpoints")):
        row(f"seconds of {words}", cost.get(f"{kind}_seconds"), None, ",.1f")
    row("starts", cost.get("starts"), None, "d")
    row("steps done again after interruptions, at least", cost.get("steps_again"), None, ",d")
    peak = f" of {cost['peak_tflops']:,.0f} TFLOP/s" if "peak_tflops" in cost else ""
    row(f"share of the peak{peak} (MFU)", cost.get("mfu"), before.get("mfu"), ".1%")
    row("memory of a rank at most, MiB", cost.get("peak_memory_mib"), before.get("peak_memory_mib"), ",.0f")
    row("compiled again after the first step", cost.get("recompilations"), None, "d")
    source = f", by {cost['energy']}" if "energy" in cost else ""
    row(f"joules an image{source}", cost.get("joules_per_image"), before.get("joules_per_image"), ",.3g")
    row("kWh, with the stops", cost.get("kwh"), before.get("kwh"), ",.3g")
    return rows
