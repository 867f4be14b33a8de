"""What preflight measures on a node, and what follows from the reports of all nodes."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from convbert.cluster.site import PreflightLimits
from convbert.data_pipeline.atomic import atomic_write
from convbert.models.schema import StrictModel

_OUTSIDE = "cancelled, preempted or not started"


class Gpu(StrictModel):
    """One GPU as nvidia-smi describes it."""

    name: str
    driver: str
    celsius: float
    uncorrected_errors: int = Field(description="ECC errors since the last reset")


class NodeReport(BaseModel):
    """Measurements of one node; None where there was nothing to measure."""

    model_config = ConfigDict(extra="forbid")

    node: str
    wanted_gpus: int
    gpus: list[Gpu] = []
    versions: dict[str, str] = {}
    shared_gib: dict[str, float] = Field({}, description="free in the run directory")
    disk_gib: dict[str, float] = Field({}, description="free on disks of the node's own")
    shm_gib: float
    shared_problem: str | None = None
    tflops: float | None = Field(None, description="of the slowest process")
    clock: float | None = Field(None, description="Unix seconds right after a barrier")
    allreduce_gbps: float | None = Field(
        None, description="bus bandwidth of all processes; None for one"
    )
    link_gbps: float | None = Field(None, description="the better of the links to two neighbours")
    waited: float | None = Field(
        None, description="seconds after which it gave the others up; None where it did not"
    )

    def write(self, folder: Path) -> None:
        """Write ``NODE.json``."""
        with atomic_write(folder / f"{self.node}.json") as file:
            file.write(self.model_dump_json(indent=1).encode())


@dataclass(frozen=True)
class Fault:
    """One reason why a node is not fit; ``node`` is empty where no single one is to blame."""

    node: str
    text: str

    def __str__(self) -> str:
        return f"{self.node or 'all nodes'}: {self.text}"


def read_reports(folder: Path) -> list[NodeReport]:
    """Read the reports that nodes left; unreadable ones count as missing."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(NodeReport.model_validate_json(path.read_text()))
        except ValidationError:
            continue
    return found


def judge(
    reports: Sequence[NodeReport], expected: Sequence[str], limits: PreflightLimits
) -> list[Fault]:
    """List everything wrong, each with the node it is wrong on."""
    silent = _silent(reports, expected)
    if cut_off(reports, expected, limits):
        when = f"before {', '.join(silent)} could report" if silent else "half-way"
        faults = [Fault("", f"the check was cut off {when} ({_OUTSIDE}); no node is blamed")]
    else:
        text = "sent no report: unreachable, or the run directory is not shared with it"
        faults = [Fault(node, text) for node in silent]
    faults += [Fault("", text) for text in shared_faults(reports, limits)]
    for report in reports:
        faults += [Fault(report.node, text) for text in own_faults(report, limits)]
    faults += _differing_versions(reports)
    faults += _skewed_clocks(reports, limits.max_clock_skew)
    faults += _slow(reports, "tflops", "computes at", "TFLOP/s", limits.slow_factor)
    faults += _slow(reports, "link_gbps", "sends at", "GB/s", limits.slow_factor)
    if not faults:
        faults += _network(reports, limits)
    return faults


def cut_off(
    reports: Sequence[NodeReport], expected: Sequence[str], limits: PreflightLimits
) -> bool:
    """Whether the check was ended from outside, so that silence says nothing about a node.

    A step that is cancelled, preempted or not started leaves nothing behind, and srun's status is
    the same as after many other ends. So nothing is concluded from it, only from what fit nodes
    leave: the end of the check, or that they waited for the others in vain.
    """
    if any(r.clock is not None for r in reports):
        return False
    waited = [r.waited for r in reports if r.waited is not None]
    if _silent(reports, expected):
        # A process that was killed breaks its neighbours' connections: only waiting long counts.
        return max(waited, default=0.0) < limits.patience
    return not waited


def _silent(reports: Sequence[NodeReport], expected: Sequence[str]) -> list[str]:
    present = {r.node for r in reports}
    return [node for node in expected if node not in present]


def shared_faults(reports: Sequence[NodeReport], limits: PreflightLimits) -> list[str]:
    """List what is wrong with the disk that all nodes share, so that no other node would help."""
    found = (r.shared_gib for r in reports if r.shared_gib)
    return _full(min(found, key=lambda free: min(free.values()), default={}), limits)


def _full(free: Mapping[str, float], limits: PreflightLimits) -> list[str]:
    return [
        f"{gib:.1f} GiB free in {place}, needed {limits.min_disk_gib:g}"
        for place, gib in free.items()
        if gib < limits.min_disk_gib
    ]


def own_faults(report: NodeReport, limits: PreflightLimits) -> list[str]:
    """List what is wrong with a node by itself."""
    faults = []
    if len(report.gpus) < report.wanted_gpus:
        faults.append(f"{len(report.gpus)} GPUs answer of {report.wanted_gpus}")
    for index, gpu in enumerate(report.gpus):
        if gpu.uncorrected_errors:
            faults.append(f"GPU {index} has {gpu.uncorrected_errors} uncorrected memory errors")
        if gpu.celsius > limits.max_gpu_celsius:
            faults.append(f"GPU {index} is at {gpu.celsius:.0f} degrees before any work")
    faults += _full(report.disk_gib, limits)
    if report.shm_gib < limits.min_shm_gib:
        faults.append(f"{report.shm_gib:.2f} GiB free in /dev/shm, needed {limits.min_shm_gib:g}")
    if report.shared_problem:
        faults.append(report.shared_problem)
    return faults


def _differing_versions(reports: Sequence[NodeReport]) -> list[Fault]:
    faults = []
    for name in sorted({key for r in reports for key in r.versions}):
        values = [r.versions.get(name, "none") for r in reports]
        usual = statistics.mode(values)
        faults += [
            Fault(r.node, f"{name} {value}, others {usual}")
            for r, value in zip(reports, values, strict=True)
            if value != usual
        ]
    return faults


def _skewed_clocks(reports: Sequence[NodeReport], limit: float) -> list[Fault]:
    clocks = {r.node: r.clock for r in reports if r.clock is not None}
    if not clocks:
        return []
    middle = statistics.median(clocks.values())
    return [
        Fault(node, f"its clock is {clock - middle:+.1f} s off the others'")
        for node, clock in clocks.items()
        if abs(clock - middle) > limit
    ]


def _slow(
    reports: Sequence[NodeReport], field: str, verb: str, unit: str, factor: float
) -> list[Fault]:
    """Name nodes far below the median; with two nodes the median lies between them."""
    speeds = {r.node: getattr(r, field) for r in reports if getattr(r, field) is not None}
    if len(speeds) < 2:
        return []
    usual = statistics.median_high(speeds.values())
    return [
        Fault(node, f"{verb} {speed:.3g} {unit}, the others at {usual:.3g}")
        for node, speed in speeds.items()
        if speed < factor * usual
    ]


def _network(reports: Sequence[NodeReport], limits: PreflightLimits) -> list[Fault]:
    if any(r.clock is None for r in reports):
        return [Fault("", "the all-reduce did not finish, although each node works by itself")]
    measured = [r.allreduce_gbps for r in reports if r.allreduce_gbps is not None]
    if measured and min(measured) < limits.min_allreduce_gbps:
        return [
            Fault("", f"all-reduce at {min(measured):.3g} GB/s, needed {limits.min_allreduce_gbps}")
        ]
    return []
