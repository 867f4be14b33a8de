"""The slurm.conf of a cluster whose nodes are daemons on one machine."""

import getpass
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from convbert.models.errors import UserError
from convbert.models.schema import StrictModel

_NULL_DEVICE = os.makedev(1, 3)

_TEMPLATE = """\
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# cred_expire is also how long a requeued job waits (default 120 s); on a busy machine srun may need
# some seconds to start a step, which fails with "Job credential expired" if it takes longer
AuthInfo=socket={state}/munge.socket,cred_expire={requeue_seconds}
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={state}/log/jobcomp.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation={state}/controller
SlurmdSpoolDir={state}/spool/%n
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/slurmd-%n.pid
SlurmctldLogFile={state}/log/slurmctld.log
SlurmdLogFile={state}/log/slurmd-%n.log
SlurmdTimeout={silence_seconds}
SlurmctldTimeout=10
InactiveLimit=0
KillWait={kill_wait}
MinJobAge={remember_seconds}
OverTimeLimit=0
JobRequeue=1
MessageTimeout={message_seconds}
TCPTimeout=2
UnkillableStepTimeout=20
"""


class Node(StrictModel):
    """A node that exists in the configuration only, where jobs can be tested but do not run."""

    name: str
    cpus: int
    memory: int = Field(description="MiB")
    gres: str = ""
    features: str = ""
    partition: str | None = Field(None, description="None: the default one, with all such nodes")


class LocalCluster(StrictModel):
    """Size and timeouts of a local cluster; the timeouts are short, so that tests are quick."""

    state: Path = Field(description="directory of configuration, logs and sockets")
    nodes: int = Field(3, gt=0)
    cpus: int = Field(4, gt=0, description="per node; need not exist")
    memory: int = Field(8000, gt=0, description="MiB per node; need not exist")
    gpus: int = Field(0, ge=0, description="fake GPUs per node; needs root")
    imagined: list[Node] = Field(default_factory=list, description="instead of nodes that run")
    kill_wait: int = Field(30, gt=0, description="seconds from SIGTERM to SIGKILL")
    requeue_seconds: int = Field(15, gt=0, description="also how long a step may take to start")
    silence_seconds: int = Field(10, gt=0, description="until a node that is silent is down")
    message_seconds: int = Field(20, gt=0, description="for which a daemon may not answer")
    remember_seconds: int = Field(600, gt=0, description="how long scontrol shows ended jobs")

    @property
    def config_file(self) -> Path:
        """The file that SLURM_CONF must name."""
        return self.state / "slurm.conf"

    def names(self) -> list[str]:
        """Return the names of the nodes that run."""
        if self.imagined:
            return []
        return [f"node{i}" for i in range(self.nodes)]

    def write(self) -> None:
        """Write slurm.conf and gres.conf; ports are free ones."""
        for folder in ("controller", "spool", "log", "dev"):
            (self.state / folder).mkdir(parents=True, exist_ok=True)
        controller, *ports = _free_ports(len(self.names()) + 1)
        fields = self.model_dump() | {
            "host": socket.gethostname().split(".")[0],
            "user": getpass.getuser(),
            "controller_port": controller,
        }
        lines = [_TEMPLATE.format(**fields)]
        devices = []
        for index, (name, port) in enumerate(zip(self.names(), ports, strict=True)):
            gres = f" Gres=gpu:{self.gpus}" if self.gpus else ""
            lines.append(
                f"NodeName={name} NodeHostname={fields['host']} NodeAddr=127.0.1.{index + 1} "
                f"Port={port} CPUs={self.cpus} RealMemory={self.memory}{gres}\n"
            )
            devices += [self._device(name, gpu) for gpu in range(self.gpus)]
        everywhere = ",".join(self.names())
        # Jobs in "urgent" preempt those in "train", which get 20 seconds to save.
        lines.append(
            f"PartitionName=train Nodes={everywhere} Default=YES DefaultTime=10:00 "
            "MaxTime=24:00:00 PriorityTier=1 PreemptMode=REQUEUE GraceTime=20\n"
            f"PartitionName=urgent Nodes={everywhere} DefaultTime=10:00 MaxTime=24:00:00 "
            "PriorityTier=10 PreemptMode=OFF\n"
        )
        if self.imagined:
            lines = [lines[0], *self._imagined()]
        self.config_file.write_text("".join(lines))
        (self.state / "gres.conf").write_text("".join(devices))

    def _imagined(self) -> Iterator[str]:
        """Yield nodes of a cloud that nobody starts: SLURM plans with them as if they were idle."""
        yield "SuspendProgram=/bin/true\nResumeProgram=/bin/true\nSuspendTime=60\n"
        for node in self.imagined:
            more = f" Gres={node.gres}" if node.gres else ""
            more += f" Feature={node.features}" if node.features else ""
            yield (
                f"NodeName={node.name} NodeAddr=127.0.0.1 CPUs={node.cpus} "
                f"RealMemory={node.memory} State=CLOUD{more}\n"
            )
        # Not "default", by which slurm.conf means what all partitions have in common.
        for partition in sorted({node.partition or "all" for node in self.imagined}):
            names = [n.name for n in self.imagined if (n.partition or "all") == partition]
            default = " Default=YES" if partition == "all" else ""
            yield f"PartitionName={partition} Nodes={','.join(names)} MaxTime=7-0{default}\n"

    def _device(self, node: str, number: int) -> str:
        """Make a fake GPU: SLURM accepts character devices only, so a second /dev/null."""
        path = self.state / "dev" / f"{node}-gpu{number}"
        if not path.exists():
            try:
                os.mknod(path, stat.S_IFCHR | 0o666, _NULL_DEVICE)
            except PermissionError:
                raise UserError("--gpus: making fake GPU devices needs root; use 0") from None
        return f"NodeName={node} Name=gpu File={path}\n"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
