"""img2dataset as a program that ends when its parent ends, and that sees pictures as the rest of this project does.

``python -P crawler.py PARENT '{"url_list": ..., ...}' '{"timeout_total": ..., "most_bytes": ...}'``: keyword arguments of
``img2dataset.download``, and settings that it does not have.

img2dataset's worker processes import their main script, so what stands here at module level is done in
each of them. Each asks the kernel for a signal at its parent's death: otherwise workers of a killed run
would go on writing into shards that the next run is fetching. And in each, addresses are
asked by `caft.data.crawl.answers` and pictures decoded by `seen`.
"""

import ctypes
import json
import os
import signal
import sys
import types
from pathlib import Path

PR_SET_PDEATHSIG = 1

if sys.platform == "linux":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

# What img2dataset imports and does not use here takes more than half of the seconds that each process needs to start:
# torch (webdataset does without), Ray (for another distributor), wandb (imported even when reports are off).
sys.modules.update({"torch": None, "ray": None, "wandb": types.ModuleType("wandb")})  # type: ignore[dict-item]


def _take_the_place_of_its_own(limits: dict[str, int]) -> None:
    """Has pictures asked for and decoded by this checkout's code, whatever is installed."""
    sys.path.insert(0, str(Path(__file__).parents[3]))
    try:
        from caft.data.crawl import answers, seen
    finally:
        sys.path.pop(0)
    img2dataset.resizer.cv2.imdecode = seen.decode
    img2dataset.downloader.download_image_with_retry = answers.Asking(limits["timeout_total"], limits["most_bytes"])


import img2dataset.downloader  # noqa: E402  (by then torch must be out of the way)
import img2dataset.resizer  # noqa: E402

_take_the_place_of_its_own(json.loads(sys.argv[3]))

if __name__ == "__main__":
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent ended before this program began")
    img2dataset.download(**json.loads(sys.argv[2]))
