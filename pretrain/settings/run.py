"""The configuration of a run: defaults, recipe, overrides, and the resolved file.

A recipe is a short YAML difference against the defaults below; ``key=value`` overrides are dotted
paths with YAML values. Unknown keys are refused. What results is saved as ``config.yaml`` in the
run directory and is enough to repeat the run.
"""

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from convbert.data_pipeline.shards.damage import OnDamage
from convbert.data_pipeline.shards.remote import is_url
from convbert.data_pipeline.shards.sources import CacheSettings, Source
from convbert.models.config import PretrainingConfig
from convbert.models.errors import UserError
from convbert.models.presets import preset
from convbert.pretrain.run.schedule import OptimizerConfig, ScheduleConfig
from convbert.pretrain.settings.checkpoint import CheckpointConfig
from convbert.pretrain.settings.evaluation import EvaluationConfig
from convbert.pretrain.settings.guards import GuardConfig
from convbert.pretrain.settings.objective import ObjectiveConfig
from convbert.pretrain.training.profiling import ProfileConfig


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(_Section):
    """Which networks are trained; the vocabulary size always comes from the shards."""

    preset: str = Field("small", description="size: tiny, small, medium-small, base, large, ...")
    overrides: dict[str, Any] = Field(
        default_factory=dict, description="fields of EncoderConfig, generator_size, objective"
    )

    init_from: Path | None = Field(
        None, description="Hugging Face directory whose weights the run starts from"
    )

    def build(self, vocab_size: int) -> PretrainingConfig:
        """Return the networks for a vocabulary of ``vocab_size``."""
        try:
            return preset(self.preset, vocab_size=vocab_size, **self.overrides)
        except ValidationError as error:
            raise UserError(f"model.overrides: {_first(error)}") from None


