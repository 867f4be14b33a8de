"""64 nodes of 8 processes: scripts, host lists, preflight, rendezvous, records and status.

Nothing is trained: ``slurm_local/forking.py`` says what runs. What is counted stands in
docs/shared-files.md; ``pytest -s`` prints the table.
"""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from convbert.cluster.preflight.node_report import read_reports
from convbert.cluster.records import JobRecords
from tests.slurm_local import daemons
from tests.slurm_local.configuration import LocalCluster
from tests.slurm_local.forking import FAILING_RANK

from .conftest import Slurm, attempts, log

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]

NODES = int(os.environ.get("SCALE_NODES", "64"))
PER_NODE = 8
FAILING_NODE = f"node{FAILING_RANK % (NODES * PER_NODE) // PER_NODE}"


@pytest.fixture(scope="module")
def large() -> Iterator[Slurm]:
    """A cluster of 64 nodes; patient, because two cores serve all of them."""
    if shutil.which("slurmctld", path=daemons.search_path()) is None:
        pytest.skip(f"needs Debian's packages {daemons.PACKAGES}; `make test-slurm` installs them")
    state = Path(tempfile.mkdtemp(prefix="convbert-large-"))
    patience = {"silence_seconds": 300, "message_seconds": 90, "requeue_seconds": 60}
    cluster = LocalCluster(state=state, nodes=NODES, cpus=PER_NODE, **patience)
    daemons.start(cluster, timeout=300)
    try:
        yield Slurm(cluster, [])
    finally:
        daemons.stop(state)
        shutil.rmtree(state, ignore_errors=True)


@pytest.fixture
def forking(tmp_path: Path) -> Iterator[Path]:
    """The folder of a server that forks the processes of steps."""
    # Sockets have short names: not below pytest's directory.
    folder = Path(tempfile.mkdtemp(prefix="convbert-forking-"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.slurm_local.forking", str(folder)]
    server = subprocess.Popen(command, env=environment)
    try:
        deadline = time.monotonic() + 300
        while not (folder / "python").is_file():
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield folder
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def calls(folder: Path) -> Counter[tuple[str, str, str]]:
    """Return how often each module did something to each kind of file below the run directory."""
    found: Counter[tuple[str, str, str]] = Counter()
    for line in (folder / "calls").read_text().splitlines():
        module, operation, path = line.split("\t")
        kind = re.sub(r"\.[^.]*\.\d+-[0-9a-f]{8}\.tmp$", ".TEMPORARY", path)
        kind = re.sub(r"node\d+", "NODE", re.sub(r"(?<=[/.-])\d+(?=[/.-]|$)", "N", kind))
        found[module.removeprefix("convbert."), operation, kind] += 1
    return found


def test_records_reports_and_rendezvous_of_64_nodes(
    large: Slurm, forking: Path, tmp_path: Path, shards_dir: Path, tokenizer_dir: Path
) -> None:
    site = {"tasks_per_node": PER_NODE, "cpus_per_task": 1, "python": str(forking / "python")}
    site["preflight"] = {"seconds": 600, "min_disk_gib": 0.1, "min_shm_gib": 0.01}
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(site))
    run = tmp_path / "run"
    data = [f"data.manifest={shards_dir / 'manifest.json'}", f"data.tokenizer={tokenizer_dir}"]
    settings = [*data, f"global_batch={NODES * PER_NODE}", "steps=300", "tracking.uri=off"]
    options = ["--nodes", str(NODES), "--time", "30:00", "--site", str(tmp_path / "site.yaml")]
    # As many open files as a shell often allows, here fewer than there are processes.
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (NODES * PER_NODE // 2, limits[1]))
    try:
        large.convbert("submit", "tiny", *settings, *options, "--run-dir", str(run))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    job = JobRecords(run).submissions()[-1].job
    large.wait("the first attempt ends", lambda: "to be continued" in log(run), run, job)
    large.wait("the second attempt", lambda: len(attempts(run)) == 2, run, job)
    shown = large.convbert("status", str(run), "--format", "csv")
    assert f"running (node[0-{NODES - 1}])" in shown
    assert large.wait_for_end(job, run) == "COMPLETED", log(run)[-5000:]

    first, second = attempts(run)
    assert len(first.nodes) == NODES
    assert f"attempt 1 of job {job} from step 0 on node[0-{NODES - 1}]\n" in log(run)
    assert (
        log(run).count(f"preflight: {NODES} of {NODES} nodes are fit, all-reduce at 1 GB/s\n") == 2
    )
    # Found although all processes wrote more after it than anybody would read at once.
    assert (first.outcome, first.failed_nodes) == ("crashed", [FAILING_NODE])
    assert second.outcome == "finished"
    assert JobRecords(run).excluded() == {}
    for restart in (0, 1):
        reports = read_reports(run / "slurm" / "preflight" / f"{job}-{restart}")
        assert len(reports) == NODES
        assert all(report.clock is not None for report in reports)

    found = calls(forking)
    for (module, operation, path), count in sorted(found.items()):
        print(f"{count / 2:8.1f}  {module:24} {operation:15} {path}")
    per_attempt = Counter[tuple[str, str]]()
    for (module, operation, _), count in found.items():
        per_attempt[module, operation] += count // 2
    # In every attempt a node's first process writes; the others read where to meet.
    assert per_attempt["cluster.preflight.probe", "write"] <= 3 * NODES + 1
    assert per_attempt["cluster.task", "write"] == 1
