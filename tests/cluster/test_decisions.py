"""What follows from an attempt's end: requeue, avoid a node, or give up."""

from pathlib import Path

import pytest

from convbert.cluster import attempt as attempt_script
from convbert.cluster import decisions
from convbert.cluster.decisions import (
    Decision,
    classify,
    decide,
    ended_by_themselves,
    failures_in_a_row,
    to_blame,
    why_terminated,
)
from convbert.cluster.records import Attempt, JobRecords, Outcome
from convbert.models.errors import DamagedError

SRUN_LOG = """\
step 40/100  loss 25.5
srun: error: node1: task 1: Segmentation fault
srun: error: node0: task 0: Exited with exit code 1
"""

# What SLURM 22.05 writes into a job's log when it ends the job; the first two were taken from one.
BY_PERSON = """\
srun: Job step aborted: Waiting up to 32 seconds for job step to finish.
slurmstepd-node0: error: *** STEP 1.0 ON node0 CANCELLED AT 2026-11-29T14:18:48 ***
srun: error: node1: task 1: Terminated
slurmstepd-node0: error: *** JOB 1 ON node0 CANCELLED AT 2026-11-29T14:18:48 ***
"""
BY_NODE = """\
srun: error: Node failure on node1
slurmstepd-node0: error: *** STEP 2.0 ON node0 CANCELLED AT 2026-11-29T14:19:29 DUE TO NODE \
FAILURE, SEE SLURMCTLD LOG FOR DETAILS ***
slurmstepd-node0: error: *** JOB 2 ON node0 CANCELLED AT 2026-11-29T14:19:29 DUE TO NODE \
FAILURE, SEE SLURMCTLD LOG FOR DETAILS ***
srun: error: node0: task 0: Terminated
"""
BY_LIMIT = BY_PERSON.replace(" ***", " DUE TO TIME LIMIT ***")
BY_PREEMPTION = BY_PERSON.replace(" ***", " DUE TO PREEMPTION ***")

INTERRUPTED_LOG = """\
srun: error: node1: task 1: Exited with exit code 79
srun: error: node0: task 0: Killed
"""


def attempt(restart: int, outcome: Outcome, start: int, end: int | None, **more: object) -> Attempt:
    return Attempt(
        job="7",
        restart=restart,
        nodes=["node0", "node1"],
        begun=1.0,
        step=start,
        ended=None if end is None else 2.0,
        end_step=end,
        outcome=outcome,
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("code", "log", "flags", "outcome"),
    [
        (0, "", {}, "finished"),
        (75, "", {}, "saved"),
        (75, "", {"terminated": True}, "cancelled"),
        (75, "", {"stopping": True}, "stopped"),
        (138, "", {}, "saved"),  # asked to stop before Python was ready to
        (2, "", {}, "refused"),
        (77, "", {}, "hung"),
        (79, "", {}, "interrupted"),
        (79, "", {"stopping": True}, "stopped"),
        # The others waited for the one that left until srun killed them.
        (137, INTERRUPTED_LOG, {}, "interrupted"),
        (137, INTERRUPTED_LOG.replace("79", "2"), {}, "refused"),
        (75, BY_PERSON, {"terminated": True}, "cancelled"),
        (143, BY_PERSON, {"terminated": True}, "cancelled"),
        (143, BY_NODE, {"terminated": True}, "lost"),
        (1, BY_NODE + SRUN_LOG, {}, "lost"),  # a process noticed first that its peer was gone
        (75, BY_NODE, {"terminated": True}, "saved"),
        (143, BY_NODE, {"terminated": True, "stopping": True}, "stopped"),
        (143, BY_LIMIT, {"terminated": True}, "lost"),
        (75, BY_LIMIT, {"terminated": True}, "saved"),
        (75, BY_PREEMPTION, {"terminated": True}, "saved"),
        (76, "", {}, "bad node"),
        (78, SRUN_LOG, {}, "unchecked"),
        (139, SRUN_LOG, {}, "crashed"),
        (1, "torch.OutOfMemoryError: CUDA out of memory.", {}, "out of memory"),
        (137, "slurmstepd: error: Detected 1 oom_kill event in StepId=1.0", {}, "out of memory"),
    ],
)
def test_outcomes(code: int, log: str, flags: dict[str, bool], outcome: str) -> None:
    given = {"terminated": False, "stopping": False} | flags
    assert classify(code, log, **given) == outcome


def test_the_first_failing_node_is_to_blame() -> None:
    nodes = ["node0", "node1"]
    assert to_blame("crashed", SRUN_LOG, nodes) == ["node1"]
    assert to_blame("saved", "srun: error: node1: tasks 0-3: Exited with exit code 75", nodes) == []
    assert to_blame("interrupted", INTERRUPTED_LOG, nodes) == []
    late = "error: [rank 0] no progress for 60 s; rank 4 (node1.site, pid 7), 5 (node1.site, pid 8)"
    assert to_blame("hung", late + SRUN_LOG, nodes) == ["node1"]
    assert to_blame("hung", late + " rank 1 (node0, pid 3) is late", nodes) == []


