"""An update that the device does alone is the one that DeepSpeed does, and never asks the host.

On a GPU it is recorded as a CUDA graph; here the same functions run one by one, under a mode that
refuses whatever a recording would refuse.
"""

import logging
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from convbert.data_pipeline.loading.batch import Batch
from convbert.models.presets import preset
from convbert.models.pretraining import build_model
from convbert.pretrain.engine.assembly import build_engine
from convbert.pretrain.engine.device_optimizer import DeviceOptimizer
from convbert.pretrain.engine.engine import Engine
from convbert.pretrain.engine.norms import PartNorms
from convbert.pretrain.engine.process_group import init_distributed
from convbert.pretrain.engine.recording import Recorder, Work
from convbert.pretrain.guards.judge import Judge
from convbert.pretrain.objective.losses import STATISTICS, build_objective
from convbert.pretrain.objective.masking import SpecialIds, mask_batch
from convbert.pretrain.run.division import BatchDivision
from convbert.pretrain.run.schedule import sampling
from convbert.pretrain.settings.deepspeed import (
    load_deepspeed_config,
    resolve_deepspeed_config,
)
from convbert.pretrain.settings.recipes import resolve
from convbert.pretrain.settings.run import RunConfig
from convbert.pretrain.training.device_update import DeviceUpdate, Instructions
from convbert.pretrain.training.totals import normalizers, read_report, sum_over_processes

ROWS, LENGTH, VOCABULARY = 8, 24, 300
SHAPE = {"num_layers": 1, "hidden_size": 32, "embedding_size": 32, "num_heads": 2}
LOSSES = torch.tensor([name.endswith("loss") for name in STATISTICS])
SPECIAL = SpecialIds(pad=0, cls=2, sep=3, mask=4)
ASKING = {
    torch.ops.aten._local_scalar_dense,
    torch.ops.aten.nonzero,
    torch.ops.aten.masked_select,
    torch.ops.aten.equal,
    torch.ops.aten.is_nonzero,
    torch.ops.aten.lift_fresh,  # of a number of the host's: torch.tensor(...)
}


