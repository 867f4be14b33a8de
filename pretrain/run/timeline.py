"""A run as a sequence of phases: which shards, batch and learning rate each update has.

One phase is the usual case. Two are BERT's recipe: most updates on short sequences, the last ones
on long sequences, where position embeddings beyond the short length are learned. Everything here is
a pure function of the number of finished updates, so a run continues in the phase it was in, at
the position it was at, without any state in a checkpoint.

Where the guards left out global batches, phases count batches that were read or left out, so a
later phase reads what it would have read anyway and begins that many updates earlier.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from convbert.data_pipeline.shards.sources import Corpus
from convbert.models.architecture import PretrainingConfig
from convbert.models.errors import UserError
from convbert.models.flops import Convention, training_flops_per_sequence
from convbert.pretrain.run.schedule import learning_rate
from convbert.pretrain.run.seeds import mix
from convbert.pretrain.settings.data import DataConfig
from convbert.pretrain.settings.optimizer import ScheduleConfig
from convbert.pretrain.settings.phase import PhaseConfig
from convbert.pretrain.settings.run import RunConfig


@dataclass(frozen=True)
class Rate:
    """A learning-rate schedule of ``total`` updates from update ``start`` of the run on."""

    schedule: ScheduleConfig
    peak: float
    start: int
    total: int

    def __call__(self, step: int) -> float:
        """Return the learning rate of update ``step``."""
        return learning_rate(self.schedule, step - self.start, self.total, self.peak)


@dataclass(frozen=True)
class Phase:
    """Updates ``start`` to ``end``, excluded, on one set of shards.

    ``rate`` is the run's schedule unless the phase has one of its own.
    """

    start: int
    end: int
    data: DataConfig
    seq_len: int
    global_batch: int
    micro_batch: int | None
    seed: int
    rate: Rate
    flops: Mapping[Convention, float]


class Timeline:
    """The phases of a run, in order, and cumulative figures after a number of updates."""

    def __init__(self, phases: Sequence[Phase]) -> None:
        self.phases = tuple(phases)
        self.corpora: list[Corpus] = []

    @classmethod
    def load(cls, config: RunConfig) -> "Timeline":
        """Derive the phases of a run from its shards; raises ``UserError`` without them."""
        corpora = [Corpus(change.data(config.data).blend) for change, _ in stretches(config)]
        networks = config.model.build(corpora[0].vocab_size)
        timeline = cls(derive(config, networks, [corpus.seq_len for corpus in corpora]))
        timeline.corpora = corpora
        return timeline

    @property
    def name(self) -> str:
        """The data of all phases, for messages."""
        return ", then ".join(corpus.name for corpus in self.corpora)

    @property
    def digest(self) -> str:
        """Identify the data of all phases."""
        return self.digest_until(self.phases[-1].end)

    def digest_until(self, step: int) -> str:
        """Identify the data of the phases that begin before update ``step``: one digest each."""
        begun = zip(self.phases, self.corpora, strict=True)
        return "/".join(corpus.digest for phase, corpus in begun if phase.start < max(1, step))

    def require_data(self, trained: str, step: int) -> None:
        """Refuse other data than that of ``digest_until(step)``, as a checkpoint recorded it.

        Raises ``UserError``: with other data, a step would stand for other sequences.
        """
        digests = zip(self.digest_until(step).split("/"), trained.split("/"), strict=False)
        for corpus, (found, expected) in zip(self.corpora, digests, strict=False):
            if found != expected:
                raise UserError(
                    f"{corpus.name}: is not the data this run was trained on (digest "
                    f"{found[:12]} instead of {expected[:12]}); restore those shards or choose "
                    "another --run-dir"
                )

    def at(self, step: int) -> Phase:
        """Return the phase of update ``step``, counted from 0."""
        return next((p for p in self.phases[:-1] if step < p.end), self.phases[-1])

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of update ``step``."""
        return self.at(step).rate(step)

    def flops(self, steps: int, convention: Convention = "electra") -> float:
        """Return the training FLOPs of the first ``steps`` updates."""
        return sum(n * p.flops[convention] for n, p in self._shares(steps))

    def sequences(self, steps: int) -> int:
        """Return the sequences that the first ``steps`` updates consume."""
        return sum(n * p.global_batch for n, p in self._shares(steps))

    def tokens(self, steps: int) -> int:
        """Return the tokens, padding included, that the first ``steps`` updates consume."""
        return sum(n * p.global_batch * p.seq_len for n, p in self._shares(steps))

    def positions(self, number: int) -> tuple[int, int]:
        """Return the run's sequences ``[first, last)`` that global batch ``number`` holds."""
        return self.sequences(number), self.sequences(number + 1)

    def _shares(self, steps: int) -> Iterator[tuple[int, Phase]]:
        """Yield how many of the first ``steps`` updates each phase has; the last one has no end."""
        *bounded, last = self.phases
        for phase in bounded:
            yield max(0, min(steps, phase.end) - phase.start), phase
        yield max(0, steps - last.start), last


def stretches(config: RunConfig) -> list[tuple[PhaseConfig, int]]:
    """Return the run's phases as configured, the first included, each with its end."""
    changes = [PhaseConfig(start=0, micro_batch=config.micro_batch), *config.phases]
    ends = [*(p.start for p in config.phases), config.steps]
    return list(zip(changes, ends, strict=True))


def rate_of(config: RunConfig, change: PhaseConfig, end: int) -> Rate:
    """Return the learning rate of a phase that ends at ``end``."""
    schedule = change.schedule or config.schedule
    start, last = (change.start, end) if change.schedule else (0, config.steps)
    peak = change.learning_rate or config.optimizer.learning_rate
    return Rate(schedule, peak, start, schedule.total_steps or last - start)


def derive(config: RunConfig, networks: PretrainingConfig, lengths: Sequence[int]) -> list[Phase]:
    """Return the phases of a run whose sequences have these lengths, phase by phase."""
    phases = []
    for number, ((change, end), length) in enumerate(zip(stretches(config), lengths, strict=True)):
        batch = change.global_batch or config.global_batch
        phases.append(
            Phase(
                start=change.start,
                end=end,
                data=change.data(config.data),
                seq_len=length,
                global_batch=batch,
                micro_batch=change.micro_batch,
                seed=mix(config.seed, number) if number else config.seed,
                rate=rate_of(config, change, end),
                flops={
                    "electra": batch * training_flops_per_sequence(networks, length, "electra"),
                    "hardware": batch
                    * training_flops_per_sequence(
                        networks, length, "hardware", config.objective.masking.slots(length)
                    ),
                },
            )
        )
    return phases
