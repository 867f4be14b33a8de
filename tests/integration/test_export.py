"""An exported run is what transformers loads: same hidden states, same ids."""

import re
import shutil
from pathlib import Path

import mlflow
import pytest
import torch
from mlflow import MlflowClient
from synthetic_tasks import synthetic_task, write_synthetic
from transformers import AutoModel, AutoTokenizer

from convbert.data_pipeline.shards.manifest import Manifest
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.models.pretraining import kept_encoder
from convbert.pretrain.cli import exchange
from convbert.pretrain.cli.evaluation import finetune
from convbert.pretrain.evaluation.results import read_results
from convbert.pretrain.exchange.export import export_checkpoint
from convbert.pretrain.exchange.registering import register_export
from convbert.pretrain.exchange.trained_model import load_model
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.environment import git_commit
from convbert.pretrain.run.timeline import Timeline
from convbert.pretrain.tracking.records import CurvePoint, encode
from convbert.pretrain.tracking.tracked_run import TrackedRun

pytestmark = pytest.mark.integration

SETTINGS = ("steps=3", "checkpoint.every=1", "checkpoint.keep_last=3")


@pytest.fixture(scope="module")
def run(zygote, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    folder = tmp_path_factory.mktemp("runs")
    uri = f"tracking.uri=sqlite:///{folder / 'mlflow.db'}"
    settings = [*SETTINGS, uri, "tracking.system_seconds=30"]
    zygote.finish(folder / "trained", *settings, processes=1)
    return RunDirectory(folder / "trained")


@pytest.fixture(scope="module")
def exported(run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "model"
    assert export_checkpoint(run, folder) == 3
    return folder


def test_hidden_states_are_ours(run: RunDirectory, exported: Path, documents: list[str]) -> None:
    theirs = AutoModel.from_pretrained(exported, local_files_only=True).eval()
    ours = kept_encoder(load_model(run)[0]).eval()
    tokenizer = AutoTokenizer.from_pretrained(exported, local_files_only=True)
    for text in documents[:8]:
        batch = tokenizer(text, return_tensors="pt", truncation=True)
        with torch.no_grad():
            expected = theirs(**batch).last_hidden_state
            found = ours(batch["input_ids"], token_type_ids=batch["token_type_ids"])
        assert (expected - found).abs().max() < 1e-5


def test_disentangled_tables_are_exported_as_their_sums(
    zygote, tmp_path: Path, documents: list[str], tokenizer_dir: Path
) -> None:
    shape = "num_layers: 1, hidden_size: 32, embedding_size: 32, num_heads: 4"
    overrides = f"model.overrides={{{shape}, tie_embeddings: gdes}}"
    rate = "optimizer.learning_rate=0.01"
    zygote.finish(tmp_path / "run", overrides, rate, "deepspeed=zero3")
    run = RunDirectory(tmp_path / "run")
    export_checkpoint(run, tmp_path / "model")
    trained = load_model(run)[0].eval()
    assert trained.discriminator.embeddings.word.weight.abs().max() > 0.01
    theirs = AutoModel.from_pretrained(tmp_path / "model", local_files_only=True).eval()
    tokenizer = Tokenizer.load(tokenizer_dir)
    for text in documents[:8]:
        ids = torch.tensor([tokenizer.encode_batch([text])[0][:60]])
        with torch.no_grad():
            found, expected = trained.discriminator(ids), theirs(ids).last_hidden_state
        assert (found - expected).abs().max() < 1e-6


def test_ids_of_a_thousand_sentences(
    exported: Path, tokenizer_dir: Path, documents: list[str]
) -> None:
    sentences = [s for text in documents for s in re.split(r"(?<=[.!?])\s+", text) if s][:1000]
    assert len(sentences) == 1000
    ours = Tokenizer.load(tokenizer_dir)
    theirs = AutoTokenizer.from_pretrained(exported, local_files_only=True)
    assert theirs(sentences, add_special_tokens=False)["input_ids"] == ours.encode_batch(sentences)
    framed = theirs("one", "two")
    ids = [ours.cls_id, *ours.encode_batch(["one"])[0], ours.sep_id]
    assert framed["input_ids"] == [*ids, *ours.encode_batch(["two"])[0], ours.sep_id]
    assert framed["token_type_ids"] == [0] * len(ids) + [1] * (len(framed["input_ids"]) - len(ids))
    assert theirs.pad_token_id == ours.pad_id == 0


def test_the_card_holds_facts_of_the_run_and_code_that_runs(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = run.path / "metrics.jsonl"
    before = log.read_bytes()
    flops = Timeline.load(run.open()).flops(3)
    points = [
        CurvePoint("held_out/loss/mlm", 1.0, flops, 5.25, {"step": 3}),
        CurvePoint("held_out/loss/mlm", 2.0, flops, 5.5, {"step": 3}),  # measured again
        CurvePoint("held_out/loss/mlm", 1.0, flops / 3, 9.0, {"step": 1}),
        CurvePoint("pairs/swap", 1.0, flops, 0.75,
                   {"step": 3, "standard_error": 0.01, "pairs": 1200}),
        CurvePoint("trec/accuracy", 1.0, flops, 0.5,
                   {"step": 3, "low": 0.4, "high": 0.6, "scores": [0.4, 0.5, 0.6]}),
        CurvePoint("trec/accuracy", 3.0, flops, 0.1, {"step": 3}, "trec-seed-1"),  # of a seed
        CurvePoint("trec_average_2/accuracy", 1.0, flops, 0.9, {"step": 3}),
        CurvePoint("trec_average_20/accuracy", 1.0, flops, 0.2, {"step": 3}),
    ]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    try:
        with open(log, "ab") as file:
            file.writelines(encode(point) for point in points)
        export_checkpoint(run, Path("model"), license_code="mit", languages=["en"])
        single = (tmp_path / "model" / "README.md").read_text()
        export_checkpoint(run, Path("mean"), average=2)
        mean = (tmp_path / "mean" / "README.md").read_text()
    finally:
        log.write_bytes(before)
    for line in (
        "license: \"mit\"", '- "en"', f"papers count | {flops:.3e} |", "| data | `shards`, ",
        "| held_out/loss/mlm | 5.5000 |  |", "| pairs/swap | 0.7500 | ± 0.0100, 1,200 pairs |",
        "| trec/accuracy | 0.5000 | median of 3 seeds, 0.4000 to 0.6000 |", "| step | 3 |",
    ):  # fmt: skip
        assert line in single
    assert "average_2" not in single
    assert re.findall(r"^\| (\S+) \| \d\.\d{4} ", mean, re.M) == ["trec_average_2/accuracy"]
    code = re.findall(r"```python\n(.*?)```", single, re.S)
    assert len(code) == 2  # the generator of this model is one that transformers cannot hold
    for block in code:
        exec(block, {})


def test_an_export_takes_the_place_of_an_earlier_one_but_not_of_another_model(
    run: RunDirectory, exported: Path, tmp_path: Path
) -> None:
    place = tmp_path / "model"
    shutil.copytree(exported, place)
    (place / "model.safetensors").write_text("of an earlier checkpoint")
    (place / "finetune").mkdir()
    assert export_checkpoint(run, place) == 3
    names = {path.name for path in exported.iterdir()}
    assert {path.name for path in place.iterdir()} == names | {"finetune"}
    weights = "model.safetensors"
    assert (place / weights).read_bytes() == (exported / weights).read_bytes()
    (place / "vocab.txt").touch()  # its tokenizer is a sentencepiece model
    (place / weights).unlink()
    with pytest.raises(UserError, match=r"vocab\.txt: belongs to another model.*remove it"):
        export_checkpoint(run, place)
    assert {path.name for path in place.iterdir()} == names - {weights} | {"finetune", "vocab.txt"}


def test_an_export_is_a_version_of_a_registered_model(
    run: RunDirectory, exported: Path, tmp_path: Path
) -> None:
    assert register_export(run, exported, 3, "toy-encoder") == "1"
    assert register_export(run, exported, 3, "toy-encoder") == "1"  # the same files
    other = tmp_path / "other"
    shutil.copytree(exported, other)
    (other / "README.md").write_text("changed")
    assert register_export(run, other, 3, "toy-encoder") == "2"

    state = TrackedRun.load(run.path).state
    client = MlflowClient(state.tracking_uri)
    version = client.get_model_version("toy-encoder", "1")
    assert version.run_id == state.run_id
    assert version.tags["step"] == "3"
    assert version.tags["manifest"] == state.tags["manifest"]
    assert version.tags["tokenizer"] == state.tags["tokenizer"]
    assert float(version.tags["flops"]) > 0
    uri = client.get_model_version_download_uri("toy-encoder", "1")
    got = mlflow.artifacts.download_artifacts(
        uri, dst_path=str(tmp_path / "got"), tracking_uri=state.tracking_uri
    )
    ours, theirs = (
        AutoModel.from_pretrained(folder, local_files_only=True).state_dict()
        for folder in (exported, got)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_says_in_mlflow_what_it_is_made_of(run: RunDirectory, shards_dir: Path) -> None:
    state = TrackedRun.load(run.path).state
    client = MlflowClient(state.tracking_uri)
    tracked = client.get_run(state.run_id)
    digest = Manifest.load(shards_dir).digest
    (shards,) = tracked.inputs.dataset_inputs
    assert (shards.dataset.name, shards.dataset.digest) == ("shards", digest[:36])
    tags = tracked.data.tags
    assert (tags["recipe"], tags["model"], tags["manifest"]) == ("tiny", "tiny", digest)
    assert tags["hardware"].startswith("1 x ")
    assert {"code", "tokenizer", "world_size"} <= set(tags)
    assert tags["mlflow.source.name"] == "convbert pretrain tiny"
    assert tags.get("mlflow.source.git.commit") == git_commit()
    assert tracked.info.run_name.startswith("trained (tiny, 3 x ")
    files = {entry.path for entry in client.list_artifacts(tracked.info.run_id)}
    assert {"config.yaml", "environment.json", "execution.json"} <= files
    assert "M parameters), on shards, 1 x " in tags["mlflow.note.content"]
    params = tracked.data.params
    assert (params["steps"], params["model.preset"], params["data"]) == ("3", "tiny", "shards")
    assert int(params["parameters"]) > 1000
    assert params["model.overrides.hidden_size"] == "32"  # not the default
    assert len(params) < 25
    assert not [key for key in params if key.startswith(("tracking", "checkpoint"))]
    metrics = tracked.data.metrics
    assert metrics["hardware_flops"] > 0
    assert metrics["flops"] > 0
    assert not {"flops/electra", "flops/hardware"} & set(metrics)
    assert metrics["system/disk_available_megabytes"] > 0  # looked at when it ended


def test_a_run_without_mlflow_cannot_register(
    run: RunDirectory, exported: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="with MLflow tracking"):
        register_export(RunDirectory(tmp_path), exported, 3, "toy-encoder")
    shutil.copy(run.path / "mlflow.json", tmp_path)
    TrackedRun.load(tmp_path).update(run_id=None)
    with pytest.raises(UserError, match=r"not in MLflow yet; `convbert track sync"):
        register_export(RunDirectory(tmp_path), exported, 3, "toy-encoder")


@pytest.mark.slow
def test_fine_tuning_an_export_is_fine_tuning_its_checkpoint(
    run: RunDirectory, exported: Path, tmp_path: Path
) -> None:
    """Weights, tokenizer and padding come through the directory without any change."""
    write_synthetic(tmp_path)
    settings = ["train_rows=64", "recipe.epochs=1", "recipe.max_length=48"]
    task, output = [synthetic_task("cola", tmp_path)], tmp_path / "results"
    options = {"settings": settings, "seeds": 1, "predict": True}
    bare = tmp_path / exported.name
    shutil.copytree(exported, bare, ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(UserError, match="tokenizer"):
        finetune(bare, task, output=output, **options)
    finetune(exported, task, output=output, **options)
    finetune(run.path, task, step=[3], **options)
    folder = output / "synthetic_cola"
    (start,) = read_results(folder / "results.json").starts
    expected = read_results(run.report / "synthetic_cola" / "results.json").starts[1]
    assert start.start == exported.name
    assert start.results[0].scores == expected.results[0].scores
    assert start.results[0].train_loss == expected.results[0].train_loss
    name = "predictions/model/SyntheticCoLA.tsv"
    assert (folder / name).read_text().startswith("index\tprediction\n0\t")


@pytest.mark.slow
def test_a_mean_of_checkpoints_is_exported_and_finetuned(run: RunDirectory, tmp_path: Path) -> None:
    encoders = [kept_encoder(load_model(run, step)[0]).state_dict() for step in (1, 2, 3)]
    name = "embeddings.word.weight"
    mean = sum(weights[name].double() for weights in encoders) / 3
    assert (mean - encoders[2][name]).abs().max() > 1e-5
    exchange.export(run.path, tmp_path / "model", None, "last:3")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| averaged checkpoints | 3 |" in card
    theirs = AutoModel.from_pretrained(tmp_path / "model", local_files_only=True)
    found = theirs.get_input_embeddings().weight
    assert torch.equal(found, mean.float())

    write_synthetic(tmp_path)
    settings = ["train_rows=32", "recipe.epochs=1", "recipe.max_length=32"]
    task = [synthetic_task("cola", tmp_path)]
    losses = {}
    for average, name in ((None, "synthetic_cola"), ("last:3", "synthetic_cola_average_3")):
        finetune(run.path, task, settings=settings, seeds=1, step=[3], average=average)
        starts = read_results(run.report / name / "results.json").starts
        losses[name] = [start.results[0].train_loss for start in starts]
    random_weights, averaged = zip(*losses.values(), strict=True)
    assert random_weights[0] == random_weights[1]
    assert averaged[0] != averaged[1]
