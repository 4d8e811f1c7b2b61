"""What of an evaluation set was not scored, in words: counted in the metrics files by the stages that score."""

from collections.abc import Iterator, Mapping
from typing import Any

from caft.data.sets import REGION_FILES


def left_out(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yields a line for each way in which a set's entry of a metrics file is not of the whole set as it is written."""
    if count := entry.get("dropped"):
        items = "1 item" if count == 1 else f"{count:,} items"
        yield f"{items} left out: {'; '.join(entry.get('dropped_items', ['the metrics file does not say why']))}"
    if count := entry.get("skipped_objects"):
        objects = "1 object" if count == 1 else f"{count:,} objects"
        yield f"{objects} without a mask left out of the controls; no expression means them"
    if count := entry.get("turned"):
        pictures = "1 picture was" if count == 1 else f"{count:,} pictures were"
        yield f"{pictures} turned upright, as the annotations have them"
    for level, reason in entry.get("skipped", {}).items():
        if level in REGION_FILES:
            yield f"{level} was not run: {reason}"
