"""What must hold of a stage under a fault; tests choose the stages and the moments."""

import functools
import random
import runpy
import signal
from pathlib import Path

from tests.faults import stages
from tests.faults.conftest import Finished, Mount


def is_whole(finished: Finished, checkout: Path, name: str) -> None:
    """Every out is what an undisturbed run writes, and nothing else is left."""
    for out in stages.outs(name):
        assert stages.content(checkout / out) == finished.content(out), out
    assert stages.leftovers(checkout) == []


def is_absent_or_whole(finished: Finished, checkout: Path, name: str) -> None:
    """No out looks like one and is none; then clears them away, as DVC does before it runs a stage again."""
    for out in stages.outs(name):
        if (checkout / out).exists():
            assert stages.content(checkout / out) == finished.content(out), f"{out} is half made"
            stages.remove(checkout, out)


def refused(done: stages.Done, *words: str) -> None:
    """The stage ended with one error of ours."""
    assert done.code == 2, done.log
    assert done.log.count("\nerror: ") + done.log.startswith("error: ") == 1, done.log
    message = done.log[done.log.index("error: ") :]
    assert "Traceback" not in message, message
    assert any(word in message for word in words), message


def survives_kills(finished: Finished, name: str, disk: Path, seed: int, kills: int) -> None:
    """Killed at random moments, one after another, a stage ends with what an undisturbed run gives."""
    checkout = finished.before(name, disk)
    rng = random.Random(f"{name} {seed}")
    for kill in range(kills):
        number = rng.randint(1, max(1, finished.changes[name] * 3 // 4))
        done = stages.run(name, checkout, functools.partial(stages.die_at, number))
        # Later runs may have less to do than the number says.
        assert done.code == -signal.SIGKILL or (kill and done.code == 0), done.log
        is_absent_or_whole(finished, checkout, name)
        finished.wait_for_port()
    done = stages.run(name, checkout)
    assert done.code == 0, done.log
    is_whole(finished, checkout, name)


def survives_a_full_disk(finished: Finished, name: str, mount: Mount) -> None:
    """With half the room that its outs take a stage says that the disk is full; with more it runs as ever."""
    checkout = finished.before(name, mount.path)
    files = [file for out in stages.outs(name) for file in (finished.checkout / out).rglob("*")]
    files += [finished.checkout / out for out in stages.outs(name)]
    filler = mount.fill(sum(file.stat().st_size for file in files if file.is_file()) // 2)
    refused(stages.run(name, checkout), "No space left on device", "disk is full", " 0.0 MB are free there")
    is_absent_or_whole(finished, checkout, name)
    filler.unlink()
    finished.wait_for_port()
    done = stages.run(name, checkout)
    assert done.code == 0, done.log
    is_whole(finished, checkout, name)


def runs_under_a_stepping_clock(finished: Finished, name: str, disk: Path) -> None:
    """A stage gives the same under a wall clock that steps, there and in the processes that it starts."""
    checkout = finished.before(name, disk)
    step = functools.partial(runpy.run_path, str(stages.CLOCK))
    done = stages.run(name, checkout, step, PYTHONPATH=str(stages.CLOCK.parent))
    assert done.code == 0, done.log
    is_whole(finished, checkout, name)
