"""Everything that decides a run, in one model: the sections and what they must agree on."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from convbert.models.schema import StrictModel
from convbert.pretrain.settings.checkpoint import CheckpointConfig
from convbert.pretrain.settings.data import DataConfig
from convbert.pretrain.settings.evaluation import EvaluationConfig
from convbert.pretrain.settings.guards import GuardConfig
from convbert.pretrain.settings.model import ModelConfig
from convbert.pretrain.settings.objective import ObjectiveConfig
from convbert.pretrain.settings.optimizer import OptimizerConfig, ScheduleConfig
from convbert.pretrain.settings.phase import PhaseConfig
from convbert.pretrain.settings.places import Change, absolute_place
from convbert.pretrain.settings.profile import ProfileConfig
from convbert.pretrain.settings.tracking import TrackingConfig


class RunConfig(StrictModel):
    """Everything that decides a run."""

    seed: int = Field(
        0,
        ge=0,
        description="number that initial weights, order, masks and samples follow from",
        examples=[7],
    )
    steps: int = Field(1_000_000, gt=0, description="updates in total")
    global_batch: int = Field(
        128, gt=0, le=10**9, description="sequences per update, over all processes"
    )
    micro_batch: int | None = Field(
        None,
        gt=0,
        description="sequences per process and forward pass; default: all at once",
        examples=[32],
    )
    precision: Literal["fp32", "bf16", "fp16", "auto"] = Field(
        "auto", description="auto: bf16 where the processor or GPU computes in it, else fp32"
    )
    deepspeed: str = Field(
        "zero1", description="name in ds_configs, or path of a JSON file", examples=["zero2"]
    )
    threads: int | None = Field(
        None,
        gt=0,
        description="CPU threads of each process; default: the cores divided by the processes",
        examples=[8],
    )
    compile: bool | Literal["auto"] = Field(
        "auto", description="torch.compile; auto: on a GPU, and on a CPU where it saves time"
    )
    cuda_graphs: bool | Literal["auto"] = Field(
        "auto", description="replay updates as CUDA graphs; auto: a GPU, bf16 and zero1"
    )
    activation_checkpointing: bool = Field(
        False, description="recompute each layer in the backward pass instead of keeping it"
    )
    peak_tflops: float | None = Field(
        None,
        gt=0,
        description="TFLOP/s of one process at best, for the MFU; default: data sheet or measured",
        examples=[989],
    )
    profile: ProfileConfig | None = Field(
        None, description="trace some updates with torch.profiler, e.g. {start: 100, steps: 3}"
    )
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    phases: tuple[PhaseConfig, ...] = Field(
        (),
        description="changes of shards and batch during the run, e.g. to longer sequences",
        examples=[[{"start": 900_000, "manifest": "shards-512/manifest.json", "global_batch": 64}]],
    )
    checkpoint: CheckpointConfig = CheckpointConfig()
    guards: GuardConfig = GuardConfig()
    tracking: TrackingConfig = TrackingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def settled_precision(self) -> Literal["fp32", "bf16", "fp16"]:
        """The precision, once ``auto`` has been decided (``engine/precision.py``)."""
        if self.precision == "auto":
            raise ValueError("precision=auto has not been decided yet")
        return self.precision

    @property
    def compiles(self) -> bool:
        """Whether it compiles, once ``auto`` has been decided (``engine/execution.py``)."""
        if self.compile == "auto":
            raise ValueError("compile=auto has not been decided yet")
        return self.compile

    @property
    def replays_graphs(self) -> bool:
        """Whether it replays CUDA graphs, once ``auto`` has been decided."""
        if self.cuda_graphs == "auto":
            raise ValueError("cuda_graphs=auto has not been decided yet")
        return self.cuda_graphs

    def placed(self, change: Change) -> "RunConfig":
        """Return the same run with all paths changed but those on a node's own disk."""
        start, engine, upload = self.model.init_from, self.deepspeed, self.checkpoint.upload
        start = Path(change(str(start))) if start else None
        upload = change(upload) if upload else None
        changes = {
            "deepspeed": change(engine) if Path(engine).suffix == ".json" else engine,
            "data": self.data.placed(change),
            "model": self.model.model_copy(update={"init_from": start}),
            "checkpoint": self.checkpoint.model_copy(update={"upload": upload}),
            "tracking": self.tracking.placed(change),
            "evaluation": self.evaluation.placed(change),
            "phases": tuple(phase.placed(change) for phase in self.phases),
        }
        return self.model_copy(update=changes)

    def absolute(self) -> "RunConfig":
        """Return the same run with absolute paths, so that it can start from any directory."""
        return self.placed(absolute_place).model_copy(update={"data": self.data.absolute()})

    @model_validator(mode="after")
    def _consistent(self) -> "RunConfig":
        if self.schedule.warmup_steps > self.steps:
            raise ValueError(
                f"schedule.warmup_steps={self.schedule.warmup_steps} exceeds steps={self.steps}: "
                "lower it"
            )
        warmup = self.objective.generator_warmup
        if warmup >= self.steps:
            raise ValueError(
                f"objective.generator_warmup={warmup} leaves nothing for the discriminator in "
                f"steps={self.steps}: lower it"
            )
        if warmup and self.optimizer.name == "muon":
            raise ValueError(
                f"objective.generator_warmup={warmup} is not made for optimizer.name=muon: use "
                "adamw or lamb"
            )
        starts = [p.start for p in self.phases]
        if starts != sorted({s for s in starts if 0 < s < self.steps}):
            raise ValueError(
                f"phases start at {starts}: give rising numbers between 1 and steps={self.steps}"
            )
        return self