class DataConfig(_Section):
    """Where the training sequences come from: one manifest, or several sources with weights."""

    manifest: str | None = Field(
        None, description="path or URL of the only source; default shards/manifest.json"
    )
    sources: list[Source] = Field(
        default_factory=list, description="several, e.g. [{manifest: web, weight: 3}, ...]"
    )
    tokenizer: Path = Field(Path("tokenizer"), description="checked against the shards, exported")
    on_damage: OnDamage = Field(
        "stop", description="skip: replace damaged blocks, recorded in the run's damage/"
    )
    cache: Path | None = Field(
        None, description="directory on a node's disk for shards at a URL; default in $TMPDIR"
    )
    cache_gigabytes: float = Field(20.0, gt=0, description="limit of that cache on each node")

    @model_validator(mode="before")
    @classmethod
    def _one_way(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        if content.get("manifest") and content.get("sources"):
            raise ValueError(
                "both manifest and sources are given; set data.manifest=null or drop the sources"
            )
        if content.get("sources"):
            return content
        return {**content, "manifest": content.get("manifest") or "shards/manifest.json"}

    @property
    def blend(self) -> list[Source]:
        """All sources, also if there is only one."""
        return self.sources or [Source(manifest=str(self.manifest))]

    @property
    def cache_settings(self) -> CacheSettings:
        """Where and how much the loader caches."""
        return CacheSettings(self.cache, self.cache_gigabytes)

    def absolute(self) -> "DataConfig":
        """Return the same with absolute paths; addresses stay."""
        moved = [s.model_copy(update={"manifest": _absolute(s.manifest)}) for s in self.sources]
        return self.model_copy(
            update={
                "manifest": _absolute(self.manifest) if self.manifest else None,
                "sources": moved,
                "tokenizer": self.tokenizer.resolve(),
                "cache": self.cache.resolve() if self.cache else None,
            }
        )


def _absolute(place: str) -> str:
    return place if is_url(place) else str(Path(place).resolve())


def _yaml_off(value: Any) -> Any:
    """YAML reads a bare ``off`` as false."""
    return "off" if value is False else value


class TrackingConfig(_Section):
    """MLflow; metrics.jsonl in the run directory is always written first."""

    uri: Annotated[str | None, BeforeValidator(_yaml_off)] = Field(
        None, description="MLflow server or sqlite:///file; 'off' for none; default mlflow.db"
    )
    experiment: str = "convbert-pretraining"
    log_every: int = Field(10, gt=0, description="updates per line on the terminal")
    system_seconds: float | None = Field(
        30.0, ge=1, description="how often rank 0's machine is looked at; null for never"
    )


class PhaseConfig(_Section):
    """What changes from an update on; left out, a setting stays that of the run."""

    start: int = Field(ge=0, description="number of the first update of the phase")
    manifest: str | None = Field(None, description="path or URL of its shards, perhaps longer ones")
    sources: list[Source] = Field(default_factory=list, description="several, with weights")
    global_batch: int | None = Field(None, gt=0)
    micro_batch: int | None = Field(None, gt=0, description="default: all at once")
    learning_rate: float | None = Field(None, gt=0, description="peak")
    schedule: ScheduleConfig | None = Field(
        None, description="of this phase alone; default: the run's schedule goes on"
    )

    def data(self, before: DataConfig) -> DataConfig:
        """Return where its sequences come from: its own shards, or those of the run."""
        if not self.manifest and not self.sources:
            return before
        content = before.model_dump() | {"manifest": self.manifest, "sources": self.sources}
        return DataConfig.model_validate(content)

    def absolute(self) -> "PhaseConfig":
        """Return the same with absolute paths; addresses stay."""
        moved = [s.model_copy(update={"manifest": _absolute(s.manifest)}) for s in self.sources]
        manifest = _absolute(self.manifest) if self.manifest else None
        return self.model_copy(update={"manifest": manifest, "sources": moved})


class RunConfig(_Section):
    """Everything that decides a run."""

    seed: int = Field(0, ge=0)
    steps: int = Field(1_000_000, gt=0, description="updates in total")
    global_batch: int = Field(128, gt=0, description="sequences per update, over all processes")
    micro_batch: int | None = Field(
        None, gt=0, description="sequences per process and forward pass; default: all at once"
    )
    precision: Literal["fp32", "bf16", "fp16", "auto"] = Field(
        "auto", description="auto: bf16 where the processor or GPU computes in it, else fp32"
    )
    deepspeed: str = Field("zero1", description="name in ds_configs, or path of a JSON file")
    threads: int | None = Field(None, gt=0, description="CPU threads per process")
    compile: bool = Field(False, description="torch.compile the objective")
    cuda_graphs: bool = Field(
        False, description="on a GPU, replay the compiled objective as CUDA graphs; bf16, zero1"
    )
    activation_checkpointing: bool = Field(
        False, description="recompute each layer in the backward pass instead of keeping it"
    )
    peak_tflops: float | None = Field(
        None, gt=0, description="of one process, for the MFU; default: data sheet or measured"
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
        (), description="changes of shards and batch during the run, e.g. to longer sequences"
    )
    checkpoint: CheckpointConfig = CheckpointConfig()
    guards: GuardConfig = GuardConfig()
    tracking: TrackingConfig = TrackingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def settled_precision(self) -> Literal["fp32", "bf16", "fp16"]:
        """The precision, once ``auto`` has been decided (``training/precision.py``)."""
        if self.precision == "auto":
            raise ValueError("precision=auto has not been decided yet")
        return self.precision

    def absolute(self) -> "RunConfig":
        """Return the same run with absolute paths, so that it can start from any directory."""
        start = self.model.init_from
        model = self.model.model_copy(update={"init_from": start.resolve() if start else None})
        held_out = self.evaluation.held_out
        evaluation = self.evaluation.model_copy(
            update={"held_out": _absolute(held_out) if held_out else None}
        )
        changes = {
            "data": self.data.absolute(),
            "model": model,
            "evaluation": evaluation,
            "phases": tuple(phase.absolute() for phase in self.phases),
        }
        return self.model_copy(update=changes)

    @model_validator(mode="after")
    def _consistent(self) -> "RunConfig":
        if self.schedule.warmup_steps > self.steps:
            raise ValueError(
                f"schedule.warmup_steps={self.schedule.warmup_steps} exceeds steps={self.steps}: "
                "lower it"
            )
        if self.cuda_graphs and not self.compile:
            raise ValueError("cuda_graphs=true records what is compiled: set compile=true, too")
        starts = [p.start for p in self.phases]
        if starts != sorted({s for s in starts if 0 < s < self.steps}):
            raise ValueError(
                f"phases start at {starts}: give rising numbers between 1 and steps={self.steps}"
            )
        return self


# These change how a run is executed, not what it computes, so a resumed run may alter them.
EXECUTION_KEYS = (
    "micro_batch",
    "deepspeed",
    "threads",
    "compile",
    "cuda_graphs",
    "activation_checkpointing",
    "peak_tflops",
    "profile",
    "checkpoint",
    "guards",
    "tracking",
    "evaluation",
    "data.on_damage",
    "data.cache",
    "data.cache_gigabytes",
)


def _first(error: ValidationError) -> str:
    detail = error.errors()[0]
    where = ".".join(str(part) for part in detail["loc"])
    value = "" if isinstance(detail["input"], dict) else f" (got {detail['input']!r})"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        message = "unknown key; check the spelling; docs/training.md has the keys"
    return f"{where}: {message}{value}" if where else message


def merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the values of ``change`` in place of its own, section by section."""
    merged = dict(base)
    for key, value in change.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if nested else value
    return merged


def parse_override(text: str) -> dict[str, Any]:
    """Turn ``a.b=value`` into ``{"a": {"b": value}}``, the value read as YAML."""
    path, separator, value = text.partition("=")
    if not separator or not path:
        raise UserError(f"override '{text}': write it as key=value, e.g. optimizer.clip=0.5")
    parsed: Any = yaml.safe_load(value)
    for key in reversed(path.split(".")):
        parsed = {key: parsed}
    return parsed


def recipe_names() -> list[str]:
    """List the recipes that ship with the package."""
    folder = resources.files("convbert.pretrain") / "recipes"
    return sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".yaml"))


def read_recipe(recipe: str) -> dict[str, Any]:
    """Read a recipe by its shipped name or by the path of a YAML file."""
    path = Path(recipe)
    if path.suffix not in (".yaml", ".yml"):
        if recipe not in recipe_names():
            raise UserError(
                f"recipe '{recipe}' is unknown; choose one of {', '.join(recipe_names())} or "
                "give the path of a .yaml file"
            )
        path = Path(str(resources.files("convbert.pretrain") / "recipes" / f"{recipe}.yaml"))
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError:
        raise UserError(f"recipe {path}: the file does not exist") from None
    except yaml.YAMLError as error:
        raise UserError(f"recipe {path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"recipe {path}: expected keys and values, found {type(content).__name__}")
    return content


def resolve(recipe: str, overrides: list[str] | None = None) -> RunConfig:
    """Combine defaults, a recipe and ``key=value`` overrides; raises ``UserError``."""
    content = read_recipe(recipe)
    for text in overrides or []:
        content = merge(content, parse_override(text))
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        raise UserError(f"recipe '{recipe}': {_first(error)}") from None


def dump(config: RunConfig) -> str:
    """Return the resolved configuration as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def load(path: Path) -> RunConfig:
    """Read a resolved configuration."""
    return resolve(str(path))


_EXECUTION_PREFIXES = tuple(f"{key}." for key in EXECUTION_KEYS)


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """List ``key: old -> new`` for keys that decide results, dotted and sorted."""
    left, right = _flatten(old.model_dump(mode="json")), _flatten(new.model_dump(mode="json"))
    return [
        f"{key}: {left.get(key)} -> {right.get(key)}"
        for key in sorted(left.keys() | right.keys())
        if left.get(key) != right.get(key) and not _only_execution(key)
    ]


def _only_execution(key: str) -> bool:
    of_a_phase = key.startswith("phases.") and key.endswith(".micro_batch")
    return of_a_phase or f"{key}.".startswith(_EXECUTION_PREFIXES)


def _flatten(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = {str(number): item for number, item in enumerate(value)}
        flat |= _flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat
