"""A fine-tuning that is cut off goes on with the same command, and repeats nothing."""

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.architecture import EncoderConfig
from convbert.models.encoder import Encoder
from convbert.models.errors import DamagedError, UserError
from convbert.models.interop.hf import save_pretrained
from convbert.pretrain.evaluation.finetuning import FinetuneOptions, finetune_directory
from convbert.pretrain.evaluation.finished import FinishedSeeds
from convbert.pretrain.evaluation.results import read_results
from convbert.pretrain.finetune import workers
from convbert.pretrain.finetune.kinds import prepare
from convbert.pretrain.finetune.loop import FinetuneResult
from convbert.pretrain.finetune.submission import write_predictions
from convbert.pretrain.finetune.task import load_task

TASK = """\
name: mood
train: mood.csv
text: [text]
metrics: [accuracy]
split: {dev: 0.3}
recipe: {epochs: EPOCHS, max_length: 16}
"""


@pytest.fixture(scope="module")
def tokenizer(tokenizer_dir):
    return Tokenizer.load(tokenizer_dir)


@pytest.fixture(scope="module")
def encoder(tokenizer):
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "embedding_size": 16, "num_layers": 1, "num_heads": 2}
    shape |= {"intermediate_size": 32, "max_positions": 32}
    return Encoder(EncoderConfig(vocab_size=tokenizer.vocab_size, **shape))


def write_task(folder, epochs=1, rows=80):
    lines = [f"{'good' if i % 2 else 'bad'} word {i},{i % 2}\n" for i in range(rows)]
    (folder / "mood.csv").write_text("text,label\n" + "".join(lines))
    (folder / "mood.yaml").write_text(TASK.replace("EPOCHS", str(epochs)))
    return load_task(str(folder / "mood.yaml"))


def result(seed, accuracy=0.5):
    scores = {"dev": {"accuracy": accuracy}}
    return FinetuneResult(
        task="mood", metric="accuracy", seed=seed, scores=scores, train_loss=0.1, seconds=1.0
    )


def test_a_result_counts_only_for_what_it_was_measured_with(tmp_path, tokenizer, encoder):
    data = prepare(write_task(tmp_path), tokenizer)
    starts = {"step 4": encoder, "random": encoder.config}
    first = FinishedSeeds(tmp_path / "out", data, starts, keep=False)
    first.add("step 4", result(0))
    first.add("random", result(2))
    again = FinishedSeeds(
        tmp_path / "out", prepare(write_task(tmp_path), tokenizer), starts, keep=False
    )
    assert again.known(range(3)) == {"step 4": [result(0)], "random": [result(2)]}
    assert again.known([1]) == {"step 4": [], "random": []}

    def known(data, starts, keep=False):
        return FinishedSeeds(tmp_path / "out", data, starts, keep=keep).known(range(3))

    torch.manual_seed(1)
    trained_on = {"step 4": Encoder(encoder.config), "random": encoder.config}
    assert known(data, trained_on) == {"step 4": [], "random": [result(2)]}
    assert not any(known(data, starts, keep=True).values())  # there are no predictions
    for other in ({"epochs": 2}, {"rows": 81}):
        changed = prepare(write_task(tmp_path, **other), tokenizer)
        assert not any(known(changed, starts).values())
    for path in (tmp_path / "out" / "seeds").iterdir():
        path.write_text("{")
    with pytest.raises(DamagedError, match=r"seed-0-.*\.json: not a result .* delete it"):
        known(data, starts)


