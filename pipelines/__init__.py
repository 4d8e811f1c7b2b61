"""One module per stage of dvc.yaml, of the stage's name."""

import sys

if sys.argv[:1] == ["-m"]:  # while `python -m pipelines.STAGE` looks for the module, before that imports torch
    from pipelines.signals import quietly

    quietly()
    from pipelines.stage import prepare

    prepare(sys.orig_argv[-len(sys.argv)], sys.argv[1:])  # the module, also in `-mpipelines.STAGE`
