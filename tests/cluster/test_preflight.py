"""A node that is not fit is named, with what is wrong with it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from convbert.cluster.preflight.faults import judge
from convbert.cluster.preflight.node import check_here, gpus, parse_gpus, versions
from convbert.cluster.preflight.node_report import Gpu, NodeReport, read_reports, report_folder
from convbert.cluster.preflight.verdict import Policy, Verdict, conclude
from convbert.cluster.site import PreflightLimits

LIMITS = PreflightLimits(min_allreduce_gbps=10)
GPU = Gpu(name="H100", driver="550.1", celsius=40, uncorrected_errors=0)
NAMES = [f"node{i}" for i in range(4)]
ALONE: dict[str, object] = dict.fromkeys(("tflops", "clock", "allreduce_gbps", "link_gbps"))


def report(name: str, **changes: object) -> NodeReport:
    fine: dict[str, object] = {
        "wanted_gpus": 2,
        "gpus": [GPU, GPU],
        "versions": {"driver": "550.1", "NCCL": "2.21"},
        "shared_gib": {"/run": 100.0},
        "disk_gib": {"/scratch": 100.0},
        "shm_gib": 10.0,
        "tflops": 600.0,
        "clock": 1000.0,
        "allreduce_gbps": 50.0,
        "link_gbps": 20.0,
    }
    return NodeReport.model_validate({"node": name} | fine | changes)


def faults(**changes: object) -> list[str]:
    """Judge four nodes of which node2 is changed."""
    reports = [report(n, **(changes if n == "node2" else {})) for n in NAMES]
    return [str(fault) for fault in judge(reports, NAMES, LIMITS)]


def left(run: Path, monkeypatch: pytest.MonkeyPatch, *reports: NodeReport) -> None:
    """Leave reports where the first node looks for them."""
    monkeypatch.setenv("SLURM_JOB_NODELIST", "node[0-3]")
    report_folder(run).mkdir(parents=True, exist_ok=True)
    for one in reports:
        one.write(report_folder(run))


def concluded(
    run: Path, monkeypatch: pytest.MonkeyPatch, policy: Policy, *, code: int = 0
) -> Verdict:
    """Conclude from what four nodes left."""
    monkeypatch.setenv("SLURM_JOB_NODELIST", "node[0-3]")
    return conclude(run, code, policy, LIMITS, list)


def test_fit_nodes_have_no_faults_and_the_log_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert faults() == []
    left(tmp_path, monkeypatch, *(report(n, allreduce_gbps=40.0 + i) for i, n in enumerate(NAMES)))
    assert concluded(tmp_path, monkeypatch, "requeue").use == NAMES
    said = capsys.readouterr().err
    assert said == "preflight: 4 of 4 nodes are fit, all-reduce at 40 GB/s\n"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"gpus": [GPU]}, "1 GPUs answer of 2"),
        (
            {"gpus": [GPU, GPU.model_copy(update={"uncorrected_errors": 3})]},
            "GPU 1 has 3 uncorrected memory errors",
        ),
        ({"gpus": [GPU, GPU.model_copy(update={"celsius": 95.0})]}, "GPU 1 is at 95 degrees"),
        ({"versions": {"driver": "535.9", "NCCL": "2.21"}}, "driver 535.9, others 550.1"),
        ({"disk_gib": {"/scratch": 0.5}}, "0.5 GiB free in /scratch"),
        ({"shm_gib": 0.1}, "0.10 GiB free in /dev/shm"),
        ({"shared_problem": "/run: cannot be written"}, "/run: cannot be written"),
        ({"clock": 1030.0}, "its clock is +30.0 s off the others'"),
        ({"tflops": 300.0}, "computes at 300 TFLOP/s, the others at 600"),
        ({"link_gbps": 3.0}, "sends at 3 GB/s, the others at 20"),
    ],
)
def test_each_fault_names_its_node(changes: dict[str, object], text: str) -> None:
    (fault,) = faults(**changes)
    assert fault.startswith(f"node2: {text}")


def test_faults_of_no_single_node() -> None:
    slow = [report(n, allreduce_gbps=4.0) for n in NAMES]
    assert str(judge(slow, NAMES, LIMITS)[0]) == "all nodes: all-reduce at 4 GB/s, needed 10.0"
    full = [report(n, shared_gib={"/run": 3.0 + i / 8}) for i, n in enumerate(NAMES)]
    assert [str(f) for f in judge(full, NAMES, LIMITS)] == [
        "all nodes: 3.0 GiB free in /run, needed 5"
    ]
    stuck = [report(n, **ALONE, waited=0.5) for n in NAMES]
    assert "the all-reduce did not finish" in str(judge(stuck, NAMES, LIMITS)[0])


def test_silent_node_is_named() -> None:
    found = judge([report(n) for n in NAMES[:3]], NAMES, LIMITS)
    assert [f.node for f in found] == ["node3"]
    waited = [
        {"waited": 1.0},
        {},
        {"waited": float(LIMITS.start_seconds)},
    ]  # one that waited long is enough
    reports = [report(n, **ALONE, **w) for n, w in zip(NAMES, waited, strict=False)]
    found = judge(reports, NAMES, LIMITS)
    assert [f.node for f in found] == ["node3"]


@pytest.mark.parametrize(
    ("present", "waited", "text"),
    [
        (0, None, "before node0, node1, node2, node3 could report"),
        (3, None, "before node3 could report"),
        (3, 1.0, "before node3 could report"),  # its neighbour was killed, so it left too
        (4, None, "half-way"),
    ],
)
def test_nobody_is_to_blame_for_a_check_that_was_cut_off(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    present: int,
    waited: float | None,
    text: str,
) -> None:
    for name in NAMES[:present]:
        left(tmp_path, monkeypatch, report(name, **ALONE, waited=waited))
    verdict = concluded(tmp_path, monkeypatch, "continue", code=143)
    assert (verdict.use, verdict.bad, verdict.unchecked) == ([], {}, True)
    shown = capsys.readouterr().err
    assert f"preflight: all nodes: the check was cut off {text} (cancelled" in shown
    assert "status 143" in shown
    assert concluded(tmp_path, monkeypatch, "ignore", code=143).use == NAMES


@pytest.mark.parametrize(
    ("changes", "text", "key"),
    [
        ({"gpus": [GPU]}, "1 GPUs answer of 2", "gpus_per_node"),
        ({"disk_gib": {"/scratch": 0.0}}, "0.0 GiB free in /scratch", "scratch"),
        ({"shm_gib": 0.1}, "0.10 GiB free in /dev/shm", "preflight.min_shm_gib"),
        ({"network_problem": "eth9: no address"}, "eth9: no address", "network.interface"),
    ],
)
def test_what_every_node_lacks_is_the_fault_of_the_settings(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    text: str,
    key: str,
) -> None:
    for name in NAMES:
        left(tmp_path, monkeypatch, report(name, **changes))
    verdict = concluded(tmp_path, monkeypatch, "continue")
    assert (verdict.use, verdict.bad, verdict.refused) == ([], {}, True)
    shown = capsys.readouterr().err
    assert shown.startswith(f"preflight: all nodes: {text}")
    assert f"alike on every node: correct {key}" in shown
    assert shown.count("\n") == 1
    left(tmp_path, monkeypatch, report("node3"))  # one that has it: the others are unfit
    verdict = concluded(tmp_path, monkeypatch, "continue")
    assert (verdict.use, sorted(verdict.bad), verdict.refused) == (["node3"], NAMES[:3], False)


def test_processes_that_end_on_every_node_before_they_report_blame_none() -> None:
    ended = dict.fromkeys(NAMES, 1)
    (fault,) = judge([], NAMES, LIMITS, ended)
    assert str(fault).startswith("all nodes: every process ended before it could report (status 1)")
    waiting = [report(n, **ALONE) for n in NAMES[:3]]
    (fault,) = judge(waiting, NAMES, LIMITS, {"node3": 1})
    assert str(fault) == "node3: its process ended with status 1 before it could report"
    (fault,) = judge(waiting, NAMES, LIMITS, {"node2": 1})  # what is with node3?
    assert "no node is blamed" in str(fault)


def test_what_a_node_found_on_itself_counts_even_if_the_check_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left(tmp_path, monkeypatch, report("node2", **ALONE | {"gpus": [GPU]}))
    verdict = concluded(tmp_path, monkeypatch, "requeue", code=143)
    assert list(verdict.bad) == ["node2"]


def test_nvidia_smi_lines_are_read() -> None:
    table = "NVIDIA H100 80GB HBM3, 550.54.15, 34, 0\nNVIDIA A100, 550.54.15, [N/A], [N/A]\n"
    first, second = parse_gpus(table)
    assert (first.name, first.celsius) == ("NVIDIA H100 80GB HBM3", 34)
    assert (second.celsius, second.uncorrected_errors) == (0, 0)


@pytest.mark.parametrize(
    ("policy", "share", "use"),
    [
        ("requeue", list, []),
        ("continue", list, ["node0", "node1", "node3"]),
        ("continue", lambda nodes: nodes[:2], ["node0", "node1"]),
        ("continue", lambda nodes: [], []),
        ("ignore", list, NAMES),
    ],
)
def test_policies(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    policy: Policy,
    share: Callable[[Sequence[str]], list[str]],
    use: list[str],
) -> None:
    monkeypatch.setenv("SLURM_JOB_NODELIST", "node[0-3]")
    folder = report_folder(tmp_path)
    folder.mkdir(parents=True)
    for name in NAMES:
        report(name, **({"gpus": [GPU]} if name == "node2" else {})).write(folder)
    assert len(read_reports(folder)) == 4
    verdict = conclude(tmp_path, 0, policy, LIMITS, share)
    assert verdict.use == use
    assert list(verdict.bad) == ["node2"]


def test_this_machine_is_checked_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    easy = PreflightLimits(min_disk_gib=0, min_shm_gib=0)
    assert check_here(tmp_path, 0, easy) == 0
    assert check_here(tmp_path, 64, easy) == 1
    assert "GPUs answer of 64" in capsys.readouterr().out
    assert check_here(tmp_path, 0, PreflightLimits(min_disk_gib=1e9, min_shm_gib=0)) == 1
    assert f"GiB free in {tmp_path}, needed 1e+09" in capsys.readouterr().out


def test_without_nvidia_smi_the_gpus_are_those_that_torch_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"AMD Instinct {number}")
    monkeypatch.setattr(torch.version, "hip", "6.2.1")
    assert [(gpu.name, gpu.driver) for gpu in gpus()] == [
        ("AMD Instinct 0", "HIP 6.2.1"),
        ("AMD Instinct 1", "HIP 6.2.1"),
    ]
    assert versions()["ROCm"] == "6.2.1"
    (tmp_path / "nvidia-smi").write_text("#!/bin/bash\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert gpus() == []  # the driver is there and does not answer
