"""What a run is worth, measured with the real commands: held-out text, probes, fine-tuning."""

import json
import shutil
from pathlib import Path

import pytest
from synthetic_tasks import synthetic_task, write_synthetic

from convbert.data_pipeline.packing.build import RowSettings, build_shards
from convbert.models.errors import UserError
from convbert.pretrain.cli.evaluation import evaluate, finetune, probe
from convbert.pretrain.cli.pages import report
from convbert.pretrain.cli.pairs import pairs
from convbert.pretrain.evaluation import finetuning
from convbert.pretrain.run.preparation import prepare

pytestmark = pytest.mark.integration

STEPS = (2, 4)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory, documents, tokenizer_dir) -> Path:
    folder = tmp_path_factory.mktemp("held-out")
    text = folder / "text.jsonl"
    text.write_text("".join(json.dumps({"text": t}) + "\n" for t in documents[-6:]))
    build_shards([text], tokenizer_dir, folder / "shards", rows=RowSettings(64))
    return folder / "shards"


@pytest.fixture(scope="module")
def run(zygote, tmp_path_factory, held_out) -> Path:
    """Two processes with ZeRO-3 and three batches of held-out text, so one of them has a spare."""
    path = tmp_path_factory.mktemp("runs") / "measured"
    settings = ["steps=4", "checkpoint.every=2", "checkpoint.keep_every=2"]
    settings += ["deepspeed=zero3", "evaluation.sequences=24", "evaluation.batch=8"]
    pairs = f"{{inputs: [{held_out.parent / 'text.jsonl'}], count: 40}}"
    settings += [f"evaluation.held_out={held_out}", f"evaluation.pairs={pairs}"]
    zygote.finish(path, *settings)
    return path


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    write_synthetic(folder)
    return folder


def points(run: Path, prefix: str) -> list[dict]:
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    ours = (r for r in records if r.get("curve", "").startswith(prefix))
    return [r for r in ours if "within" not in r]


def seeds(run: Path, task: str) -> list[str]:
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [r["name"] for r in records if r.get("nested", "").startswith(f"{task}-")]


def test_every_checkpoint_is_measured_in_training_as_it_is_afterwards(run, capsys):
    during = points(run, "held_out/")
    assert {p["extra"]["step"] for p in during} == set(STEPS)
    names = {p["curve"] for p in during}
    assert {"held_out/loss/mlm", "held_out/loss/rtd", "held_out/generator/accuracy"} <= names
    evaluate(run)
    after = points(run, "held_out/")[len(during) :]
    assert {p["extra"]["step"] for p in after} == {0, *STEPS}

    def values(entries):
        return {(p["curve"], p["extra"]["step"], p["flops"]): p["value"] for p in entries}

    trained = {k: v for k, v in values(after).items() if k[1]}
    assert values(during) == pytest.approx(trained, rel=1e-4, abs=1e-6)
    again = len(points(run, "held_out/"))
    evaluate(run, step=[4])
    assert (
        values(points(run, "held_out/")[again:])[
            ("held_out/loss/mlm", 4, max(k[2] for k in trained))
        ]
        == trained[("held_out/loss/mlm", 4, max(k[2] for k in trained))]
    )
    assert "24 held-out sequences" in capsys.readouterr().out


def test_pairs_of_every_checkpoint_are_those_measured_afterwards(run, held_out):
    during = points(run, "pairs/")
    assert {p["extra"]["step"] for p in during} == set(STEPS)
    assert {p["curve"] for p in during} == {"pairs/swap"}
    pairs(run, [str(held_out.parent / "text.jsonl")], count=40)
    after = [p for p in points(run, "pairs/")[len(during) :] if p["extra"]["step"]]
    for found, again in zip(during, after, strict=True):
        assert found["extra"]["pairs"] == again["extra"]["pairs"] == 40
        assert found["flops"] == again["flops"]
        # A rounding error may tip one pair of barely trained networks.
        assert found["value"] == pytest.approx(again["value"], abs=1.01 / 40)


def test_pairs_without_text_are_refused_before_anything_is_written(runner, tmp_path):
    missing = tmp_path / "no.jsonl"
    wanted = f"evaluation.pairs={{inputs: [{missing}]}}"
    with pytest.raises(UserError, match=r"no\.jsonl"):
        prepare("tiny", [*runner.settings, wanted], tmp_path / "run", 1)
    assert not (tmp_path / "run").exists()


def test_without_held_out_text_evaluate_asks_for_it(run, tmp_path):
    config = (run / "config.yaml").read_text()
    other = tmp_path / "other"
    other.mkdir()
    lines = [line for line in config.splitlines() if "held_out" not in line]
    (other / "config.yaml").write_text("\n".join(lines) + "\n")
    (other / "checkpoints").symlink_to(run / "checkpoints")
    with pytest.raises(UserError, match="give --held-out MANIFEST"):
        evaluate(other)


