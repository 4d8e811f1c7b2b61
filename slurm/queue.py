"""State of a job, from Slurm's controller, or from the accounting, if there is one, once the controller has forgotten it."""

import math
import re
import subprocess
from dataclasses import dataclass
from datetime import datetime

from caft.errors import UnderWayError

_SECONDS = 30
# In all other states a job waits, runs, or is about to be requeued.
_FAILED = (
    *("BOOT_FAIL", "CANCELLED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
)


class NoAnswer(UnderWayError):
    """Slurm's controller cannot be reached now, so nobody knows what becomes of a job."""

    def __init__(self, command: str, code: int, error: str) -> None:
        reason = " ".join(error.split()) or f"exit code {code}"
        super().__init__(f"{command} gives no answer ({reason}); `scontrol ping` tells whether the controller is up")


@dataclass(frozen=True)
class State:
    """State of a job."""

    name: str  # as Slurm writes it, or UNKNOWN if nobody knows the job
    detail: str = ""  # why it waits, or how it ended
    restarts: int = 0

    def __str__(self) -> str:
        return f"{self.name}, {self.detail}" if self.detail else self.name

    @property
    def is_over(self) -> bool:
        """Whether the job will not run again."""
        return self.name in (*_FAILED, "COMPLETED") or not self.is_known

    @property
    def is_known(self) -> bool:
        """Whether the controller or the accounting remembers the job."""
        return self.name != "UNKNOWN"

    @property
    def is_held(self) -> bool:
        """Whether it waits for somebody to release it: held by a user or an administrator, or after a failed launch."""
        return self.name == "PENDING" and "held" in self.detail.lower()

    @property
    def is_good(self) -> bool:
        """Whether it ended without a failure."""
        return self.name == "COMPLETED"


def state(job: str) -> State:
    """The state of a job.

    The controller knows it until some minutes after its end. sacct, which not every cluster has, is asked only then.

    Raises:
        NoAnswer: The controller does not answer.
    """
    code, output, error = _call("scontrol", "--oneliner", "show", "job", job)
    if not code:
        fields = dict(re.findall(r"(\w+)=(\S*)", output))
        name = fields["JobState"]
        detail = f"exit code {fields['ExitCode']}" if name in _FAILED else fields["Reason"].replace("None", "")
        return State(name, detail, int(fields.get("Restarts", 0)))
    if "Invalid job id" not in error:
        raise NoAnswer("scontrol", code, error)
    options = ("--allocations", "--noheader", "--parsable2", "--format=State,ExitCode")
    code, output, _ = _call("sacct", *options, "--jobs", job)
    if code or "|" not in output:
        return State("UNKNOWN")
    name, exit_code = output.splitlines()[-1].split("|")[:2]
    return State(name.split()[0], f"exit code {exit_code}")  # "CANCELLED by 1000"


def is_over(job: str) -> bool:
    """Whether a job will not run again; False where nobody can be asked, as on a machine without Slurm."""
    try:
        found = state(job)
    except NoAnswer:
        return False
    return found.is_over and found.is_known or not found.is_known and _call("scontrol", "ping")[0] == 0


def alive(name: str) -> list[str]:
    """Ids of this user's jobs of a name that wait or run, oldest first.

    Raises:
        NoAnswer: The controller does not answer.
    """
    code, output, error = _call("squeue", "--me", "--noheader", f"--name={name}", "--format=%A", "--sort=i")
    if code:
        raise NoAnswer("squeue", code, error)
    return output.split()


def end_time(job: str) -> float | None:
    """When a job that runs reaches its time limit, in seconds since 1970, infinity without one; None if nobody can be asked."""
    code, output, _ = _call("scontrol", "--oneliner", "show", "job", job)
    found = re.search(r" EndTime=(\S+)", output)
    if code or not found:
        return None
    # Written in this machine's time zone. No limit is "Unknown".
    return datetime.fromisoformat(found[1]).timestamp() if found[1][0].isdigit() else math.inf


def node_address(node: str) -> str:
    """The address by which Slurm itself reaches a node; its name if it has no other.

    Raises:
        NoAnswer: The controller does not answer.
    """
    code, output, error = _call("scontrol", "--oneliner", "show", "node", node)
    if code:
        raise NoAnswer("scontrol", code, error)
    found = re.search(r"NodeAddr=(\S+)", output)
    return found[1] if found else node


def _call(*command: str) -> tuple[int, str, str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except FileNotFoundError:
        return 127, "", f"{command[0]} is not found"
    except subprocess.TimeoutExpired:
        return 124, "", f"no answer within {_SECONDS} seconds"
    return done.returncode, done.stdout, done.stderr
