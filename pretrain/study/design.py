"""What a study compares, and how many updates each of its runs gets for the same FLOPs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Self

from pydantic import ConfigDict, Field, PositiveFloat, model_validator

from convbert.models.errors import UserError
from convbert.models.schema import StrictModel, read_mapping, validate
from convbert.pretrain.run.timeline import derive
from convbert.pretrain.settings.recipes import resolve
from convbert.pretrain.settings.run import RunConfig

DESIGN = "design.json"
"""The design in a study's directory."""
WARMUP_SHARE = 0.05
_DECIDED_HERE = ("steps", "seed", "schedule.warmup_steps", "checkpoint.every")


class Design(StrictModel):
    """The contents of a study's YAML file."""

    model_config = ConfigDict(allow_inf_nan=False)

    title: str = Field("A study", description="of the page")
    file: str = Field(
        "",
        description="for the page: the place of this file, as its commands name it",
        examples=["my-study.yaml"],
    )
    question: str = Field(
        "",
        description="for the page: what is asked, and why",
        examples=["What is the local operator worth?"],
    )
    model_notes: str = Field(
        "",
        description="for the page: the model, and what variants change",
        examples=["Two layers of width 128."],
    )
    recipe: str = Field(
        description="what the variants change: a shipped recipe or a YAML file", examples=["study"]
    )
    flops: float | None = Field(
        None,
        gt=0,
        description="training FLOPs of each run, hardware convention",
        examples=[8000000000000.0],
    )
    seconds: float | None = Field(
        None,
        gt=0,
        description="instead of flops: seconds of updates of each run on this machine",
        examples=[240.0],
    )
    pace: dict[str, PositiveFloat] = Field(
        default_factory=dict,
        description="seconds of an update by variant; measured when the study starts",
        examples=[{"electra": 0.4, "sdconv": 0.5}],
    )
    seeds: int = Field(3, gt=0, description="runs of each variant")
    checkpoints: int = Field(
        4, gt=0, description="checkpoints of each run, the points of its curve"
    )
    sequence_length: int = Field(128, gt=0, description="tokens of a sequence")
    corpora: list[str] = Field(
        default_factory=list, description="`convbert corpus fetch` these", examples=[["sotu"]]
    )
    texts: list[str] = Field(
        min_length=1,
        description="trained on; in OUTPUT/corpus, or absolute",
        examples=[["sotu.jsonl"]],
    )
    held_out: list[str] = Field(
        min_length=1, description="measured on, never trained on", examples=[["held-out.jsonl"]]
    )
    vocab_size: int = Field(
        8192, ge=300, description="tokens of the tokenizer, trained on the texts"
    )
    fetch_tasks: list[str] = Field(
        default_factory=list,
        description="`convbert tasks fetch` these",
        examples=[["rotten_tomatoes"]],
    )
    task_data: Path | None = Field(
        None, description="folder of the tasks; default OUTPUT/tasks", examples=["data"]
    )
    pairs: int = Field(0, ge=0, description="minimal pairs from the held-out text; 0 for none")
    rate_factors: list[float] = Field(
        default_factory=list,
        description="peak learning rates of a variant times these: its first seed trains with each "
        "of them, the other seeds with the one of the lowest masked-token loss",
        examples=[[0.5, 1, 2]],
    )
    probe: list[str] = Field(
        default_factory=list, description="tasks for a linear probe", examples=[["rotten_tomatoes"]]
    )
    finetune: list[str] = Field(
        default_factory=list, description="tasks to fine-tune on", examples=[["rotten_tomatoes"]]
    )
    finetune_settings: list[str] = Field(
        default_factory=list, description="`--set` of the tasks", examples=[["recipe.epochs=3"]]
    )
    remark: str = Field(
        "",
        description="for the page, e.g. how long the study takes",
        examples=["An hour and a half on two cores."],
    )
    reference: str = Field(
        description="the variant that the others are compared with", examples=["electra"]
    )
    variants: dict[str, dict[str, Any]] = Field(
        min_length=1,
        description="NAME: {KEY: VALUE}, as in a sweep",
        examples=[{"electra": {"model.preset": "electra-tiny"}}],
    )

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if (self.flops is None) == (self.seconds is None):
            raise ValueError("flops and seconds: give one of them, which all runs get")
        if untimed := sorted(set(self.variants) - set(self.pace)) if self.pace else []:
            raise ValueError(f"pace: variant '{untimed[0]}' has none; give one for each, or none")
        if self.reference not in self.variants:
            raise ValueError(f"reference '{self.reference}' is none of the variants: name one")
        if len(set(self.rate_factors)) < len(self.rate_factors):
            raise ValueError(f"rate_factors: {self.rate_factors} names one twice")
        if any(factor <= 0 for factor in self.rate_factors):
            raise ValueError(f"rate_factors: {self.rate_factors} has to be above 0")
        for name, settings in self.variants.items():
            taken = sorted(set(settings) & set(_DECIDED_HERE))
            if taken:
                raise ValueError(f"variants.{name}: {taken[0]} follows from flops and seeds")
            if "/" in name:
                raise ValueError(f"variants: '{name}' names a directory, leave out the slash")
        return self


