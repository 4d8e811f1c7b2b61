"""One module per stage of dvc.yaml, of the stage's name."""

import signal
import sys

if sys.argv[:1] == ["-m"]:  # while `python -m pipelines.STAGE` looks for the module, before that imports torch
    from caft.errors import leave_at_once

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as in the background of a script
        signal.signal(signal.SIGINT, leave_at_once)  # until `pipelines.stage.run` has it clean up first

    from pipelines.stage import prepare

    prepare(sys.orig_argv[-len(sys.argv)], sys.argv[1:])  # the module, also in `-mpipelines.STAGE`
