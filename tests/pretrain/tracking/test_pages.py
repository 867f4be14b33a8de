"""What MLflow's pages show: metrics in order, descriptions, the view, links, parameters."""

import base64
import json
import logging
import shutil
import time
import zlib

from mlflow import MlflowClient

from convbert.pretrain.run import metric_names
from convbert.pretrain.run.tracking_links import curves_page, links, runs_page
from convbert.pretrain.tracking import mlflow_names
from convbert.pretrain.tracking.mlflow_notes import NOTE_TAG, is_ours, signed
from convbert.pretrain.tracking.mlflow_views import TAG_CHARACTERS, VIEW_TAG, view
from convbert.pretrain.tracking.stopped_run import sync
from convbert.pretrain.tracking.tracked_run import TrackedRun, links_of

CURVES = ("held_out/loss/mlm", "pairs/agreement", "probe/trec/accuracy", "rotten_tomatoes/accuracy")


def sections(names):
    """Return the sections of MLflow's charts in the order in which it shows them."""
    before = {name.rpartition("/")[0] or "Model metrics" for name in names}
    return sorted(before, key=lambda section: (section == "Model metrics", section))


def test_measures_come_first_then_losses_and_bookkeeping_last():
    values = dict.fromkeys(metric_names.of_updates("rtd"), 1.0)
    updates = mlflow_names.of_update(values, 1.0)
    curves = [mlflow_names.of_curve(name) for name in CURVES]
    order = sections([*updates, *curves])
    assert order[:3] == ["finetuned/rotten_tomatoes", "held_out/loss", "loss"]
    assert order[-1] == "Model metrics"
    last = {name for name in updates if "/" not in name}
    expected = {"flops", "hardware_flops", "tokens", "first_sequence", "processes", "loss_scale"}
    assert last == expected, "flops once"
    assert len(updates) == len(values)  # flops/electra is flops
    assert "training/optimizer/learning_rate" in updates


def test_a_task_that_is_called_like_a_section_is_none():
    assert mlflow_names.of_curve("loss/accuracy") == "finetuned/loss/accuracy"
    assert mlflow_names.of_curve("branches/mood/f1") == "branches/finetuned/mood/f1"
    for name in ("held_out/loss/mlm", "branches/held_out/loss/mlm", "finetuned/mood/f1"):
        assert mlflow_names.of_curve(name) == name


def charts(tag):
    entry = json.loads(tag)
    state = json.loads(zlib.decompress(base64.b64decode(entry["state"].removeprefix("deflate;"))))
    titles = {section["uuid"]: section["name"] for section in state["compareRunSections"]}
    drawn = [
        (titles[c["metricSectionId"]], c["metricKey"], c["selectedXAxisMetricKey"])
        for c in state["compareRunCharts"]
    ]
    return drawn, list(titles.values())


def test_the_view_draws_curves_and_losses_over_flops_results_first():
    names = ["loss/mlm", "held_out/loss/mlm", "finetuned/mood/f1", "flops", "time/data_seconds"]
    drawn, titles = charts(view(names, None, 1))
    assert [(metric, axis) for _, metric, axis in drawn] == [
        ("finetuned/mood/f1", "curve_flops"),
        ("held_out/loss/mlm", "curve_flops"),
        ("loss/mlm", "flops"),
    ]
    assert titles[0] == "Results against training FLOPs"
    assert titles[3:] == ["time", "Model metrics", "System metrics"]


def test_the_view_is_written_when_it_changes_and_never_over_that_of_a_person():
    before = view(["loss/mlm"], None, 1)
    assert view(["loss/mlm"], before, 2) is None
    after = view(["loss/mlm", "loss/rtd"], before, 2)
    assert (json.loads(after)["createdAt"], json.loads(after)["updatedAt"]) == (1, 2)
    # What "Override saved view" of the UI writes: these four keys and nothing else.
    saved = {key: json.loads(before)[key] for key in ("name", "createdAt", "updatedAt", "state")}
    assert view(["loss/mlm", "loss/rtd"], json.dumps(saved), 2) is None


