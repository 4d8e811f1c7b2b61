"""Which rule a folder's pictures were decoded by; it is no part of what describes the folder, whose fingerprint stays."""

import json
import logging
from pathlib import Path

from caft.data.crawl.manifest import notes_folder
from caft.storage import write_json

logger = logging.getLogger(__name__)
# "2": as `caft.data.crawl.seen` does. Folders without a note are older: there, OpenCV decoded as img2dataset calls it.
RULE = "2"


def note_rule(folder: Path) -> None:
    """Notes today's rule for a folder that is begun."""
    write_json(_path(folder), {"rule": RULE})


def warn_if_older(corpus: str, folder: Path) -> None:
    """Says if a folder was begun by an older rule; what is missing in it is completed by today's all the same."""
    path, begun = _path(folder), notes_folder(folder) / "source.json"
    if begun.exists() and (not path.exists() or json.loads(path.read_text())["rule"] != RULE):
        logger.warning(
            "%s: %s was begun before pictures were stored upright and with 16 bits brought to 8; photos in it may lie, and "
            "those that are still fetched will not. Remove the folder to fetch all of it again",
            *(corpus, folder),
        )


def _path(folder: Path) -> Path:
    return notes_folder(folder) / "decoding.json"
