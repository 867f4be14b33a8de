"""The faults that follow from the reports of all nodes, each with the node that has it."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from convbert.cluster.preflight.node_report import NodeReport
from convbert.cluster.site import PreflightLimits

_OUTSIDE = "cancelled, preempted or not started"


@dataclass(frozen=True)
class Fault:
    """One reason why a node is unfit; ``node`` is empty where no single node is to blame.

    ``setting`` is the key that asks for what is missing: it is to blame if every node misses it.
    """

    node: str
    text: str
    setting: str = ""
    silent: bool = False
    """Whether all that is known of the node is that it sent no report."""

    def __str__(self) -> str:
        return f"{self.node or 'all nodes'}: {self.text}"


def judge(
    reports: Sequence[NodeReport],
    expected: Sequence[str],
    limits: PreflightLimits,
    ended: Mapping[str, int] | None = None,
) -> list[Fault]:
    """Return the faults of the ``expected`` nodes, which left ``reports``.

    ``ended`` are nodes whose process ended by itself, each with its exit status.
    """
    faults = _missing(reports, expected, limits, ended or {})
    faults += [Fault("", text) for text in shared_faults(reports, limits)]
    own = [fault for report in reports for fault in own_faults(report, limits)]
    faults += _of_the_settings(own, expected)
    faults += _differing_versions(reports)
    faults += _skewed_clocks(reports, limits.max_clock_skew)
    faults += _slow(reports, "tflops", "computes at", "TFLOP/s", limits.slow_factor)
    faults += _slow(reports, "link_gbps", "sends at", "GB/s", limits.slow_factor)
    if not faults:
        faults += _network(reports, limits)
    return faults


def _missing(
    reports: Sequence[NodeReport],
    expected: Sequence[str],
    limits: PreflightLimits,
    ended: Mapping[str, int],
) -> list[Fault]:
    """Return the faults of the nodes without a report, or that of a check that was cut off."""
    silent = _silent(reports, expected)
    if silent and all(node in ended for node in expected):
        statuses = ", ".join(sorted({str(ended[node]) for node in expected}))
        text = f"every process ended before it could report (status {statuses}): see above; check"
        return [Fault("", f"{text} python, setup, modules and container of the site")]
    if cut_off(reports, expected, limits, ended):
        when = f"before {', '.join(silent)} could report" if silent else "half-way"
        return [Fault("", f"the check was cut off {when} ({_OUTSIDE}); no node is blamed")]
    text = f"sent no report in {limits.start_seconds} s: unreachable, starts slowly (raise "
    text += "preflight.start_seconds), or the run directory is not shared with it"
    return [
        Fault(node, f"its process ended with status {ended[node]} before it could report")
        if node in ended
        else Fault(node, text, silent=True)
        for node in silent
    ]


def cut_off(
    reports: Sequence[NodeReport],
    expected: Sequence[str],
    limits: PreflightLimits,
    ended: Mapping[str, int] | None = None,
) -> bool:
    """Return whether the check was ended from outside, so that no silent node is to blame.

    A step that is cancelled, preempted or not started leaves no report, and srun's status is the
    same as after many other ends. Only the reports of fit nodes count, which say that they finished
    the check or gave the others up, and the exit statuses in ``ended``, if they are not all nodes'.
    """
    if any(r.clock is not None for r in reports):
        return False
    waited = [r.waited for r in reports if r.waited is not None]
    silent = _silent(reports, expected)
    unexplained = [node for node in silent if node not in (ended or {})]
    if unexplained or len(silent) == len(expected):
        # A process that was killed breaks its neighbours' connections: only waiting long counts.
        return max(waited, default=0.0) < limits.start_seconds
    return not silent and not waited


def _of_the_settings(faults: Sequence[Fault], expected: Sequence[str]) -> list[Fault]:
    """Blame the setting for what is missing on every one of several nodes."""
    lacking: dict[str, set[str]] = {}
    for fault in faults:
        lacking.setdefault(fault.setting, set()).add(fault.node)
    several = len(expected) > 1
    everywhere = {s for s, nodes in lacking.items() if s and several and nodes >= {*expected}}
    blamed = {f.setting: f for f in reversed(faults) if f.setting in everywhere}
    return [
        *(f for f in faults if f.setting not in everywhere),
        *(
            replace(f, node="", text=f"{f.text}, alike on every node: correct {f.setting}")
            for f in blamed.values()
        ),
    ]


def _silent(reports: Sequence[NodeReport], expected: Sequence[str]) -> list[str]:
    present = {r.node for r in reports}
    return [node for node in expected if node not in present]


def shared_faults(reports: Sequence[NodeReport], limits: PreflightLimits) -> list[str]:
    """Return the faults of the disk that all nodes share, which no other node would avoid."""
    found = (r.shared_gib for r in reports if r.shared_gib)
    return _full(min(found, key=lambda free: min(free.values()), default={}), limits)


def _full(free: Mapping[str, float], limits: PreflightLimits) -> list[str]:
    return [
        f"{gib:.1f} GiB free in {place}, needed {limits.min_disk_gib:g}"
        for place, gib in free.items()
        if gib < limits.min_disk_gib
    ]


def own_faults(report: NodeReport, limits: PreflightLimits) -> list[Fault]:
    """Return the faults of a node by itself, without a comparison with the others."""
    found = []
    if len(report.gpus) < report.wanted_gpus:
        text = f"{len(report.gpus)} GPUs answer of {report.wanted_gpus}"
        found.append((text, "gpus_per_node of the site"))
    for index, gpu in enumerate(report.gpus):
        if gpu.uncorrected_errors:
            found.append(
                (f"GPU {index} has {gpu.uncorrected_errors} uncorrected memory errors", "")
            )
        if gpu.celsius > limits.max_gpu_celsius:
            found.append((f"GPU {index} is at {gpu.celsius:.0f} degrees before any work", ""))
    full = _full(report.disk_gib, limits)
    found += [(text, "scratch or preflight.min_disk_gib of the site") for text in full]
    if report.shm_gib < limits.min_shm_gib:
        text = f"{report.shm_gib:.2f} GiB free in /dev/shm, needed {limits.min_shm_gib:g}"
        found.append((text, "preflight.min_shm_gib of the site"))
    if report.network_problem:
        found.append((report.network_problem, "network.interface of the site"))
    if report.shared_problem:
        found.append((report.shared_problem, ""))
    return [Fault(report.node, text, setting) for text, setting in found]


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
    """Return the nodes below ``factor`` of the median, which of two nodes is the faster one."""
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