def test_killed_node_is_named_and_left_to_slurm(tmp_path: Path) -> None:
    assert to_blame("lost", BY_NODE, ["node0", "node1"]) == ["node1"]
    assert (
        why_terminated(BY_NODE.split("srun: error: node0")[0].split("\n", 1)[1]) == "node failure"
    )
    lost = attempt(0, "lost", 0, 0, failed_nodes=["node1"])
    assert not decided(tmp_path / "node", lost, why="node failure").requeue
    assert decided(tmp_path / "limit", lost, why=why_terminated(BY_LIMIT)).requeue


def test_nodes_that_failed_alike_are_told_apart() -> None:
    one = "srun: error: node[1,3]: tasks 1,3: Exited with exit code 1\n"
    nodes = [f"node{i}" for i in range(4)]
    assert to_blame("crashed", one, nodes) == ["node1", "node3"]
    assert ended_by_themselves(one) == {"node1": 1, "node3": 1}
    assert to_blame("crashed", one.replace("[1,3]", "[0-3]"), nodes) == []  # no node: the program
    killed = "srun: error: node1: task 1: Killed\n" + CANCELLED + one
    assert ended_by_themselves(killed) == {}


CANCELLED = "slurmstepd-node0: error: *** STEP 8.0 ON node0 CANCELLED AT 2026-11-27T20:06:11 ***\n"
ABORTED = "srun: Job step aborted: Waiting up to 32 seconds for job step to finish.\n"


def test_what_ends_because_its_step_was_cancelled_is_not_to_blame() -> None:
    nodes = ["node0", "node1"]
    for end in (CANCELLED, ABORTED):
        assert to_blame("crashed", end + SRUN_LOG, nodes) == []
        assert to_blame("unchecked", end + SRUN_LOG, nodes) == []
        assert to_blame("crashed", SRUN_LOG + end, nodes) == ["node1"]
    preempted = "srun: error: node1: task 1: Terminated\n" + SRUN_LOG
    assert to_blame("unchecked", preempted, nodes) == []
    assert to_blame("unchecked", SRUN_LOG, nodes) == ["node1"]


def decided(
    folder: Path,
    *attempts: Attempt,
    checkpoint: int = 0,
    retries: int = 2,
    why: str | None = None,
) -> Decision:
    records = JobRecords(folder)
    if checkpoint:
        (folder / "checkpoints" / f"step-{checkpoint:08d}").mkdir(parents=True)
    for one in attempts:
        records.note(one)
    return decide(records, "7", retries, least=2, why=why)


@pytest.fixture(autouse=True)
def _four_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = {f"node{i}" for i in range(4)}
    monkeypatch.setattr(decisions.scheduler, "partition_nodes", lambda: nodes)


def test_progress_is_requeued_for_ever_and_standstill_is_not(tmp_path: Path) -> None:
    saved = [attempt(i, "saved", 10 * i, 10 * i + 10) for i in range(9)]
    assert decided(tmp_path / "moving", *saved, checkpoint=90).requeue
    still = [attempt(i, "saved", 0, 0) for i in range(3)]
    assert decided(tmp_path / "two", *still[:2]).requeue
    final = decided(tmp_path / "three", *still)
    assert not final.requeue
    assert "3 attempts without a new checkpoint" in final.reason


def test_a_checkpoint_resets_the_count_even_if_the_attempt_was_lost(tmp_path: Path) -> None:
    crashes = [attempt(0, "crashed", 0, 0), attempt(1, "crashed", 0, 0)]
    lost = attempt(2, "lost", 0, None)
    assert len(failures_in_a_row([*crashes, lost], reached=0)) == 3
    assert failures_in_a_row([*crashes, lost], reached=50) == []
    again = attempt(3, "crashed", 50, 50)
    assert len(failures_in_a_row([*crashes, lost, again], reached=50)) == 1


def test_what_follows_is_said_in_words(tmp_path: Path) -> None:
    lost = attempt(0, "lost", 0, 10, failed_nodes=["node1"])
    reason = decided(tmp_path / "moved", lost, checkpoint=10).reason
    assert reason == "lost (node1) after a new checkpoint, continues from there"
    crashed = attempt(0, "crashed", 0, 0, failed_nodes=["node1"])
    reason = decided(tmp_path / "still", crashed).reason
    assert reason == "crashed (node1); attempt 1 of at most 3 without a new checkpoint"
    reason = decided(tmp_path / "stopped", attempt(0, "stopped", 0, 10)).reason
    assert reason == "stopped on request; `convbert submit` continues"


