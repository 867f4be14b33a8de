"""A run killed again and again, on disks that fail: losses and sequences as if undisturbed."""

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from forked import Zygote, positions, wait_for

from convbert.pretrain.checkpoints.reader import latest_good
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory, checkpoint_steps

pytestmark = [pytest.mark.integration, pytest.mark.slow]

KILLS = 20
STEPS = 120
BATCH = 8
LONG = (
    f"steps={STEPS}",
    "checkpoint.every=3",
    "micro_batch=2",
    "checkpoint.keep_last=2",
    "objective.masking.temperature=100",  # no sample that a rounding difference can change
)


@pytest.fixture(scope="module")
def undisturbed(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    zygote.finish(run, *LONG)
    return run


def assert_exact_data(run: Path, steps: int) -> None:
    """Every reading of every update was a share of the right sequences, and none is missing.

    An update that was done again after a kill was read again; nothing else was.
    """
    read = positions(run)
    assert sorted(read) == list(range(1, steps + 1))
    for step, shares in read.items():
        whole = list(range((step - 1) * BATCH, step * BATCH))
        counts = Counter(position for share in shares for position in share)
        assert sorted(counts) == whole
        for share in shares:
            first = share[0] - whole[0]
            assert share == whole[first : first + len(share)]
            assert len(share) in (BATCH, BATCH // 2)
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    first = [r["values"]["data/first_sequence"] for r in records if "step" in r]
    assert first == [BATCH * s for s in range(steps)]


def test_twenty_kills_at_random_moments_change_nothing(
    zygote: Zygote, read_losses, undisturbed: Path, tmp_path: Path
) -> None:
    run, chance = tmp_path / "run", random.Random(0)
    faults = {
        "record_positions": {"folder": str(run)},
        "slow_writes": {"seconds": 0.3},  # most of the time a checkpoint is being written
        "pace": {"seconds": 0.02},
    }
    found, during_write = [], 0
    for _ in range(KILLS):
        found.append(max(checkpoint_steps(run / "checkpoints"), default=0))
        started = zygote.start(run, *LONG, faults=faults)
        read = run / f"positions-0-{started.pids[0]}.jsonl"
        wait_for(lambda: read.exists() and read.stat().st_size > 0)  # noqa: B023
        time.sleep(chance.uniform(0, 1.2))
        during_write += any((run / "checkpoints").glob(".tmp-*"))
        started.kill(chance.randrange(2))
        assert -signal.SIGKILL in started.wait()
    print(f"\nstarted from {found}; {during_write} kills during a write")
    assert during_write >= 5
    assert len(set(found)) >= 5, "the kills must not all come before the next checkpoint"
    assert max(found) < STEPS
    zygote.finish(run, *LONG, faults={"record_positions": {"folder": str(run)}})
    assert read_losses(run) == read_losses(undisturbed)
    assert_exact_data(run, STEPS)


@contextmanager
def mounted(*arguments: str) -> Iterator[None]:
    made = subprocess.run(["mount", *arguments], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"cannot mount here: {made.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", arguments[-1]], check=True)


def test_a_full_disk_and_a_read_only_one_cost_no_checkpoint(
    zygote: Zygote, read_losses, tmp_path: Path
) -> None:
    settings = ("steps=24", "checkpoint.every=6")
    whole, run = tmp_path / "whole", tmp_path / "run"
    zygote.finish(whole, *settings)
    folder = run / "checkpoints"
    folder.mkdir(parents=True)
    with mounted("-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)):
        ballast = folder / "ballast"
        started = zygote.start(run, *settings, faults={"pace": {"seconds": 0.05}})
        wait_for(checkpoint_directory(folder, 6).is_dir)
        fill(ballast)
        assert started.wait() == [2, 2]
        assert "No space left on device" in started.log.read_text()
        kept = latest_good(folder)
        assert kept is not None
        assert not list(folder.glob(".tmp-*"))

        ballast.unlink()
        with mounted("--bind", str(folder), str(folder)):
            subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
            started = zygote.start(run, *settings)
            assert started.wait() == [2, 2]
            assert "Read-only file system" in started.log.read_text()
        again = latest_good(folder)
        assert again is not None
        assert again.manifest == kept.manifest
        zygote.finish(run, *settings)
    assert read_losses(run) == read_losses(whole)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    file.write(os.urandom(size))
            except OSError:
                continue


def test_a_failed_checkpoint_can_be_a_warning(zygote: Zygote, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)):
        fill(folder / "ballast")
        started = zygote.start(
            tmp_path, "checkpoint.on_failure=warn", faults={"pace": {"seconds": 0.2}}
        )
        wait_for(lambda: "training goes on without it" in started.log.read_text())
        (folder / "ballast").unlink()
        assert started.wait() == [0, 0]
        assert checkpoint_steps(folder)[-1] == 12
        assert 4 not in checkpoint_steps(folder)


def test_other_processes_stages_and_back(
    zygote: Zygote, read_losses, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    faults = {"record_positions": {"folder": str(run)}, "pace": {"seconds": 0.01}}
    for until, stage, processes in ((35, "zero1", 2), (75, "zero3", 1)):
        started = zygote.start(run, *LONG, f"deepspeed={stage}", processes=processes, faults=faults)
        wait_for(lambda: max(checkpoint_steps(run / "checkpoints"), default=0) >= until)  # noqa: B023
        started.kill(0)
        started.wait()
    zygote.finish(run, *LONG, "deepspeed=zero1", faults=faults)
    whole, elastic = read_losses(undisturbed), read_losses(run)
    assert sorted(elastic) == sorted(whole)
    for step in whole:
        assert elastic[step] == pytest.approx(whole[step], rel=1e-4)
    assert_exact_data(run, STEPS)
