"""A throwaway Slurm on this machine: munge, a controller and some nodes, on loopback, without systemd.

Nodes claim more processors than there are and have graphics cards that are device files, so that requests can be
shaped like those to a real cluster.
"""

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "srun", "scontrol", "squeue", "scancel")
NODES, GPUS, CPUS, MEMORY_MB = 2, 4, 16, 64000


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        root: Its state and logs.
    """

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """What the clients need to find it."""
        return {"SLURM_CONF": str(self.root / "slurm.conf")}

    def call(self, *command: str) -> str:
        """Output of one of Slurm's commands."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def fields(self, job: str) -> dict[str, str]:
        """What the controller knows of a job."""
        words = self.call("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def logs(self) -> str:
        """The ends of the daemons' logs."""
        return "\n".join(f"{path.name}:\n{path.read_text()[-2000:]}" for path in sorted(self.root.glob("*.log")))

    def stop(self) -> None:
        """Ends all jobs, then the daemons, by their process ids."""
        self.call("scancel", "--me")
        end = time.monotonic() + 20
        while self.call("squeue", "--noheader").strip() and time.monotonic() < end:
            time.sleep(0.2)
        processes = []
        for path in (*self.root.glob("slurmd.*.pid"), self.root / "slurmctld.pid", self.root / "munge" / "munged.pid"):
            if path.exists() and psutil.pid_exists(int(path.read_text())):
                processes.append(psutil.Process(int(path.read_text())))
                processes[-1].send_signal(signal.SIGTERM)
        for process in psutil.wait_procs(processes, 10)[1]:
            process.kill()


def start(root: Path, find: Callable[[str], str]) -> Cluster:
    """Starts a cluster.

    Args:
        root: Where to; a short path, since sockets lie in it.
        find: Gives the path of a program.
    """
    root.chmod(0o755)  # munge's socket must be reachable
    munge = root / "munge"
    munge.mkdir(mode=0o700)
    (munge / "key").write_bytes(secrets.token_bytes(1024))
    (munge / "key").chmod(0o400)
    for gpu in range(GPUS):
        os.mknod(root / f"gpu{gpu}", 0o666 | 0o020000, os.makedev(1, 3))  # a null device takes the place of a card
    (root / "slurm.conf").write_text(_configuration(root))
    cards = f"Name=gpu Type=a100 File={root}/gpu[0-{GPUS - 1}]"
    (root / "gres.conf").write_text("".join(f"NodeName=n{node} {cards}\n" for node in range(1, NODES + 1)))
    cluster = Cluster(root)
    environment = {**os.environ, **cluster.environment}
    files = {"key": munge / "key", "socket": root / "munge.sock", "pid": munge / "munged.pid"}
    options = [f"--{name}-file={path}" if name != "socket" else f"--socket={path}" for name, path in files.items()]
    # A shared temporary folder is writable by all: --force turns that into a warning.
    munged = [find("munged"), "--force", *options, f"--log-file={root}/munged.log", f"--seed-file={munge}/seed"]
    nodes = []
    for node in range(1, NODES + 1):
        (root / "spool" / f"n{node}").mkdir(parents=True)
        nodes.append([find("slurmd"), "-N", f"n{node}"])
    with (root / "start.log").open("w") as log:
        for command in (munged, [find("slurmctld"), "-c"], *nodes):
            subprocess.run(command, env=environment, stdout=log, stderr=log, check=True, timeout=180)
    end = time.monotonic() + 180
    while cluster.call("sinfo", "--noheader", "--Node", "--states=idle", "--format=%N").split() != ["n1", "n2"]:
        if time.monotonic() > end:
            cluster.stop()
            raise AssertionError(f"the nodes are not idle after 180 seconds\n{cluster.logs()}")
        time.sleep(0.1)
    return cluster


def _configuration(root: Path) -> str:
    host = socket.gethostname().split(".")[0]
    controller_port, *ports = _free_ports(1 + NODES)
    shape = f"CPUs={CPUS} Boards=1 SocketsPerBoard=1 CoresPerSocket={CPUS} ThreadsPerCore=1 RealMemory={MEMORY_MB}"
    lines = [
        f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} {shape} Gres=gpu:a100:{GPUS}"
        for number, port in enumerate(ports, start=1)
    ]
    return f"""ClusterName=throwaway
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.sock
CryptoType=crypto/munge
CredType=cred/munge
SlurmctldPort={controller_port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
ReturnToService=2
KillWait=5
MinJobAge=300
InactiveLimit=0
SlurmctldTimeout=30
SlurmdTimeout=30
PropagateResourceLimits=NONE
GresTypes=gpu
SlurmdParameters=config_overrides
{chr(10).join(lines)}
PartitionName=gpu Nodes=n[1-{NODES}] Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
