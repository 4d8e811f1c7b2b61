"""img2dataset as a program that ends when its parent ends. Runs as a script, and imports nothing of this project.

``python -P crawler.py PARENT '{"url_list": ..., ...}'``: keyword arguments of ``img2dataset.download`` as JSON.

img2dataset's worker processes import their main script, so what stands here at module level is done in
each of them. Each asks the kernel for a signal at its parent's death: otherwise workers of a killed run
would go on writing into shards that the next run is fetching.
"""

import ctypes
import json
import os
import signal
import sys
import types

PR_SET_PDEATHSIG = 1

if sys.platform == "linux":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

# What img2dataset imports and does not use here takes more than half of the seconds that each process needs to start:
# torch (webdataset does without), Ray (for another distributor), wandb (imported even when reports are off).
sys.modules.update({"torch": None, "ray": None, "wandb": types.ModuleType("wandb")})  # type: ignore[dict-item]

if __name__ == "__main__":
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent ended before this program began")

    from img2dataset import download

    download(**json.loads(sys.argv[2]))
