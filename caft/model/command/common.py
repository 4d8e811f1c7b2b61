"""What several commands do."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from caft.errors import CaftError
from caft.model.interrupts import importing

if TYPE_CHECKING:
    from caft.model.model import Model


def say(line: object) -> None:
    """Prints a line of the result.

    Raises:
        CaftError: Standard output cannot be written.
    """
    try:
        print(line)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CaftError(f"standard output cannot be written ({error.strerror}); send it elsewhere") from error


def one_line(path: object) -> str:
    """A name as a result shows it, which is one line even if the name has several."""
    return str(path).replace("\n", "\\n").replace("\r", "\\r")


def remark(line: object) -> None:
    """Prints a line that is no result, to standard error."""
    print(line, file=sys.stderr)


def loaded(path: str) -> "Model":
    """The model, onto the GPU if there is one; imports torch, and says it where the model knows rendered shapes alone.

    Raises:
        CheckpointError: Its files are missing or damaged.
    """
    with importing(), _for_good():
        from caft.model.card_page import saw_scenes_alone
        from caft.weights.placed import load_model
    model = load_model(path)
    if saw_scenes_alone(model.card):
        remark(f"{path} was trained on rendered shapes only: photographs, and texts about them, mean nothing to it")
    return model


@contextmanager
def _for_good() -> Iterator[None]:
    """What is imported in the block stays until the process ends: to look for garbage in it again and again takes 0.4 s."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
