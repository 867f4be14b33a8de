"""A trained run on another path: copied or archived, alone or with its project, as another user."""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import Zygote
from mlflow import MlflowClient
from mlflow.tracking._tracking_service import utils

from convbert.models.errors import UserError
from convbert.pretrain.cli import exchange
from convbert.pretrain.cli.evaluation import evaluate, track_sync
from convbert.pretrain.cli.pages import report
from convbert.pretrain.cli.training import branch
from convbert.pretrain.exchange.export import export_checkpoint
from convbert.pretrain.exchange.registering import register_export
from convbert.pretrain.run.checkpoint_manifest import checkpoint_steps
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.preparation import plan_run, prepare
from convbert.pretrain.tracking.tracked_run import COPY_TAG, TrackedRun

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def project(
    zygote: Zygote, shards_dir: Path, tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A trained run beside its shards and its tokenizer, tracked in the default store."""
    folder = tmp_path_factory.mktemp("place") / "project"
    shutil.copytree(shards_dir, folder / "shards")
    shutil.copytree(tokenizer_dir, folder / "tokenizer")
    data = [f"data.manifest={folder}/shards/manifest.json", f"data.tokenizer={folder}/tokenizer"]
    data += [f"evaluation.held_out={folder}/shards/manifest.json", "evaluation.sequences=8"]
    settings = ["steps=4", "schedule.name=constant", "checkpoint.every=2"]
    settings += ["checkpoint.keep_every=2", *data]
    zygote.finish(folder / "runs" / "one", *settings, "tracking.uri=null", processes=1)
    return folder


@pytest.fixture(autouse=True)
def _as_in_a_new_process() -> None:
    """MLflow remembers the places of a run's files for as long as a process lives."""
    utils._artifact_repos_cache.clear()


@pytest.fixture
def original(project: Path, tmp_path: Path) -> Path:
    """The project, to be spoilt."""
    return shutil.copytree(project, tmp_path / "original", copy_function=shutil.copy2)


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def runs_in(database: Path) -> dict[str, dict[str, str]]:
    """Return the tags of the MLflow runs in a database that is there."""
    assert database.is_file()
    client = MlflowClient(f"sqlite:///{database}")
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    return {run.info.run_id: run.data.tags for run in found}


def used(run: Path, output: Path) -> None:
    """Use a run with every command that reads or measures it."""
    evaluate(run, step=[4])
    report([run], output / "report.html")
    assert export_checkpoint(RunDirectory(run), output / "model") == 4
    branch(run, [2], decay="1", output=output / "branches")
    (made,) = (output / "branches").iterdir()
    assert RunDirectory(made).open().data == RunDirectory(run).open().data
    plan_run(str(run), ["steps=6"], None, 1)


@pytest.mark.parametrize("gone", [True, False], ids=["original gone", "original there"])
def test_a_project_that_was_archived_and_unpacked_elsewhere(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    place = tmp_path / "first" if gone else project
    if gone:
        shutil.copytree(project, place)
    with tarfile.open(tmp_path / "project.tar.gz", "w:gz") as archive:
        archive.add(place, "unpacked")
    if gone:
        shutil.rmtree(place)
    before = content(project)
    with tarfile.open(tmp_path / "project.tar.gz") as archive:
        archive.extractall(tmp_path / "far", filter="data")
    there = tmp_path / "far" / "unpacked"
    monkeypatch.chdir(there / "shards")  # paths of a run do not depend on where one stands
    used(Path("../runs/one"), tmp_path / "out")
    register_export(RunDirectory(there / "runs" / "one"), tmp_path / "out" / "model", 4, "moved")
    database = there / "runs" / "mlflow.db"
    (version,) = MlflowClient(f"sqlite:///{database}").search_model_versions("name = 'moved'")
    assert version.run_id in runs_in(database)
    assert any((there / "runs" / "mlartifacts" / version.run_id).rglob("model.safetensors"))
    assert content(project) == before


def test_a_copy_of_the_run_alone_goes_on_by_itself(
    zygote: Zygote, original: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(original / "runs" / "one", tmp_path / "elsewhere" / "one")
    before = content(original)
    with pytest.raises(UserError, match=r"is a copy, whose own run is not in MLflow yet"):
        exchange.export(copy, tmp_path / "model", register="copied")
    assert not (tmp_path / "model").exists()
    used(copy, tmp_path / "out")
    prepare(str(copy), ["steps=6"], None, 1)
    assert not any(zygote.launch(copy, 1).wait())
    assert checkpoint_steps(copy / "checkpoints")[-1] == 6
    assert content(original) == before
    origin = TrackedRun.load(original / "runs" / "one").state
    (tags,) = runs_in(tmp_path / "elsewhere" / "mlflow.db").values()
    assert tags[COPY_TAG] == origin.run_id
    track_sync(copy)


AS_ANOTHER_USER = """
import shutil
import sys
from pathlib import Path

from convbert.models.errors import UserError
from convbert.pretrain.cli.evaluation import evaluate, track_sync
from convbert.pretrain.cli.pages import report
from convbert.pretrain.cli.training import branch
from convbert.pretrain.exchange.export import export_checkpoint
from convbert.pretrain.run.claim import claim_for_training
from convbert.pretrain.run.directory import RunDirectory

run, mine = map(Path, sys.argv[1:])
for adding in (lambda: evaluate(run, step=[4]), lambda: track_sync(run),
               lambda: claim_for_training(run)):
    try:
        adding()
    except UserError as error:
        assert "copy the run (`cp -a" in str(error), error
    else:
        raise AssertionError("not refused")
report([run], mine / "report.html")
assert export_checkpoint(RunDirectory(run), mine / "model") == 4
branch(run, [2], decay="1", output=mine / "branches")
try:
    export_checkpoint(RunDirectory(run), run / "model")
except PermissionError as error:
    assert error.filename == str(run / "model")
else:
    raise AssertionError("not refused")
shutil.copytree(run, mine / "one", copy_function=shutil.copyfile)
evaluate(mine / "one", step=[4])
"""


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="becomes another user with setpriv"
)
def test_another_user_reads_a_run_and_adds_only_to_a_copy_of_it(
    project: Path, public: Path
) -> None:
    original, mine = public / "original", public / "mine"
    shutil.copytree(project, original)
    mine.mkdir()
    os.chown(mine, 65534, 65534)
    before = content(original)
    # May read everything, this Python's own files for one, and write what belongs to it alone.
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    user += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    paths = [str(original / "runs" / "one"), str(mine)]
    done = subprocess.run(
        [*user, sys.executable, "-c", AS_ANOTHER_USER, *paths],
        env={**os.environ, "HOME": str(mine), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert content(original) == before
    (tags,) = runs_in(mine / "mlflow.db").values()
    assert tags[COPY_TAG] == TrackedRun.load(original / "runs" / "one").state.run_id