def test_a_task_that_does_not_fit_is_refused_before_another_one_is_done(
    tmp_path, tokenizer_dir, encoder
):
    task = write_task(tmp_path)
    recipe = task.recipe.model_copy(update={"max_length": 33})
    tasks = [task, task.model_copy(update={"name": "longer", "recipe": recipe})]
    save_pretrained(encoder, tmp_path / "model")
    options = FinetuneOptions(seeds=1, workers=1)
    with pytest.raises(UserError, match=r"task longer: recipe\.max_length=33 exceeds .* 32"):
        finetune_directory(tmp_path / "model", tokenizer_dir, tasks, options, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_predictions_of_some_splits_alone_do_not_count(tmp_path, tokenizer, encoder, monkeypatch):
    data = prepare(write_task(tmp_path), tokenizer)
    finished = FinishedSeeds(tmp_path / "out", data, {"step 4": encoder}, keep=True)
    finished.add("step 4", result(0))  # measured without predictions before
    guesses = {"dev": [0] * len(data.examples["dev"]), "extra": []}

    def write(data, split, predictions, folder):
        if split == "extra":
            raise OSError("no space left")
        return write_predictions(data, split, predictions, folder)

    monkeypatch.setattr("convbert.pretrain.evaluation.finished.write_predictions", write)
    with pytest.raises(OSError, match="no space left"):
        finished.add("step 4", result(0).model_copy(update={"predictions": guesses}))
    assert finished.known([0]) == {"step 4": []}
    finished.add("step 4", result(0).model_copy(update={"predictions": {"dev": guesses["dev"]}}))
    assert finished.known([0]) == {"step 4": [result(0)]}


def test_who_end_together_publish_one_after_the_other(tmp_path, tokenizer, encoder, monkeypatch):
    """Processes that evaluate a checkpoint each share the model from random weights."""
    data = prepare(write_task(tmp_path), tokenizer)
    finished = FinishedSeeds(tmp_path / "out", data, {"random": encoder.config}, keep=True)
    found = result(0).model_copy(update={"predictions": {"dev": [0] * len(data.examples["dev"])}})
    finished.add("random", found)
    copy = shutil.copytree

    def slowly(*places, **options):
        copy(*places, **options)
        time.sleep(0.2)

    monkeypatch.setattr(shutil, "copytree", slowly)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(finished.publish_predictions, ["random"] * 2, [[found]] * 2))
    assert [path.name for path in (tmp_path / "out/predictions").iterdir()] == ["random"]
    assert (tmp_path / "out/predictions/random/dev.tsv").is_file()


def test_seeds_that_ended_before_an_interruption_count(tmp_path, tokenizer_dir, encoder, caplog):
    task = write_task(tmp_path)
    save_pretrained(encoder, tmp_path / "model")

    def measure(output, show=lambda label, found: None):
        options = FinetuneOptions(seeds=3, predict=True, workers=1, on_result=show)
        return finetune_directory(
            tmp_path / "model", tokenizer_dir, [task], options, tmp_path / output
        )

    def interrupt(label, found):
        if found.seed == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure("cut", interrupt)
    kept = {
        p.name.split("-")[2]: p.read_text() for p in (tmp_path / "cut/mood/seeds").glob("*.json")
    }
    assert kept.keys() == {"0", "1"}
    heard = []
    (results,) = measure("cut", lambda label, found: heard.append(found))
    assert "2 of 3 seeds were measured before, and count" in caplog.text
    assert [found.seed for found in heard] == [0, 1, 2]
    for found in heard[:2]:
        assert FinetuneResult.model_validate_json(kept[str(found.seed)]) == found
    (whole,) = measure("whole")
    assert results.starts[0].spreads == whole.starts[0].spreads
    read = read_results(tmp_path / "cut" / "mood" / "results.json")
    assert [r.seed for r in read.starts[0].results] == [0, 1, 2]
    files = [
        tmp_path / name / "mood" / "predictions" / "model" / "dev.tsv" for name in ("cut", "whole")
    ]
    assert files[0].read_text() == files[1].read_text()


def killed(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_is_named_with_the_remedy(
    tmp_path, tokenizer, encoder, monkeypatch
):
    data = prepare(write_task(tmp_path), tokenizer)
    monkeypatch.setattr(workers, "_work", killed)
    with pytest.raises(UserError, match=r"mood: one of 1 processes was killed, .* lower --workers"):
        workers.finetune_all({"a": encoder.config}, data, seeds=[0], workers=1)


@pytest.mark.slow
def test_a_kill_leaves_no_process_and_no_work_to_repeat(tmp_path, tokenizer_dir, encoder):
    write_task(tmp_path, epochs=20)
    save_pretrained(encoder, tmp_path / "model")
    command = [sys.executable, "-m", "convbert.pretrain.cli", "finetune", tmp_path / "model"]
    command += ["--tokenizer", tokenizer_dir, "--task", tmp_path / "mood.yaml", "--workers", "1"]
    command += ["--seeds", "8", "--output", tmp_path / "out"]
    seeds = tmp_path / "out" / "mood" / "seeds"
    process = subprocess.Popen(list(map(str, command)))
    while not list(seeds.glob("*.json")):
        assert process.poll() is None
        time.sleep(0.05)
    children = [child.pid for child in psutil.Process(process.pid).children()]
    assert children
    process.kill()
    process.wait()
    kept = {path: path.read_bytes() for path in seeds.glob("*.json")}
    assert len(kept) < 8
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    assert f"{len(kept)} of 8 seeds were measured before" in done.stderr
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert len(list(seeds.glob("*.json"))) == 8
