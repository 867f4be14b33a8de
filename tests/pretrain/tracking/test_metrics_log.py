"""metrics.jsonl holds each step exactly once, whatever happened to the process that wrote it."""

import json
import math
import re
import resource
import tracemalloc

import pytest

from convbert.models.errors import DamagedError
from convbert.pretrain.tracking.metrics_log import (
    MetricsLog,
    hand_in,
    inbox,
    read_records,
    rewind,
)
from convbert.pretrain.tracking.records import (
    ArtifactRecord,
    CurvePoint,
    EventRecord,
    StepRecord,
    encode,
)


def write_steps(path, steps, *, loss=1.0, resume_step=None):
    log = MetricsLog(path, resume_step=resume_step)
    for step in steps:
        log.append(StepRecord(step, 1000.0 + step, step * 1e12, {"loss": loss}))
    log.close()


def steps_in(path):
    return [r.step for r in read_records(path) if isinstance(r, StepRecord)]


def test_a_line_is_strict_json_with_step_time_flops_and_values(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.append(StepRecord(3, 12.5, 2e15, {"loss": math.inf, "gap": math.nan, "rate": 1e-4}))
    log.close()

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    entry = json.loads(path.read_text(), parse_constant=refuse)
    assert (entry["step"], entry["time"], entry["flops"]) == (3, 12.5, 2e15)
    (record,) = read_records(path)
    assert record.values["loss"] == math.inf
    assert math.isnan(record.values["gap"])
    assert record.values["rate"] == 1e-4


def test_records_are_in_the_file_before_append_returns(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.append(StepRecord(1, 0.0, 0.0, {}))
    assert steps_in(path) == [1]  # not closed, not synced: nothing waits in this process
    log.close()


@pytest.mark.parametrize("tail", [b'{"step":4,"time":1', b'{"step":4}', b"\0" * 64, b"\0\0\n\0\n"])
def test_a_torn_end_is_dropped_on_reopening(tmp_path, tail):
    path = tmp_path / "metrics.jsonl"
    write_steps(path, [1, 2, 3])
    with open(path, "ab") as file:
        file.write(tail)
    write_steps(path, [4, 5])
    assert steps_in(path) == [1, 2, 3, 4, 5]
    assert path.read_bytes().count(b"\n") == 5


def test_every_possible_tear_of_the_last_line_loses_only_that_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_steps(path, [1, 2])
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        path.write_bytes(whole[:cut])
        write_steps(path, [2])
        assert steps_in(path) == [1, 2]


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_steps(path, [1, 2, 3])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"garbage\n", lines[2]]))
    with pytest.raises(DamagedError, match=r"metrics\.jsonl:2: not a metrics record"):
        list(read_records(path))


def test_resuming_forgets_later_steps_and_keeps_each_step_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_steps(path, range(1, 8), loss=1.0)
    write_steps(path, range(5, 10), loss=2.0, resume_step=4)
    assert steps_in(path) == list(range(1, 10))
    records = list(read_records(path))
    losses = [r.values["loss"] for r in records if isinstance(r, StepRecord)]
    assert losses == [1.0] * 4 + [2.0] * 5
    write_steps(path, [5, 6], loss=3.0, resume_step=4)
    write_steps(path, [5], loss=4.0, resume_step=4)
    (note,) = (r for r in read_records(path) if isinstance(r, EventRecord))
    # Whatever was trained in between: the steps up to 9 may be known elsewhere.
    assert (note.event, note.at, note.facts) == ("restart", 5, {"step": 9.0})


def test_resuming_drops_curve_points_of_the_training_that_is_repeated(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_steps(path, range(1, 8))
    log = MetricsLog(path)
    for flops in (0.0, 3e12, 6e12):
        log.append(CurvePoint("task/accuracy", 0.0, flops, 0.5))
    log.append(ArtifactRecord("report/curve.png", 0.0))
    log.close()
    MetricsLog(path, resume_step=4).close()
    kept = list(read_records(path))
    assert [r.flops for r in kept if isinstance(r, CurvePoint)] == [0.0, 3e12]
    assert [r.artifact for r in kept if isinstance(r, ArtifactRecord)] == ["report/curve.png"]


def test_points_of_the_checkpoint_that_a_run_begins_with_are_kept(tmp_path):
    hand_in(tmp_path, [CurvePoint("t/f1", 1.0, 4e12, 0.5, {"step": 4})])
    hand_in(tmp_path, [CurvePoint("t/f1", 1.0, 9e12, 0.5, {"step": 9})])
    path = tmp_path / "metrics.jsonl"  # of a branch, which has none from before its beginning
    MetricsLog(path, resume_step=4).close()
    assert [r.flops for r in read_records(path)] == [4e12]


def test_a_log_that_the_disk_has_no_room_to_rewind_goes_on(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_steps(path, [1, 2, 3])
    log = MetricsLog(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        with pytest.raises(OSError):
            log.rewind(2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    log.append(StepRecord(4, 1000.0, 1e12, {"loss": 1.0}))
    log.close()
    assert steps_in(path) == [1, 2, 3, 4]


def test_reopening_without_a_step_keeps_everything(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_steps(path, [1, 2])
    write_steps(path, [3])
    assert steps_in(path) == [1, 2, 3]


@pytest.mark.parametrize("room", [0, 1, 30])
def test_a_line_that_the_disk_has_no_room_for_leaves_nothing(tmp_path, room):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.append(StepRecord(1, 1000.0, 1e12, {"loss": 1.0}))
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the size of files acts like a full disk: a part is written, then nothing more.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, limits[1]))
    try:
        with pytest.raises(OSError):
            log.append(StepRecord(2, 1000.0, 1e12, {"loss": 1.0}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    log.append(StepRecord(3, 1000.0, 1e12, {"loss": 1.0}))
    log.close()
    assert steps_in(path) == [1, 3]


def test_a_log_is_repaired_and_rewound_in_little_memory(tmp_path):
    path = tmp_path / "metrics.jsonl"
    values = {f"metric/{number}": 1.0 for number in range(20)}
    lines = (encode(StepRecord(step, 0.0, step * 1e12, values)) for step in range(1, 5001))
    path.write_bytes(b"".join(lines) + b"torn")
    assert path.stat().st_size > 1_500_000
    tracemalloc.start()
    log = MetricsLog(path, resume_step=4000)
    assert rewind(path, 3000) == 1001  # with the note that 4001 to 5000 were dropped
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    log.close()
    assert peak < 300_000
    assert steps_in(path) == list(range(1, 3001))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"step": "a"}, "step: give a whole number"),
        ({"step": 10**20}, "step: "),
        ({"flops": None}, "flops: give a number"),
        ({"flops": "inf"}, "flops: give a finite number"),
        ({"values": [1]}, "values: give keys and values"),
        ({"values": {"loss": "a"}}, "values.loss: give a number"),
        ({"other": 1}, "unknown key 'other'"),
    ],
)
def test_a_record_of_the_wrong_kinds_is_named(tmp_path, change, reason):
    record = {"step": 1, "time": 1.0, "flops": 1.0, "values": {"loss": "nan"}}
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in (record, record | change, record)))
    with pytest.raises(DamagedError, match=r"metrics\.jsonl:2: .*" + re.escape(reason)):
        list(read_records(path))


def test_a_damaged_file_of_the_inbox_is_set_aside(tmp_path, caplog):
    hand_in(tmp_path, [CurvePoint("t/f1", 1.0, 1e9, 0.5)])
    hand_in(tmp_path, [CurvePoint("t/f1", 1.0, 2e9, 0.5)])
    first, _ = inbox(tmp_path)
    first.write_bytes(first.read_bytes()[:-1])
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.take_inbox()
    log.close()
    assert [r.flops for r in read_records(path)] == [2e9]
    assert not inbox(tmp_path)
    assert (tmp_path / "inbox" / f".damaged-{first.name}").exists()
    assert f"kept as .damaged-{first.name}" in caplog.text
