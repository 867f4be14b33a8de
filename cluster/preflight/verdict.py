"""The decision after preflight, made on the first node: go on, go on without some, or leave."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from convbert.cluster.hostlist import expand
from convbert.cluster.preflight.report import Fault, cut_off, judge, read_reports
from convbert.cluster.site import PreflightLimits

Policy = Literal["requeue", "continue", "ignore"]


@dataclass(frozen=True)
class Verdict:
    """Nodes to train on, empty for none; ``bad`` maps unfit nodes to what is wrong with them.

    ``unchecked`` where the check was cut off and so blames nobody for being silent.
    """

    use: list[str]
    bad: dict[str, str]
    unchecked: bool = False


def report_folder(run_dir: Path) -> Path:
    """Return where the reports of this attempt lie."""
    step = [os.environ.get(f"SLURM_{n}") or "0" for n in ("JOB_ID", "RESTART_COUNT")]
    return run_dir / "slurm" / "preflight" / "-".join(step)


def conclude(
    run_dir: Path,
    code: int,
    policy: Policy,
    limits: PreflightLimits,
    *,
    least: int,
    batch: int,
    per_node: int,
) -> Verdict:
    """Judge the reports of this attempt and print every fault.

    ``code`` is the step's exit code. Policy ``continue`` leaves bad nodes out as long as ``least``
    remain whose processes, ``per_node`` each, divide the global ``batch``; where that cannot be
    done, and with ``requeue``, no nodes remain.
    """
    nodes = expand(os.environ["SLURM_JOB_NODELIST"])
    reports = read_reports(report_folder(run_dir))
    faults = judge(reports, nodes, limits)
    unchecked = cut_off(reports, nodes, limits)
    if code and (unchecked or not faults):
        faults.append(Fault("", f"the check ended with status {code}; see above"))
    for fault in faults:
        print(f"preflight: {fault}", file=sys.stderr, flush=True)
    bad = {f.node: f.text for f in faults if f.node}
    good = [n for n in nodes if n not in bad]
    if not faults or policy == "ignore":
        return Verdict(nodes, bad, unchecked)
    whole = all(f.node for f in faults)  # each fault is some node's
    fits = len(good) >= least and batch % (max(1, len(good)) * per_node) == 0
    if policy == "continue" and whole and fits:
        print(f"preflight: going on with {len(good)} nodes", file=sys.stderr, flush=True)
        return Verdict(good, bad)
    return Verdict([], bad, unchecked)
