"""A run ends with a page of fillings and verdicts, and the command shows any of its checkpoints."""

import json
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from convbert.models.errors import AbsentError, UserError
from convbert.pretrain.cli import app
from convbert.pretrain.exchange.export import export_checkpoint
from convbert.pretrain.exchange.run_models import RunModels, find_run
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.tracking.tracked_run import TrackedRun

pytestmark = pytest.mark.integration

TEXT = "The [MASK] statement binds a name."


@pytest.fixture(scope="module")
def run(zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    uri = f"tracking.uri=sqlite:///{folder / 'mlflow.db'}"
    # Sizes for which transformers can hold the generator, too.
    shape = "model.overrides={num_layers: 1, hidden_size: 64, embedding_size: 64, num_heads: 8}"
    zygote.finish(folder / "ended", "checkpoint.keep_every=4", uri, "evaluation.show=null", shape)
    return folder / "ended"


@pytest.fixture(scope="module")
def model(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "model"
    export_checkpoint(RunDirectory(run), folder)
    return folder


def convbert(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_the_page_of_a_finished_run_is_an_artifact_with_every_checkpoint(run: Path) -> None:
    state = TrackedRun.load(run).state
    client = MlflowClient(state.tracking_uri)
    (page,) = client.list_artifacts(state.run_id, "report/show")
    assert page.path == "report/show/show.html"
    assert client.get_run(state.run_id).info.status == "FINISHED"
    text = (run / "report" / "show" / "show.html").read_text()
    assert [text.count(f'data-label="step {s}, ') for s in (4, 8, 12)] == [1, 1, 1]
    assert text.count('class="text"') == 3 * 4


def test_a_page_that_cannot_be_made_is_a_warning(zygote, tmp_path: Path) -> None:
    zygote.finish(tmp_path / "run", "evaluation.show=['A name.', ' ']", processes=1)
    log = (tmp_path / "run" / "output.log").read_text()
    assert "WARNING no page of fillings (text ' ': holds no token" in log
    assert not (tmp_path / "run" / "report").exists()


def test_terminal_json_and_page_of_a_run(run: Path, tmp_path: Path) -> None:
    newest = convbert("show", run, TEXT)
    assert "ended: step 12, " in newest
    assert "[MASK]\n  0." in newest
    assert "ended: step 8, " in convbert("show", run, TEXT, "--step", 8)
    checkpoint = run / "checkpoints" / "step-00000008"
    assert convbert("show", checkpoint, TEXT) == convbert("show", run, TEXT, "--step", 8)
    page = tmp_path / "new" / "page.html"
    shown = json.loads(convbert("show", run, TEXT, "No mask here.", "--html", page, "--json"))
    assert [point["step"] for point in shown["points"]] == [4, 8, 12]
    with_mask, without = shown["points"][0]["looks"]
    assert (len(with_mask["fillings"]), len(with_mask["fillings"][0])) == (1, 5)
    assert (without["fillings"], bool(without["verdicts"])) == ([], True)
    assert page.read_text().count('class="point"') == 3
    assert "(in the text: " in convbert("show", run)


def test_an_exported_model_shows_what_its_checkpoint_shows(run: Path, model: Path) -> None:
    ours, theirs = (json.loads(convbert("show", s, TEXT, "--json")) for s in (run, model))
    ours, theirs = ours["points"][0]["looks"][0], theirs["points"][0]["looks"][0]
    assert ours.pop("limit") < theirs.pop("limit")  # trained length, positions
    assert ours == theirs
    filled = json.loads(convbert("show", model / "generator", TEXT, "--json"))
    assert filled["points"][0]["looks"][0]["fillings"] == ours["fillings"]


def test_heads_of_a_checkpoint_are_those_of_its_export(run: Path, model: Path) -> None:
    def table(*arguments: object) -> dict:
        return json.loads(convbert("heads", *arguments, "--format", "json").splitlines()[0])

    ours, theirs = table(run, TEXT), table(model, TEXT)
    assert ours["title"].startswith("ended: step 12, ")
    assert ours["rows"] == theirs["rows"]
    assert len(table(run, "--step", 4)["rows"]) == len(ours["rows"])  # on the run's own sentences


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["{run}", TEXT, "--step", "5"], AbsentError, "no checkpoint of step 5; present: 4, 8, 12"),
        (["{run}", " "], UserError, "holds no token"),
        (["{run}", TEXT, "--tokenizer", "x"], UserError, "is a run, which has its own"),
        (["{model}", TEXT, "--step", "4"], UserError, "is one model"),
        (["{model}"], UserError, "give a TEXT"),
        (["{run}/checkpoints", TEXT], AbsentError, "neither a run directory"),
        (["{run}/absent", TEXT], AbsentError, "neither a run directory"),
    ],
)
def test_what_is_not_there_is_said(run, model, tmp_path, arguments, kind, message) -> None:
    page = tmp_path / "page.html"
    filled = [a.format(run=run, model=model) for a in arguments]
    with pytest.raises(kind, match=message):
        convbert("show", *filled, "--html", page)
    assert not page.exists()


def test_an_encoder_without_generator_is_refused(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "alone", ignore=shutil.ignore_patterns("generator"))
    with pytest.raises(UserError, match="alone: an encoder alone"):
        convbert("show", tmp_path / "alone", TEXT)


def test_a_source_is_a_run_a_checkpoint_or_a_model(run: Path, model: Path) -> None:
    assert find_run(model) is None
    whole, none = find_run(run)
    assert (whole.path, none) == (run, [])
    owner, step = find_run(run / "checkpoints" / "step-00000004")
    assert (owner.path.resolve(), step) == (run.resolve(), [4])
    assert RunModels(whole, [8, 4, 8]).steps == [4, 8]
    with pytest.raises(AbsentError, match="no checkpoint of step 5; present: 4, 8, 12"):
        RunModels(whole, [4, 5])  # before anything is computed
