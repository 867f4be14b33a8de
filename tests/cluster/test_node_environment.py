"""What a job script sets on each node: variables that differ there, and caches on its own disk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from convbert.cluster.render import JobOptions, render_corpus, render_pretraining
from convbert.cluster.site import Site

SHOW = "import json, os; print(json.dumps(dict(os.environ)))"


def on_node(
    folder: Path, profile: dict[str, object], node: dict[str, str], corpus: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run Python as a step of a job whose node has other variables than the first node."""
    site = Site.model_validate({"python": sys.executable} | profile)
    if corpus:
        text = render_corpus(folder / "c.yaml", folder, site, JobOptions()).split("SCHEDULER=")[0]
    else:
        text = render_pretraining([folder], site, JobOptions()).split("# After a crash")[0]
    changes = " ".join(f"{k}={v}" for k, v in node.items())
    unset = " ".join(f"-u {name}" for name in ("TMPDIR", "TRITON_CACHE_DIR"))
    program = f'{text}\nenv {unset} {changes} "${{PYTHON[@]}}" -c {SHOW!r}'
    first = {k: v for k, v in os.environ.items() if k != "TORCHINDUCTOR_CACHE_DIR"}
    first |= {"TMPDIR": "/first", "SLURM_JOB_ID": "1", "SLURM_CPUS_PER_TASK": "8"}
    return subprocess.run(
        ["bash", "-c", program], cwd=folder, env=first, capture_output=True, text=True, check=False
    )


def variables(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_values_are_those_of_the_node(tmp_path: Path) -> None:
    profile = {
        "environment": {"HF_HOME": "$TMPDIR/hf", "PLAIN": "$(touch injected) $$HOME", "N": 3},
        "scratch": "${SLURM_TMPDIR:-/nowhere}/x",
    }
    profile["environment"] = {k: str(v) for k, v in profile["environment"].items()}
    local = tmp_path / "local disk"
    node = {"TMPDIR": "/second", "SLURM_TMPDIR": f"'{local}'"}
    found = variables(on_node(tmp_path, profile, node))
    assert found["HF_HOME"] == "/second/hf"
    assert found["PLAIN"] == "$(touch injected) $HOME"
    assert found["CONVBERT_SCRATCH"] == f"{local}/x"
    caches = local / "x" / f"convbert-{os.getuid()}"
    assert found["TRITON_CACHE_DIR"] == f"{caches}/triton"
    assert found["TORCHINDUCTOR_CACHE_DIR"] == f"{caches}/inductor"
    assert caches.is_dir()
    assert not list(tmp_path.rglob("injected"))


def test_caches_are_in_the_nodes_temporary_directory_or_where_the_site_says(tmp_path: Path) -> None:
    found = variables(on_node(tmp_path, {}, {"TMPDIR": str(tmp_path)}))
    assert found["TRITON_CACHE_DIR"] == f"{tmp_path}/convbert-{os.getuid()}/triton"
    profile = {"environment": {"TRITON_CACHE_DIR": "/kept"}}
    node = {"TMPDIR": str(tmp_path), "TRITON_CACHE_DIR": "/kept"}
    assert variables(on_node(tmp_path, profile, node))["TRITON_CACHE_DIR"] == "/kept"


def test_temporary_directory_of_another_machine_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = variables(on_node(tmp_path, {}, {"TMPDIR": str(tmp_path / "file" / "x")}))
    assert found["TRITON_CACHE_DIR"] == f"/tmp/convbert-{os.getuid()}/triton"


@pytest.mark.parametrize(
    "profile", [{"environment": {"HF_HOME": "$NONESUCH/hf"}}, {"scratch": "$NONESUCH"}]
)
def test_variable_that_a_node_lacks_is_named_with_its_key(
    tmp_path: Path, profile: dict[str, object]
) -> None:
    done = on_node(tmp_path, profile, {"TMPDIR": str(tmp_path)})
    key = "scratch" if "scratch" in profile else "environment.HF_HOME"
    assert done.returncode != 0
    assert f"NONESUCH: unset on this node, but {key} names it" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_of_a_corpus_has_one_thread_and_the_nodes_disk(tmp_path: Path) -> None:
    found = variables(on_node(tmp_path, {}, {"TMPDIR": str(tmp_path)}, corpus=True))
    assert found["OMP_NUM_THREADS"] == "1"
    assert found["DASK_TEMPORARY_DIRECTORY"] == str(tmp_path)
