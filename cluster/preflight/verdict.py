"""The decision after preflight, made on the first node: train on all nodes, on some or on none."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from convbert.cluster.hostlist import expand
from convbert.cluster.preflight.faults import Fault, cut_off, judge
from convbert.cluster.preflight.node_report import read_reports, report_folder
from convbert.cluster.site import PreflightLimits

Policy = Literal["requeue", "continue", "ignore"]


@dataclass(frozen=True)
class Verdict:
    """Nodes to train on, empty for none; ``bad`` maps unfit nodes to their fault.

    ``silent`` are those of them that are only known to have sent no report; ``unchecked`` where the
    check was cut off, so that no silent node is to blame; ``refused`` where the site profile is.
    """

    use: list[str]
    bad: dict[str, str]
    silent: frozenset[str] = frozenset()
    unchecked: bool = False
    refused: bool = False


def conclude(
    run_dir: Path,
    code: int,
    policy: Policy,
    limits: PreflightLimits,
    usable: Callable[[Sequence[str]], list[str]],
    ended: Mapping[str, int] | None = None,
) -> Verdict:
    """Judge the reports of this attempt and print every fault.

    ``code`` is the step's exit code, ``ended`` as in ``judge``. Policy ``continue`` leaves bad
    nodes out; with ``requeue``, or where a fault is no single node's, no nodes remain. ``usable``
    returns as many of the remaining nodes as can train together (see ``elastic``).
    """
    nodes = expand(os.environ["SLURM_JOB_NODELIST"])
    reports = read_reports(report_folder(run_dir))
    faults = judge(reports, nodes, limits, ended)
    unchecked = cut_off(reports, nodes, limits, ended)
    if code and (unchecked or not faults):
        faults.append(Fault("", f"the check ended with status {code}; see above"))
    for fault in faults:
        print(f"preflight: {fault}", file=sys.stderr, flush=True)
    if not faults:
        rates = [r.allreduce_gbps for r in reports if r.allreduce_gbps is not None]
        pace = f", all-reduce at {min(rates):.3g} GB/s" if rates else ""
        text = f"preflight: {len(nodes)} of {len(nodes)} nodes are fit{pace}"
        print(text, file=sys.stderr, flush=True)
    bad = {f.node: f.text for f in faults if f.node}
    left = nodes
    if faults and policy != "ignore":
        whole = all(f.node for f in faults)  # each fault is some node's
        left = [n for n in nodes if n not in bad] if policy == "continue" and whole else []
    use = usable(left)
    if use and len(use) < len(nodes):
        print(f"preflight: going on with {len(use)} nodes", file=sys.stderr, flush=True)
    return Verdict(
        use,
        bad,
        silent=frozenset(f.node for f in faults if f.silent),
        unchecked=unchecked,
        refused=any(f.setting and not f.node for f in faults),
    )