def test_text_that_was_trained_on_is_measured_and_said(run, shards_dir, tmp_path, caplog):
    other = shutil.copytree(run, tmp_path / "other")
    said = f"{other} was trained on these shards"
    evaluate(other, step=[4])
    assert said not in caplog.text
    evaluate(other, held_out=str(shards_dir), step=[4])
    assert said in caplog.text


def test_a_probe_gives_a_point_for_each_checkpoint(run, labelled, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    probe(run, [synthetic_task("nli", labelled)], settings=["train_rows=300"])
    found = points(run, "probe/synthetic_nli/accuracy")
    assert [p["extra"]["step"] for p in found] == [0, *STEPS]
    assert [p["flops"] for p in found] == sorted({p["flops"] for p in found})
    # Words alone tell the three kinds of synthetic hypotheses apart.
    assert all(p["value"] > 0.6 for p in found)
    assert len(points(run, "probe/synthetic_nli_dev_mismatched/accuracy")) == 3
    folder = run / "report" / "synthetic_nli"
    (draw,) = json.loads((folder / "lexical.json").read_text())["draws"]
    value = draw["scores"]["dev"]["accuracy"]
    assert [p["extra"]["lexical"] for p in found] == [value] * 3
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "TF-IDF + logistic" in line]
    assert f"{value:.4f}" in row
    kept = json.loads((folder / "probe.json").read_text())
    assert [p["step"] for p in kept["points"]] == [0, *STEPS]
    with pytest.raises(UserError, match="synthetic_tags: a probe reads one vector"):
        probe(run, [synthetic_task("tags", labelled)])


def check_lexical(folder, results, curve):
    """The words' baseline stands in every file, and questions have none."""
    if results["task"] == "synthetic_qa":
        assert results["lexical"] is curve["lexical"] is None
        return
    assert curve["lexical"]["name"] == results["lexical"]["name"] == "TF-IDF + logistic regression"
    spread = results["lexical"]["spreads"]["dev"][results["metric"]]
    assert curve["lexical"]["spread"] == spread
    (draw,) = json.loads((folder / "lexical.json").read_text())["draws"]
    assert draw["scores"]["dev"][results["metric"]] == spread["median"]
    assert draw["rows"] == results["rows"]


def test_several_tasks_are_finetuned_with_results_curves_and_predictions(
    run, labelled, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "120")
    settings = ["train_rows=64", "recipe.epochs=1", "recipe.max_length=64"]
    tasks = [synthetic_task(name, labelled) for name in ("cola", "qa")]
    finetune(run, tasks, settings=settings, seeds=2, predict=True, step=[4])
    for name, metric in (("synthetic_cola", "matthews"), ("synthetic_qa", "best_f1")):
        folder = run / "report" / name
        results = json.loads((folder / "results.json").read_text())
        assert [s["step"] for s in results["starts"]] == [0, 4]
        assert [r["seed"] for r in results["starts"][1]["results"]] == [0, 1]
        spread = results["starts"][1]["spreads"]["dev"][metric]
        assert spread["low"] <= spread["median"] <= spread["high"]
        curve = json.loads((folder / "curve.json").read_text())
        assert curve["points"][0]["spread"] == spread
        check_lexical(folder, results, curve)
        assert (folder / "curve.png").stat().st_size > 10_000
        assert "measure-0" in (folder / "curve.html").read_text()
        assert [p["extra"]["step"] for p in points(run, f"{name}/{metric}")] == [0, 4]
        assert seeds(run, name) == [f"{name}, seed {seed}" for seed in range(2)]
    predictions = run / "report" / "synthetic_cola" / "predictions" / "step-4"
    assert len((predictions / "SyntheticCoLA.tsv").read_text().splitlines()) == 201
    assert len(points(run, "synthetic_cola/accuracy")) == 2
    printed = capsys.readouterr().out
    assert "synthetic_qa: best_f1, 2 seeds" in printed
    assert printed.count("TF-IDF + logistic regression") == 1, "a row of the first table"


def test_a_measure_that_dev_leaves_undefined_stops_nothing_that_follows(
    run, tmp_path, capsys, caplog
):
    """Spearman of equal labels: written as undefined everywhere, while the next task goes on."""
    (tmp_path / "train.csv").write_text("text,label\n" + "red apple,1\ngreen pear,2\n" * 4)
    (tmp_path / "dev.csv").write_text("text,label\nred pear,3\ngreen apple,3\n")
    for name, kind in (("flat", "regression"), ("even", "classification")):
        metrics = "[spearman, pearson]" if name == "flat" else "[f1_macro]"
        dev = "dev" if name == "flat" else "train"
        (tmp_path / f"{name}.yaml").write_text(
            f"name: {name}\nkind: {kind}\ntrain: train.csv\ndev: {dev}.csv\ntext: [text]\n"
            f"metrics: {metrics}\nrecipe: {{epochs: 1, max_length: 16}}\n"
        )
    tasks = [str(tmp_path / f"{name}.yaml") for name in ("flat", "even")]
    finetune(run, tasks, seeds=2, step=[4], workers=1, predict=True)
    reason = "spearman, pearson undefined: every row has the label 3.0"
    assert f"task flat, dev: {reason}" in caplog.messages
    shown = capsys.readouterr()
    assert "undefined" in shown.out
    assert "nan" not in shown.out + shown.err
    results = json.loads((run / "report" / "flat" / "results.json").read_text())
    assert results["starts"][0]["spreads"]["dev"]["spearman"]["median"] == "NaN"
    assert results["remarks"] == [f"task flat, dev: {reason}"]
    assert json.loads((run / "report" / "even" / "curve.json").read_text())["points"]
    probe(run, tasks)
    kept = json.loads((run / "report" / "flat" / "probe.json").read_text(), parse_constant=int)
    assert kept["points"][0]["values"] == {
        "probe/flat/spearman": "NaN",
        "probe/flat/pearson": "NaN",
    }
    page = tmp_path / "page.html"
    report([run], page)
    assert (
        "undefined on the rows that were measured: flat/pearson, flat/spearman" in page.read_text()
    )


