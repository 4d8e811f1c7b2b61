"""img2dataset as a program that ends when its parent ends. Runs as a script, and imports nothing of this project.

``python -P crawler.py PARENT '{"url_list": ..., ...}'``: keyword arguments of ``img2dataset.download`` as JSON.

img2dataset's worker processes import their main script, so each asks the kernel for a signal at its
parent's death too. Otherwise workers of a killed run would go on writing into shards that the next
run is fetching.
"""

import ctypes
import json
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if sys.platform == "linux":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

if __name__ == "__main__":
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent ended before this program began")

    from img2dataset import download

    download(**json.loads(sys.argv[2]))
