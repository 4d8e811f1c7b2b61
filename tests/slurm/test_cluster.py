"""The cluster that the other tests run on is a real one, with cards that are handed out."""

import socket
import time

import pytest

from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slow


def test_cards_are_handed_out_on_both_nodes(cluster: Cluster) -> None:
    begun = time.monotonic()
    command = "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"
    output = cluster.call("srun", "--nodes=2", "--gpus-per-node=3", "bash", "-c", command)
    assert sorted(output.splitlines()) == ["n1 0,1,2", "n2 0,1,2"]
    assert time.monotonic() - begun < 20


def test_it_listens_on_loopback_alone(cluster: Cluster) -> None:
    port = int(next(line for line in (cluster.root / "slurm.conf").open() if "SlurmctldPort" in line).split("=")[1])
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    import psutil

    ours = {int(path.read_text()) for path in cluster.root.glob("*.pid")}
    addresses = {c.laddr.ip for c in psutil.net_connections("inet") if c.status == "LISTEN" and c.pid in ours}
    assert addresses == {"127.0.0.1"}
