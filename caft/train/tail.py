"""Following a file of JSON lines, such as a run's `metrics.jsonl`, while another process writes it."""

import json
import os
from pathlib import Path
from typing import Any


class Tail:
    """The lines that were added to a file of JSON lines since the last look; all of them if the file was replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0
        self.file = (0, 0)

    def new(self) -> list[dict[str, Any]]:
        """Objects of the whole lines that were written since the last call."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            state = os.fstat(file.fileno())
            if self.file != (state.st_dev, state.st_ino):
                self.file, self.position = (state.st_dev, state.st_ino), 0
            file.seek(self.position)
            content = file.read()
        end = content.rfind(b"\n") + 1
        self.position += end
        return [json.loads(line) for line in content[:end].splitlines()]
