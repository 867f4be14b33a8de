"""A container sees what a configuration names, or the submission is refused."""

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from convbert.cluster.bindings import image_fault
from convbert.cluster.follow import Evaluation, evaluation_script
from convbert.cluster.render import JobOptions, render_corpus, render_pretraining
from convbert.cluster.site import Site
from convbert.models.errors import AbsentError, UserError
from convbert.pretrain.cli import app
from convbert.pretrain.run.preparation import prepare


def site(runtime: str, **changes: object) -> Site:
    container = {"runtime": runtime, "image": "/i.sif", "mounts": ["/data", "$HOME/x:/y"]}
    return Site.model_validate({"python": "python", "container": container} | changes)


@pytest.fixture
def run(tmp_path: Path, shards_dir: Path, tokenizer_dir: Path) -> Path:
    """A prepared run whose data, upload and tracking lie in other places."""
    for name in ("store", "far"):
        (tmp_path / name).mkdir()
    settings = [
        f"data.manifest={shards_dir / 'manifest.json'}",
        f"data.tokenizer={tokenizer_dir}",
        f"tracking.uri=sqlite:///{tmp_path}/store/mlflow.db",
        f"checkpoint.upload={tmp_path / 'far'}",
        "steps=4",
        "schedule.warmup_steps=1",
        "global_batch=4",
    ]
    return prepare("tiny", settings, tmp_path / "run", 1)[0].path


def named(run: Path, shards_dir: Path, tokenizer_dir: Path) -> list[str]:
    folders = [run, shards_dir, tokenizer_dir, run.parent / "far", run.parent / "store"]
    return [str(folder.resolve()) for folder in folders]


def started(script: str, folder: Path) -> list[str]:
    """Return what apptainer sees when the script starts Python on a node: its environment's
    binds, then its arguments."""
    program = folder / "bin" / "apptainer"
    program.parent.mkdir(exist_ok=True)
    program.write_text('#!/bin/bash\nprintf "%s\\n" "$APPTAINER_BIND" "$@"\n')
    program.chmod(0o755)
    head = script.split("# After a crash")[0].split("RETRIES=")[0].split("srun ")[0]
    environment = {"PATH": f"{program.parent}:/usr/bin:/bin", "HOME": "/home/me"}
    environment |= {"TMPDIR": str(folder / "node"), "SLURM_JOB_ID": "1"}
    command = ["bash", "-c", head + '\n"${PYTHON[@]}"']
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return shown.stdout.splitlines()


def bound(script: str, folder: Path) -> list[str]:
    """Return the arguments of --bind."""
    return [value for key, value in pairwise(started(script, folder)) if key == "--bind"]