def test_a_list_of_training_rows_gives_a_curve_over_labels(run, labelled, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    settings = ["train_rows=[16, 48]", "recipe.epochs=1", "recipe.max_length=32", "name=few"]
    finetune(run, [synthetic_task("cola", labelled)], settings=settings, seeds=2, step=[4])
    table = capsys.readouterr().out
    for rows in (16, 48):
        name = f"few_{rows}_rows"
        results = json.loads((run / "report" / name / "results.json").read_text())
        assert [s["step"] for s in results["starts"]] == [0, 4]
        assert results["rows"]["train"] == rows
        value = results["starts"][1]["spreads"]["dev"]["matthews"]["median"]
        found = points(run, f"{name}/matthews")
        assert [p["extra"]["step"] for p in found] == [0, 4]
        assert found[1]["value"] == value
        assert (run / "report" / name / "curve.json").is_file()
        lines = [line for line in table.splitlines() if f" {rows} " in line and "step 4" in line]
        assert len(lines) == 1
        assert f"{value:.4f}" in lines[0]
        words = results["lexical"]["spreads"]["dev"]["matthews"]
        assert len(words["scores"]) == 2, "each seed's rows"
        (line,) = [x for x in table.splitlines() if f" {rows} " in x and "TF-IDF" in x]
        assert all(f"{words[key]:.4f}" in line for key in ("median", "low", "high"))
    probe(run, [synthetic_task("cola", labelled)], settings=settings, step=[4])
    assert [p["extra"]["step"] for p in points(run, "probe/few_48_rows/matthews")] == [0, 4]
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    drawn = [r["inputs"] for r in records if r.get("nested", "").startswith("few_16_rows-")]
    rows = [entry for inputs in drawn for entry in inputs if entry["name"].endswith("train")]
    assert len({entry["digest"] for entry in rows}) == 2  # each seed its own


@pytest.mark.slow
def test_checkpoints_measured_one_after_another_share_a_curve(run, labelled):
    settings = ["name=shared", "train_rows=32", "recipe.epochs=1", "recipe.max_length=64"]
    task = [synthetic_task("cola", labelled)]
    folder = run / "report" / "shared"

    def steps(name):
        return [start["step"] for start in json.loads((folder / name).read_text())["starts"]]

    for step in STEPS:
        finetune(run, task, settings=settings, seeds=1, step=[step])
    assert steps("results.json") == [0, *STEPS]
    assert steps(f"checkpoints/step-{STEPS[0]}.json") == [STEPS[0]]
    points = json.loads((folder / "curve.json").read_text())["points"]
    assert [point["step"] for point in points] == list(STEPS)
    # With another recipe they are not comparable: the curve holds what was measured alike.
    other = [*settings, "recipe.dropout=0.2"]
    finetune(run, task, settings=other, seeds=1, step=[STEPS[1]])
    assert steps("results.json") == [0, STEPS[1]]
    assert steps(f"checkpoints/step-{STEPS[0]}.json") == [STEPS[0]]
    finetune(run, task, settings=settings, seeds=1, average="last:2")  # none before the first
    averaged = json.loads((run / "report" / "shared_average_2" / "curve.json").read_text())
    assert [point["step"] for point in averaged["points"]] == [STEPS[1]]
    assert steps("results.json") == [0, STEPS[1]]


def test_checkpoints_measured_at_the_same_time_share_a_curve(run, labelled, monkeypatch):
    settings = ["name=together", "train_rows=32", "recipe.epochs=1", "recipe.max_length=64"]
    task = [synthetic_task("cola", labelled)]
    write = finetuning.write_results

    def overtaken(*arguments):  # another process measures and publishes before this one publishes
        monkeypatch.setattr(finetuning, "write_results", write)
        own = write(*arguments)
        finetune(run, task, settings=settings, seeds=1, step=[STEPS[1]])
        return own

    monkeypatch.setattr(finetuning, "write_results", overtaken)
    finetune(run, task, settings=settings, seeds=1, step=[STEPS[0]])
    curve = json.loads((run / "report" / "together" / "curve.json").read_text())
    assert [point["step"] for point in curve["points"]] == list(STEPS)
