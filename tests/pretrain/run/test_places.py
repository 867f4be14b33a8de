"""Where a run finds its data and its MLflow store after it was moved, copied or unpacked."""

import platform
import shutil
import tarfile
from pathlib import Path

import pytest
import yaml

from convbert.models.errors import UserError
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.preparation import prepare
from convbert.pretrain.run.tracking_uri import resolve_uri
from convbert.pretrain.settings.places import Place, fate


@pytest.fixture
def project(tmp_path: Path, shards_dir: Path, tokenizer_dir: Path) -> Path:
    """A project: shards, tokenizer, text and a DeepSpeed file, and a run beside them."""
    folder = tmp_path / "project"
    shutil.copytree(shards_dir, folder / "shards")
    shutil.copytree(tokenizer_dir, folder / "tokenizer")
    (folder / "held.txt").write_text("A sentence. And another one.\n")
    (folder / "ds.json").write_text('{"zero_optimization": {"stage": 1}}')
    prepared(folder, "runs/one")
    return folder


def prepared(project: Path, name: str, *settings: str) -> RunDirectory:
    data = [
        f"data.manifest={project / 'shards' / 'manifest.json'}",
        f"data.tokenizer={project / 'tokenizer'}",
        f"evaluation.pairs={{inputs: [{project / 'h*.txt'}]}}",
        f"deepspeed={project / 'ds.json'}",
        f"phases=[{{start: 5, manifest: {project / 'shards' / 'manifest.json'}}}]",
        f"tracking.uri=sqlite:///{project / 'mlflow.db'}",
    ]
    fixed = ["global_batch=8", "steps=12", "schedule.warmup_steps=2"]
    return prepare("tiny", [*data, *fixed, *settings], project / name, 1)[0]


def places(run: RunDirectory) -> list[str]:
    config = run.open()
    assert config.evaluation.pairs is not None
    named = [config.data.manifest, config.data.tokenizer, *config.evaluation.pairs.inputs]
    named += [config.deepspeed, config.phases[0].manifest]
    return [str(place) for place in named] + [str(config.tracking.uri).removeprefix("sqlite:///")]


def all_in(folder: Path, found: list[str]) -> bool:
    return all(Path(place).is_relative_to(folder) for place in found)


def test_a_configuration_names_what_lies_beside_its_run_relative_to_it(project: Path) -> None:
    run = RunDirectory(project / "runs" / "one")
    stored = run.config_file.read_text()
    assert str(project) not in stored
    content = yaml.safe_load(stored)
    assert content["data"]["manifest"] == "../../shards/manifest.json"
    assert content["tracking"]["uri"] == "sqlite:///../../mlflow.db"
    assert all_in(project, places(run))


@pytest.mark.parametrize("original", ["there", "gone"])
@pytest.mark.parametrize("way", ["copy", "archive"])
def test_a_project_that_lies_elsewhere_uses_what_came_along(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, original: str
) -> None:
    (project / "mlflow.db").touch()
    other = tmp_path / "other" / "name"
    if way == "copy":
        shutil.copytree(project, other)
    else:
        with tarfile.open(tmp_path / "project.tar", "w") as archive:
            archive.add(project, "name")
        with tarfile.open(tmp_path / "project.tar") as archive:
            archive.extractall(other.parent, filter="data")
    if original == "gone":
        shutil.rmtree(project)
    monkeypatch.chdir(other / "runs")
    assert all_in(other, places(RunDirectory(Path("one"))))


def test_a_run_that_lies_elsewhere_alone_finds_its_data_where_they_were(
    project: Path, tmp_path: Path
) -> None:
    (project / "mlflow.db").touch()
    away = tmp_path / "away" / "one"
    shutil.copytree(project / "runs" / "one", away)
    *data, store = places(RunDirectory(away))
    assert all_in(project, data)
    assert store == str(tmp_path / "mlflow.db")  # a copy writes beside itself
    shutil.rmtree(away)
    away.parent.mkdir(exist_ok=True)
    shutil.move(project / "runs" / "one", away)
    assert all_in(project, places(RunDirectory(away)))  # a moved run goes on in its store
    assert prepare(str(away), ["threads=1"], None, 1)[0].path == away
    assert all_in(project, places(RunDirectory(away)))


def test_what_lies_far_from_a_run_stays_where_it_is(
    project: Path, tmp_path: Path, shards_dir: Path
) -> None:
    run = prepared(project, "deep/er/two", f"data.manifest={shards_dir / 'manifest.json'}")
    assert run.open().data.manifest == str(shards_dir / "manifest.json")
    assert str(shards_dir) in run.config_file.read_text()


def test_a_run_that_never_trained_takes_other_settings(project: Path) -> None:
    run = prepared(project, "runs/one", "seed=7", "optimizer.learning_rate=1e-3")
    assert run.open().seed == 7
    (run.checkpoints / "step-00000004").mkdir()  # something was trained, though not readable
    with pytest.raises(UserError, match=r"started with other settings \(seed: 7 -> 8\)"):
        prepared(project, "runs/one", "seed=8")


def test_the_fate_of_a_directory(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = project / "runs" / "one"
    before = Place.of(run)
    assert fate(run, None) == fate(run, before) == "stayed"
    copy = shutil.copytree(run, tmp_path / "copy")
    assert fate(copy, before) == "copied"
    # A copy on another file system may have been given the number of the original.
    assert fate(copy, Place(**before.model_dump() | {"inode": copy.stat().st_ino})) == "copied"
    (mount := tmp_path / "mount").symlink_to(run)
    assert fate(run, Place(**before.model_dump() | {"directory": mount})) == "stayed"
    assert fate(run.rename(tmp_path / "renamed"), before) == "stayed"
    assert fate(copy, before) == "moved"  # nothing is left at the old place of this machine
    monkeypatch.setattr(platform, "node", lambda: "another")
    assert fate(copy, before) == "copied"
    assert fate(tmp_path / "renamed", before) == "stayed"  # as another node mounts it


def test_the_original_of_another_user_counts_as_there(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Place.of(project / "runs" / "one")
    copy = shutil.copytree(project / "runs" / "one", tmp_path / "copy")
    shutil.rmtree(project)
    assert fate(copy, before) == "moved"
    stat = Path.stat

    def refused(path: Path, **options: bool) -> object:
        if path.is_relative_to(project):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refused)
    assert fate(copy, before) == "copied"


def test_a_store_whose_folder_is_gone_is_refused_with_the_remedy(
    project: Path, tmp_path: Path
) -> None:
    store = tmp_path / "stores" / "of" / "us"
    store.mkdir(parents=True)
    run = prepared(project, "runs/two", f"tracking.uri=sqlite:///{store}/mlflow.db")
    shutil.rmtree(tmp_path / "stores")
    with pytest.raises(UserError, match=f"no folder {store}; create it first, or name another"):
        resolve_uri(run.path, run.open().tracking.uri)