def test_apptainer_binds_what_the_run_names(
    run: Path, shards_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    found = bound(render_pretraining([run], site("apptainer"), JobOptions()), tmp_path)
    assert found[:2] == ["/data", "/home/me/x:/y"]
    assert found[2:] == named(run, shards_dir, tokenizer_dir)


def test_pyxis_mounts_what_the_run_names_and_nothing_twice(
    run: Path, shards_dir: Path, tokenizer_dir: Path
) -> None:
    text = render_pretraining([run], site("pyxis"), JobOptions())
    (line,) = [line for line in text.splitlines() if line.startswith("MOUNTS=")]
    mounts = line.split("/x:/y,")[1].split(",")
    assert mounts == named(run, shards_dir, tokenizer_dir)
    container = {"runtime": "pyxis", "image": "/i.sif", "mounts": [str(run.parent)]}
    text = render_pretraining([run], site("pyxis", container=container), JobOptions())
    (line,) = [line for line in text.splitlines() if line.startswith("MOUNTS=")]
    assert str(run) not in line
    assert str(shards_dir) in line


def test_default_tracking_store_is_bound_beside_the_run(
    tmp_path: Path, shards_dir: Path, tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    data = [f"data.manifest={shards_dir}", f"data.tokenizer={tokenizer_dir}", "steps=4"]
    (tmp_path / "runs").mkdir()
    run = prepare("tiny", [*data, "schedule.warmup_steps=1"], tmp_path / "runs/a", 1)[0].path
    found = bound(render_pretraining([run], site("apptainer"), JobOptions()), tmp_path)
    assert str(tmp_path / "runs") in found


def test_what_is_not_there_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "far").rmdir()
    with pytest.raises(AbsentError, match=rf"^{tmp_path}/far: does not exist here, so no cont"):
        render_pretraining([run], site("apptainer"), JobOptions())


def test_path_that_no_container_can_bind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a,b: a container cannot bind a path with a comma"):
        render_pretraining([tmp_path / "a,b"], site("pyxis"), JobOptions())


def test_caches_are_bound_where_the_node_makes_them_or_refused(tmp_path: Path) -> None:
    changes = {"environment": {"HF_HOME": "$TMPDIR/hf"}, "scratch": "$TMPDIR/scratch"}
    text = render_pretraining([tmp_path], site("apptainer", **changes), JobOptions())
    scratch, node = tmp_path / "node/scratch", tmp_path / "node"
    caches, *places = started(text, tmp_path)[0].split(",")
    assert caches.startswith(f"{scratch}/convbert-")
    assert places == [str(scratch), f"{node}/hf"]
    assert (node / "hf").is_dir()
    with pytest.raises(UserError, match=r"^environment\.HF_HOME=\$TMPDIR/hf: would be lost"):
        render_pretraining([tmp_path], site("pyxis", **changes), JobOptions())


def test_corpus_and_evaluation_bind_what_they_read(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("texts", "held", "tasks", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    config = tmp_path / "c.yaml"
    config.write_text(
        f"inputs: [../texts/*.txt, s3://far]\ndecontamination: {{files: [{tmp_path}/held/a*]}}\n"
        "tokenizer: {path: ../tok}\n"
    )
    with pytest.raises(AbsentError, match="tok: does not exist here"):
        render_corpus(config, tmp_path / "out", site("apptainer"), JobOptions())
    (tmp_path / "tok").mkdir()
    script = render_corpus(config, tmp_path / "out", site("apptainer"), JobOptions())
    names = bound(script, tmp_path)
    # c.yaml lies in tmp_path, which holds all the others
    assert {str(Path(n)) for n in names[2:]} >= {str(tmp_path / "out"), str(tmp_path)}
    plan = Evaluation(tasks={"mine": tmp_path / "tasks"})
    assert str(tmp_path / "tasks") in bound(
        evaluation_script(run, site("apptainer"), plan, 4), tmp_path
    )


def test_image_that_is_no_file_or_the_nodes_own_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "sandbox").mkdir()
    (tmp_path / "a$b.sif").touch()
    for image in (
        *("docker://ubuntu", "oras://far/convbert.sif", "convbert:latest", "nvcr.io#nvidia/torch"),
        *("$IMAGES/convbert.sif", "${IMAGES:-/images}/convbert.sqsh", str(tmp_path / "sandbox")),
        f"{tmp_path}/a$$b.sif",
    ):
        container = {"runtime": "pyxis", "image": image}
        assert image_fault(site("pyxis", container=container)) is None
    assert image_fault(Site()) is None


@pytest.mark.parametrize("name", ["/none/convbert.sif", "/none/sandbox"])
def test_image_that_is_not_there_is_refused_before_anything_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    profile = tmp_path / "site.yaml"
    profile.write_text(f"container: {{runtime: apptainer, image: {name}}}\n")
    (tmp_path / "corpus.yaml").write_text("inputs: [.]\n")
    for command in (["submit", "tiny"], ["corpus", "submit", "corpus.yaml", "-o", "built"]):
        done = CliRunner().invoke(app, [*command, "--site", str(profile), "--dry-run"])
        assert isinstance(done.exception, UserError)
        expected = f"container.image={name}: does not exist here; build it or correct the path"
        assert str(done.exception).startswith(expected)
    assert {path.name for path in tmp_path.iterdir()} == {"site.yaml", "corpus.yaml"}


@pytest.mark.parametrize("name", ["convbert.sif", "./sandbox"])
def test_relative_image_is_refused_with_the_whole_path(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()
    fault = image_fault(site("apptainer", container={"runtime": "apptainer", "image": name}))
    assert fault is not None
    assert fault.endswith(f"give the whole path, such as {tmp_path / name}")