@dataclass(frozen=True)
class StudyRun:
    """One run: a variant with a seed, its settings, and the FLOPs and tokens of its updates.

    ``factor`` of the variant's learning rates, None where they are not tuned.
    """

    variant: str
    seed: int
    settings: dict[str, Any]
    steps: int
    tokens: int
    hardware_flops: float
    papers_flops: float
    factor: float | None = None

    @property
    def name(self) -> str:
        """The name of the run's directory."""
        tuned = "" if self.factor is None else f"-x{self.factor:g}"
        return f"{self.variant}{tuned}-seed{self.seed}"

    @property
    def checkpoints(self) -> list[int]:
        """The steps that the curves show; an interruption may leave checkpoints of others."""
        every = self.settings["checkpoint.every"]
        return [*range(every, self.steps, every), self.steps]

    @property
    def overrides(self) -> list[str]:
        """The settings as ``key=value``."""
        return [f"{key}={json.dumps(value)}" for key, value in self.settings.items()]


def load_design(
    path: Path | None,
    *,
    flops: float | None = None,
    seconds: float | None = None,
    seeds: int | None = None,
) -> Design:
    """Read a design, the shipped one by default, with another budget or number of seeds.

    Raises ``UserError`` for a file that cannot be read or an unknown key.
    """
    shipped = Path(str(resources.files("convbert.pretrain.study") / "tiny.yaml"))
    place = path or shipped
    content = read_mapping(place)
    if flops or seconds:
        content |= {"flops": flops, "seconds": seconds}
    if seeds:
        content["seeds"] = seeds
    if flops or seconds or seeds:
        content.pop("remark", None)  # it describes the design as it stands
    return validate(Design, content, place)


def plan_runs(design: Design, factors: Mapping[str, float] | None = None) -> list[StudyRun]:
    """Return all runs, seed by seed, so that an unfinished study compares all variants already.

    A run has as many updates as fit into the budget, so runs differ by less than one update; for
    a budget of seconds ``design.pace`` must be known. Where learning rates are tuned, ``factors``
    are those chosen so far: a variant without one has the runs of its first seed only. Raises
    ``UserError`` for a budget below one update for each checkpoint.
    """
    costs = {name: _cost(design, name) for name in design.variants}
    found: list[StudyRun] = []
    for seed in range(design.seeds):
        for variant in design.variants:
            tried: list[float | None] = [None]
            if design.rate_factors:
                chosen = (factors or {}).get(variant)
                later = [] if chosen is None else [chosen]
                tried = list(design.rate_factors) if seed == 0 else list(later)
            found += [_run(design, variant, seed, f, *costs[variant]) for f in tried]
    return found


def variant_settings(design: Design, variant: str) -> list[str]:
    """Return what a variant changes of the recipe as ``key=value``."""
    return [f"{key}={json.dumps(value)}" for key, value in design.variants[variant].items()]


def _cost(design: Design, variant: str) -> tuple[RunConfig, float, float]:
    """Return a variant's configuration, and the FLOPs of one update in both conventions."""
    config = resolve(design.recipe, variant_settings(design, variant))
    if config.phases:
        raise UserError(
            f"recipe '{design.recipe}': a study's runs have one phase; leave out phases"
        )
    networks = config.model.build(design.vocab_size)
    (phase,) = derive(config, networks, [design.sequence_length])
    return config, phase.flops["hardware"], phase.flops["electra"]


def scaled_rates(config: RunConfig, factor: float) -> dict[str, float]:
    """Return the settings of a configuration's peak learning rates times a factor."""
    optimizer = config.optimizer
    rates = {"optimizer.learning_rate": optimizer.learning_rate * factor}
    if optimizer.name == "muon":
        rates["optimizer.muon.learning_rate"] = optimizer.muon.learning_rate * factor
    return rates


def _run(
    design: Design,
    variant: str,
    seed: int,
    factor: float | None,
    config: RunConfig,
    hardware: float,
    papers: float,
) -> StudyRun:
    if design.seconds is None:
        unit, budget, one = "flops", design.flops or 0, hardware
    else:
        unit, budget, one = "seconds", design.seconds, design.pace[variant]
    steps = int(budget / one)
    if steps < design.checkpoints:
        raise UserError(
            f"{unit}={budget:.2g}: enough for {steps} updates of variant '{variant}' "
            f"({one:.2g} each), fewer than checkpoints={design.checkpoints}; raise {unit}"
        )
    every = -(-steps // design.checkpoints)
    settings = dict(design.variants[variant]) | {
        "seed": seed,
        "steps": steps,
        "schedule.warmup_steps": max(1, round(WARMUP_SHARE * steps)),
        "checkpoint.every": every,
        "checkpoint.keep_every": every,
    }
    if factor is not None:
        settings |= scaled_rates(config, factor)
    tokens = steps * config.global_batch * design.sequence_length
    spent = (steps * hardware, steps * papers)
    return StudyRun(variant, seed, settings, steps, tokens, *spent, factor)
