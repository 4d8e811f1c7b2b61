"""What several commands do."""

import sys
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


def remark(line: object) -> None:
    """Prints a line that is no result, to standard error."""
    print(line, file=sys.stderr)


def loaded(path: str) -> "Model":
    """The model, onto the GPU if there is one; imports torch, and says it where the model knows rendered shapes alone.

    Raises:
        CheckpointError: Its files are missing or damaged.
    """
    with importing():
        from caft.weights.placed import load_model
    model = load_model(path)
    if model.card.is_of_rendered_shapes:
        remark(f"{path} was trained on rendered shapes only: photographs, and texts about them, mean nothing to it")
    return model
