"""Where the ranks of a job find each other."""

import os
import socket

import submitit

from caft.errors import LaunchError
from slurm.queue import NoAnswer, node_address

_LOOPBACK = "127.0.0.1"


def join() -> None:
    """Exports the variables of torch's process groups when submitit started this process."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return
    job = submitit.JobEnvironment()
    environment = submitit.helpers.TorchDistributedEnvironment()
    # A rank takes its own of the cards that it sees; see `caft.train.distributed.start`.
    environment.export(set_cuda_visible_devices=False, overwrite=True)
    address = _LOOPBACK if job.num_nodes == 1 else _address(environment.master_addr)
    os.environ["MASTER_ADDR"] = address
    if address == _LOOPBACK:
        # The name of this machine may belong to a network that its own firewall closes.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


def _address(node: str) -> str:
    """Address of the first node: of its name, or where that is known to Slurm alone, the one that Slurm uses.

    Raises:
        LaunchError: Neither can be resolved.
    """
    for find in (lambda: node, lambda: node_address(node)):
        try:
            return socket.gethostbyname(find())
        except (OSError, NoAnswer) as error:
            reason = error
    raise LaunchError(
        f"node {node}: no address can be found for it from {socket.gethostname()} ({reason}); "
        "ask the cluster's administrators, or leave the node out: sbatch: [--exclude=NODE] in the launcher's slurm"
    )
