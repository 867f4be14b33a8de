"""Who may write to a run directory: one training process, for which deliveries make way."""

import logging
import os
import subprocess
import sys
import threading
from collections import Counter

import pytest

from convbert.models.errors import TransientError, UserError
from convbert.pretrain.run import claim as claims
from convbert.pretrain.run.claim import (
    HeldError,
    claim_for_delivery,
    claim_for_training,
    claimed_by_training,
)
from convbert.pretrain.tracking.mlflow_delivery import Delivery
from convbert.pretrain.tracking.stopped_run import sync

DEAD = "http://127.0.0.1:9"  # the discard port: connections are refused


def test_a_training_waits_for_a_delivery_and_says_so_once(tmp_path, start, caplog):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    delivery = claim_for_delivery(run_dir)
    threading.Timer(1.0, delivery.release).start()
    with caplog.at_level(logging.WARNING):
        start(run_dir, "off", resume_step=0).close("FINISHED")
    (said,) = caplog.messages
    assert "waiting for delivery to MLflow, process " in said


def test_a_training_that_waited_too_long_may_try_again(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "PATIENCE", 0.2)
    delivery = claim_for_delivery(tmp_path)
    with pytest.raises(TransientError, match=r"tracked by a running process \(delivery to MLflow"):
        claim_for_training(tmp_path)
    assert not claimed_by_training(tmp_path)  # the one that failed holds nothing
    delivery.release()
    claim_for_training(tmp_path).release()


def test_a_run_is_claimed_before_its_tracker_is_opened(tmp_path, start):
    run_dir = tmp_path / "runs" / "run"
    claim = claim_for_training(run_dir)
    for refused in (claim_for_training, claim_for_delivery):
        with pytest.raises(HeldError, match=r"tracked by a running process \(training, process"):
            refused(run_dir)
    tracker = start(run_dir, "off", claim=claim)
    with pytest.raises(HeldError):
        claim_for_training(run_dir)
    tracker.close("FINISHED")
    claim_for_delivery(run_dir).release()


def test_a_claim_passes_to_the_process_it_is_handed_on_to_without_a_gap(tmp_path):
    claim = claim_for_training(tmp_path / "run")
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from convbert.pretrain.run.claim import claim_for_training\n"
        "claim = claim_for_training(Path(sys.argv[1]))\n"
        "print('mine', flush=True)\n"
        "sys.stdin.read(1)\n"
        "claim.release()\n"
        "print('released', flush=True)\n"
        "sys.stdin.read()"
    )
    heir = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "run")],
        env={**os.environ, **claim.hand_on()}, pass_fds=claim.descriptors,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    claim.leave()
    assert heir.stdout.readline() == "mine\n"
    with pytest.raises(HeldError, match=f"training, process {heir.pid}"):
        claim_for_training(tmp_path / "run")
    heir.stdin.write(".")
    heir.stdin.flush()
    assert heir.stdout.readline() == "released\n"
    claim_for_training(tmp_path / "run").release()
    heir.stdin.close()
    assert heir.wait() == 0


def test_who_looks_whether_a_run_is_trained_leaves_no_file(tmp_path):
    assert not claimed_by_training(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_tracker_that_cannot_be_opened_gives_the_run_free(tmp_path, start):
    claim = claim_for_training(tmp_path)
    with pytest.raises(UserError, match="plain folders"):
        start(tmp_path, "./mlruns", claim=claim)
    claim_for_training(tmp_path).release()


def test_a_training_starts_while_a_checkpoint_is_measured(tmp_path, store, start, add, history):
    run_dir = tmp_path / "run"
    start(run_dir, store).close("KILLED")
    evaluation = add(run_dir, store)
    evaluation.curve_point(4e9, "sst2/accuracy", 0.7)
    training = start(run_dir, store, resume_step=0)
    evaluation.close("FINISHED")
    training.close("FINISHED")
    assert history(store, "finetuned/sst2/accuracy") == [(4, 0.7)]


def test_a_delivery_makes_way_for_a_training_which_delivers_the_rest(
    tmp_path, store, start, log_steps, history, monkeypatch
):
    run_dir = tmp_path / "run"
    tracker = start(run_dir, DEAD)
    log_steps(tracker, range(1, 201))
    tracker.close("KILLED")
    monkeypatch.setattr("convbert.pretrain.tracking.mlflow_delivery.READ_BYTES", 2000)
    batches, claimed = Delivery.batches, []
    training = threading.Thread(target=lambda: claimed.append(claim_for_training(run_dir)))

    def meet_a_training(delivery):
        for sent in batches(delivery):
            if not training.ident:
                training.start()
                while not claimed_by_training(run_dir):
                    pass
            yield sent

    with monkeypatch.context() as patch:
        patch.setattr(Delivery, "batches", meet_a_training)
        with pytest.raises(HeldError, match="training starts"):
            sync(run_dir, store)
    training.join()
    assert 0 < len(history(store, "loss")) < 200
    start(run_dir, store, claim=claimed[0]).close("FINISHED")
    assert Counter(step for step, _ in history(store, "loss")) == Counter(range(1, 201))