def test_the_view_of_very_many_curves_fits_into_a_tag():
    names = [
        f"finetuned/task-{n * 7919 % 5003}/accuracy_of_{n * 104729 % 9973}" for n in range(500)
    ]
    tag = view(names, None, 1)
    assert len(tag) <= TAG_CHARACTERS
    assert len(charts(tag)[0]) >= 8


def experiment_of(uri):
    return MlflowClient(uri).get_experiment_by_name("pretraining")


def test_descriptions_say_model_data_cost_and_show_the_curve(
    tmp_path, store, start, log_steps, only_run
):
    run_dir = tmp_path / "run"
    params = {"steps": 20, "parameters": 14_000_000, "data": "wikitext"}
    tracker = start(run_dir, store, params=params)
    for step in range(1, 11):
        values = {"speed/step_seconds": 360.0, "speed/processes": 4.0}
        tracker.log(step, step * 1e15, values)
    picture = run_dir / "report" / "mood" / "curve.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"picture")
    tracker.artifact(picture)
    tracker.curve_point(1e16, "mood/accuracy", 0.75, step=10)
    tracker.close("FINISHED")

    _, run = only_run(store)
    picture = f"get-artifact?path=report%2Fmood%2Fcurve.png&run_uuid={run.info.run_id}"
    note, experiment = run.data.tags[NOTE_TAG], experiment_of(store)
    for said in ("(14.0M parameters)", "on wikitext", "10 of 20 updates", "1e+16 training FLOPs"):
        assert said in note
    assert "4 process hours" in note
    assert picture in note
    note, page = experiment.tags[NOTE_TAG], curves_page(experiment.experiment_id)
    assert note.startswith(f"Pretraining runs: [curves over training FLOPs]({page})")
    assert "| wikitext | 10 | 1e+16 | 4 | mood/accuracy 0.75 |" in note
    assert picture in note
    drawn, _ = charts(experiment.tags[VIEW_TAG])
    assert ("Results against training FLOPs", "finetuned/mood/accuracy", "curve_flops") in drawn


def test_a_cost_counts_each_update_once_whenever_it_is_delivered(tmp_path, store, start, only_run):
    run_dir = tmp_path / "run"
    for first in (1, 6):
        tracker = start(run_dir, store)
        for step in range(first, first + 5):
            tracker.log(step, step * 1e15, {"speed/step_seconds": 36.0, "speed/processes": 1.0})
        tracker.close("KILLED")
    tags = only_run(store)[1].data.tags
    assert (tags["updates"], tags["process_hours"]) == ("10", "0.1")
    (run_dir / "mlflow_cursor.json").unlink()
    sync(run_dir)
    assert only_run(store)[1].data.tags["process_hours"] == "0.1"


def test_a_description_that_a_person_changed_stays(tmp_path, store, start, log_steps, only_run):
    run_dir = tmp_path / "run"
    start(run_dir, store).close("KILLED")
    client, run = only_run(store)
    experiment = experiment_of(store).experiment_id
    mine = run.data.tags[NOTE_TAG].replace("process hours", "process hours, as I found")
    client.set_tag(run.info.run_id, NOTE_TAG, mine)
    client.set_experiment_tag(experiment, NOTE_TAG, "Runs of the team")
    tracker = start(run_dir, store)
    log_steps(tracker, [1])
    tracker.close("FINISHED")
    assert only_run(store)[1].data.tags[NOTE_TAG] == mine
    assert experiment_of(store).tags[NOTE_TAG] == "Runs of the team"


def test_which_descriptions_are_ours():
    ours = signed("**tiny** on wikitext")
    assert is_ours(None)
    assert is_ours(ours)
    assert not is_ours(ours + " and more")
    assert not is_ours("")  # somebody emptied it
    assert not is_ours("Runs of the team")