class AloneOnDevice(TorchDispatchMode):
    """Refuses operations for which a GPU and its host wait for each other."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        packet = function.overloadpacket
        masks = [i for i in _indices(packet, args) if i.dtype in (torch.bool, torch.uint8)]
        if packet in ASKING or masks:
            raise AssertionError(f"{function} makes the host wait for the device")
        return function(*args, **(kwargs or {}))


def guarded(work: Work) -> Work:
    """Stand in for the recorder of a GPU: run what it would record, and refuse what it would."""

    def replay() -> None:
        with AloneOnDevice():
            work()

    return replay


def _indices(packet: Any, args: tuple[Any, ...]) -> list[Tensor]:
    indexes = packet in (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_)
    return [i for i in args[1] if i is not None] if indexes else []


@pytest.fixture(scope="module", autouse=True)
def _alone() -> Iterator[None]:
    """A group of this process."""
    init_distributed()
    yield
    dist.destroy_process_group()


def configured(*overrides: str, accumulation: int = 1) -> RunConfig:
    return resolve(
        "tiny",
        [
            f"global_batch={ROWS}",
            f"micro_batch={ROWS // accumulation}",
            "precision=fp32",
            "objective.masking.schedule={final: 0.3}",
            "objective.masking.temperature_schedule={final: 0.5}",
            "steps=20",
            "schedule.warmup_steps=1",
            *overrides,
        ],
    )


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Any:
    monkeypatch.setattr(logging.getLogger("convbert"), "propagate", True)
    return caplog


class Training:
    """Networks that are trained in one of both ways on the same batches."""

    def __init__(
        self,
        config: RunConfig,
        stage: str,
        network: str = "tiny",
        *,
        packed: bool = False,
        **shape: Any,
    ) -> None:
        torch.manual_seed(0)
        self.config = config
        self.packed = packed
        self.division = BatchDivision.of(ROWS, config.micro_batch, 1)
        model = build_model(preset(network, vocab_size=VOCABULARY, **SHAPE, **shape))
        deepspeed = resolve_deepspeed_config(
            load_deepspeed_config(stage),
            precision=config.settled_precision,
            micro_batch=self.division.micro_batch,
            accumulation=self.division.accumulation,
            clip=config.optimizer.clip,
        )
        self.engine: Engine
        self.norms: PartNorms
        self.engine, self.norms = build_engine(
            build_objective(model, config.objective), deepspeed, config.optimizer
        )
        self.judge = Judge(config.guards)
        self.factor = 1.0
        self.losses = LOSSES.to(self.engine.device)
        self.updates: DeviceUpdate | None = None

    def on_device(self, recorder: Recorder | None = guarded) -> "Training":
        """Train by the device alone."""
        self.updates = DeviceUpdate(
            self.engine,
            DeviceOptimizer(self.engine, self.config.optimizer.clip),
            self.config,
            SPECIAL,
            7,
            self.division,
            self.observe,
            recorder,
        )
        return self

    def observe(self, loss: Tensor, statistics: Tensor) -> tuple[Tensor, Tensor]:
        losses = self.losses
        return loss * self.factor, torch.where(losses, statistics * self.factor, statistics)

    def update(self, step: int, rate: float = 1e-2) -> dict[str, float]:
        """Run an update and return what it measured."""
        drawn = sampling(self.config.objective.masking, step, self.config.steps)
        seeds = [100 * step + index for index in range(self.division.accumulation)]
        self.norms.wanted = True
        if self.updates is None:
            return self._by_engine(step, drawn, seeds, rate)
        said = Instructions(drawn, *self.judge.refused_above(), self.engine.rates(rate))
        self.norms.before()
        report = self.updates(batch(step, self.packed), seeds, said)
        totals, applied = read_report(report, self.config.objective, stop=False, failed=False)
        event = self.judge.look(totals.loss, totals.norm)
        assert applied == (event is None or event.applied)
        self.engine.finished(applied=applied)
        self.norms.after(applied=applied)
        return self._measured(totals, applied)

    def _by_engine(self, step: int, drawn: Any, seeds: list[int], rate: float) -> dict[str, float]:
        rows = batch(step, self.packed).to(self.engine.device)
        masked = mask_batch(self.config.objective.masking, SPECIAL, 7, rows, drawn)
        counts = normalizers(masked, self.division)
        sums = torch.zeros(len(STATISTICS), device=self.engine.device)
        for index, seed in enumerate(seeds):
            torch.manual_seed(seed)
            rows = masked.rows(*self.division.rows(index))
            loss, statistics = self.observe(*self.engine.forward(rows, counts))
            self.engine.backward(loss)
            sums += statistics
        norm = self.engine.gradient_norm(rate)
        totals = sum_over_processes(sums, norm, self.config.objective, stop=False, failed=False)
        applied = self.engine.finish(apply=self.judge.look(totals.loss, totals.norm) is None)
        return self._measured(totals, applied)

    def _measured(self, totals: Any, applied: bool) -> dict[str, float]:
        norms = self.norms.read(totals.norm)
        return {**totals.sums, "norm": totals.norm, "applied": applied, **norms}

    def weights(self) -> Tensor:
        return torch.cat(
            [p.detach().view(-1).float().cpu() for p in self.engine.module.parameters()]
        )


def batch(step: int, packed: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(5, VOCABULARY, (ROWS, LENGTH), generator=generator)
    documents = torch.ones_like(ids)
    documents[:, 9:] += packed
    documents[::2, -5:] = 0
    ids[documents == 0] = 0
    return Batch(ids, torch.zeros_like(ids), documents, torch.arange(ROWS) + step * ROWS, packed)


@pytest.mark.parametrize(
    ("model", "stage", "precision", "accumulation", "packed"),
    [
        ("tiny", "zero0", "fp32", 1, False),
        ("tiny", "zero1", "fp32", 2, True),
        ("tiny", "zero1", "bf16", 2, False),
        ("bert-tiny", "zero0", "bf16", 1, True),
    ],
)
def test_updates_are_those_of_the_engine(
    model: str, stage: str, precision: str, accumulation: int, packed: bool
) -> None:
    config = configured(f"precision={precision}", accumulation=accumulation)
    theirs, ours = (Training(config, stage, model, packed=packed) for _ in range(2))
    ours.on_device()
    parts = {"tiny": 3, "bert-tiny": 2}[model]
    bound = 1e-5 if precision == "fp32" else 2e-2
    for step in range(4):
        expected, found = theirs.update(step, rate=1e-3), ours.update(step, rate=1e-3)
        assert found.keys() == expected.keys()
        assert len(found) == len(STATISTICS) + 2 + 2 * parts, "norms of gradients and parameters"
        for name, value in expected.items():
            # Rounding changes single samples, and what counts them, in bf16.
            if precision == "fp32" or "loss" in name or "norm" in name:
                assert found[name] == pytest.approx(value, rel=bound), name
    assert ours.engine.updates == theirs.engine.updates == 4
    weights, expected = ours.weights(), theirs.weights()
    assert (weights - expected).norm() / expected.norm() < bound


def test_what_the_guards_refuse_changes_nothing_though_the_host_looks_later() -> None:
    config = configured("guards={on_spike: skip, spike_window: 8}")
    training = Training(config, "zero1").on_device()
    for step in range(6):
        training.update(step, rate=1e-4)
    assert training.judge.refused_above()[1] < math.inf
    kept = training.weights()
    for factor, event in ((5.0, "spike"), (math.nan, "nan")):
        training.factor = factor
        assert not training.update(6)["applied"]
        assert training.judge.counts[event] == 1
        assert torch.equal(training.weights(), kept)
    training.factor = 1.0
    assert training.update(6)["applied"]
    assert training.engine.updates == 7
    assert not torch.equal(training.weights(), kept)


def test_a_spike_that_is_recorded_is_applied() -> None:
    training = Training(configured("guards.spike_window=8"), "zero0").on_device()
    for step in range(6):
        training.update(step, rate=1e-4)
    kept = training.weights()
    training.factor = 5.0
    drawn = training.update(6)
    assert drawn["applied"]
    assert training.judge.counts["spike"] == 1
    assert not torch.equal(training.weights(), kept)


@pytest.mark.parametrize("fault", ["cannot", "wrong"])
def test_what_cannot_be_recorded_runs_as_it_is(fault: str, heard: Any) -> None:
    def broken(work: Work) -> Work:
        if fault == "cannot":
            raise RuntimeError("operation not permitted when stream is capturing\nand a trace")
        return lambda: None  # as a graph that does not see what the host writes

    plain = Training(configured(), "zero0")
    training = Training(configured(), "zero0").on_device(broken)
    for step in range(2):
        found, expected = training.update(step), plain.update(step)
        assert found["norm"] == pytest.approx(expected["norm"], rel=1e-5)
    said = {"cannot": "stream is capturing", "wrong": "has another mlm_loss"}[fault]
    (warning,) = [r.getMessage() for r in heard.records if r.levelno == logging.WARNING]
    assert said in warning
    assert "runs as it is" in warning


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_gpu_replays_what_runs_one_by_one(accumulation: int, heard: Any) -> None:
    heard.set_level(logging.INFO, logger="convbert")
    config = configured("precision=bf16", accumulation=accumulation)
    plain = {"hidden_dropout": 0.0, "attention_dropout": 0.0}
    theirs = Training(config, "zero1", **plain)
    ours = Training(config, "zero1", **plain).on_device(None)
    for step in range(5):
        expected, found = theirs.update(step, rate=1e-3), ours.update(step, rate=1e-3)
        for name in ("mlm_loss", "rtd_loss", "norm"):
            assert found[name] == pytest.approx(expected[name], rel=2e-2), name
    graphs = {1: "1 CUDA graph", 2: "3 CUDA graphs"}[accumulation]
    assert f"the whole update is {graphs}" in heard.text


def test_warming_up_changes_nothing() -> None:
    training = Training(configured(), "zero1").on_device()
    kept = training.weights()
    updates = training.updates
    assert updates is not None
    updates._batch = batch(0)
    updates._recorded(
        guarded,
        [0],
        Instructions(sampling(training.config.objective.masking, 0, 1), 0.0, math.inf, [1.0, 1.0]),
    )
    assert torch.equal(training.weights(), kept)


@pytest.mark.parametrize(
    "asks",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x + torch.tensor(1.0),
    ],
)
def test_a_question_to_the_device_would_be_noticed(asks: Any) -> None:
    with pytest.raises(AssertionError, match="host wait"), AloneOnDevice():
        asks(torch.ones(3))