def test_out_of_memory_is_tried_once_more_only(tmp_path: Path) -> None:
    first = attempt(0, "out of memory", 0, 0)
    assert decided(tmp_path / "once", first, retries=9).requeue
    twice = decided(tmp_path / "twice", first, attempt(1, "out of memory", 0, 0), retries=9)
    assert not twice.requeue
    assert "lower micro_batch" in twice.reason


@pytest.mark.parametrize("outcome", ["finished", "stopped", "cancelled", "refused"])
def test_some_ends_are_final(tmp_path: Path, outcome: Outcome) -> None:
    assert not decided(tmp_path, attempt(0, outcome, 0, 10), checkpoint=10).requeue


def test_node_that_fails_first_twice_is_avoided(tmp_path: Path) -> None:
    once = attempt(0, "crashed", 0, 0, failed_nodes=["node1"])
    twice = attempt(1, "crashed", 0, 0, failed_nodes=["node1"])
    other = attempt(1, "crashed", 0, 0, failed_nodes=["node0"])
    assert decided(tmp_path / "once", once).exclude == []
    assert decided(tmp_path / "other", once, other).exclude == []
    assert decided(tmp_path / "twice", once, twice).exclude == ["node1"]
    unchecked = [a.model_copy(update={"outcome": "unchecked"}) for a in (once, twice)]
    assert decided(tmp_path / "check", *unchecked).exclude == ["node1"]


def test_check_that_was_cut_off_is_tried_again_within_the_limit(tmp_path: Path) -> None:
    cut = [attempt(i, "unchecked", 10, 10) for i in range(3)]
    once = decided(tmp_path / "once", *cut[:1], checkpoint=10)
    assert (once.requeue, once.exclude) == (True, [])
    thrice = decided(tmp_path / "thrice", *cut, checkpoint=10)
    assert "(unchecked, unchecked, unchecked)" in thrice.reason


def test_error_that_may_pass_is_tried_again_within_the_limit(tmp_path: Path) -> None:
    passing = [attempt(i, "interrupted", 10, 10) for i in range(3)]
    twice = decided(tmp_path / "twice", *passing[:2], checkpoint=10)
    assert (twice.requeue, twice.exclude) == (True, [])
    thrice = decided(tmp_path / "thrice", *passing, checkpoint=10)
    assert "(interrupted, interrupted, interrupted)" in thrice.reason
    moved = [attempt(i, "interrupted", 10 * i, 10 * i + 10) for i in range(9)]
    assert decided(tmp_path / "moved", *moved, checkpoint=90).requeue


def test_suspicion_never_leaves_too_few_nodes_but_known_faults_end_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions.scheduler, "partition_nodes", lambda: {"node0", "node1"})
    crashes = [attempt(i, "crashed", 0, 0, failed_nodes=["node1"]) for i in range(2)]
    suspected = decided(tmp_path / "suspected", *crashes)
    assert (suspected.requeue, suspected.exclude) == (True, [])
    JobRecords(tmp_path / "known").exclude({"node1": "preflight: 3 GPUs answer of 4"})
    known = decided(tmp_path / "known", attempt(0, "bad node", 0, 0))
    assert not known.requeue
    assert "without node1 fewer than 2 nodes are left" in known.reason


def test_the_first_failure_is_found_before_what_thousands_of_processes_print(
    tmp_path: Path,
) -> None:
    log = tmp_path / "7.log"
    noise = "[rank1]:   File 'x.py', line 1, in a traceback\n" * 50_000
    old = "srun: error: node9: task 9: Exited with exit code 1\n"
    log.write_text(
        f"{old}{attempt_script.MARK}2 of job 7\nstep 4/9\n{SRUN_LOG}{noise}{INTERRUPTED_LOG}"
    )
    said = attempt_script.said(log)
    assert to_blame("crashed", said, ["node0", "node1"]) == ["node1"]
    assert len(said) < 1000
    assert "node9" not in said
    assert attempt_script.said(tmp_path / "absent.log") == ""


def test_damaged_list_of_excluded_nodes_is_refused(tmp_path: Path) -> None:
    records = JobRecords(tmp_path)
    records.exclude({"node1": "preflight: 3 GPUs answer of 4"})
    (tmp_path / "slurm" / "excluded.json").write_text('{"node1": ')
    with pytest.raises(DamagedError, match=r"excluded\.json: not a JSON object of strings"):
        records.excluded()


def test_torn_line_of_a_dead_node_is_skipped(tmp_path: Path) -> None:
    records = JobRecords(tmp_path)
    records.note(attempt(0, "saved", 0, 10))
    with (tmp_path / "slurm" / "attempts.jsonl").open("a") as file:
        file.write('{"job": "7", "resta')
    assert [a.outcome for a in records.attempts()] == ["saved"]
    records.note(attempt(1, "crashed", 10, 10))
    records.note(attempt(2, "finished", 10, 20))
    assert [a.outcome for a in records.attempts()] == ["saved", "crashed", "finished"]