def test_a_description_that_is_refused_holds_up_no_metric(
    tmp_path, store, start, log_steps, history, monkeypatch, caplog
):
    def refuse(*_arguments):
        raise PermissionError("tags of experiments are for administrators")

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refuse)
    with caplog.at_level(logging.WARNING):
        tracker = start(tmp_path / "run", store)
        log_steps(tracker, [1])
        tracker.close("FINISHED")
    assert history(store, "loss") == [(1, 10.0)]
    assert sum("is not up to date: tags of experiments" in said for said in caplog.messages) == 1


def test_the_log_says_where_the_curves_are_when_a_run_begins_and_ends(
    tmp_path, store, start, caplog
):
    run_dir = tmp_path / "run"
    with caplog.at_level(logging.INFO):
        tracker = start(run_dir, store)
        deadline = time.monotonic() + 120
        while len(caplog.messages) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        tracker.close("FINISHED")
    experiment = experiment_of(store).experiment_id
    server = "http://127.0.0.1:5000"
    expected = [
        f"start MLflow: mlflow server --backend-store-uri {store}",
        f"curves in MLflow: {server}/{curves_page(experiment)}",
        f"runs in MLflow: {server}/{runs_page(experiment)}",
    ]
    assert caplog.messages == expected * 2
    assert links_of(run_dir) == expected
    assert links_of(tmp_path) == []


def test_links_show_no_password_and_keep_the_path_of_a_server():
    lines = links("https://me:secret@mlflow.example.org/team/", "7")
    assert lines[1] == f"runs in MLflow: https://mlflow.example.org/team/{runs_page('7')}"
    assert "secret" not in " ".join(lines)
    assert links("sqlite:////my runs/m.db", "7")[0].endswith("-uri 'sqlite:////my runs/m.db'")
    lines = links("postgresql://me:secret@db/mlflow", "7")
    assert lines[0] == "start MLflow: mlflow server --backend-store-uri $MLFLOW_TRACKING_URI"
    assert "secret" not in " ".join(lines)


def test_a_run_that_an_earlier_version_sent_is_sent_again_by_the_names_of_today(
    tmp_path, store, start, log_steps, only_run, history
):
    run_dir = tmp_path / "run"
    tracker = start(run_dir, store)
    log_steps(tracker, [1, 2])
    tracker.close("KILLED")
    client, before = only_run(store)
    client.delete_tag(before.info.run_id, mlflow_names.LAYOUT_TAG)
    assert sync(run_dir) == 6
    _, run = only_run(store)
    assert run.info.run_id != before.info.run_id
    assert TrackedRun.load(run_dir).state.run_id == run.info.run_id
    assert (run.info.status, run.info.start_time) == ("KILLED", before.info.start_time)
    assert history(store, "loss") == [(1, 10.0), (2, 5.0)]
    assert sync(run_dir) == 0


def test_a_parameter_that_is_the_default_again_is_current(tmp_path, store, start, only_run):
    run_dir = tmp_path / "run"
    settings = {"seed": 0, "optimizer.clip": 1.0}
    start(run_dir, store, params={"seed": 0, "optimizer.clip": 0.5}).close("KILLED")
    start(run_dir, store, params={"seed": 0}, settings=settings).close("KILLED")
    assert only_run(store)[1].data.params == {"seed": "0", "optimizer.clip": "1.0"}


def test_a_copy_is_shown_nowhere_before_it_has_a_run_of_its_own(tmp_path, store, start):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "config.yaml").touch()  # by which a run's directory is known
    start(run_dir, store).close("FINISHED")
    copy = shutil.copytree(run_dir, tmp_path / "copy")
    assert links_of(run_dir)
    assert links_of(copy) == []
    sync(copy)
    assert links_of(copy) == links_of(run_dir)  # the same experiment
