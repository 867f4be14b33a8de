"""Masks that the generator fills at every checkpoint, for the page of the run."""

import logging

import torch.distributed as dist

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.models.pretraining import PretrainingModel
from convbert.pretrain.engine.collectives import broadcast_from_first
from convbert.pretrain.engine.engine import Engine
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.settings.run import RunConfig
from convbert.pretrain.show.kept_looks import KeptLooks, keep
from convbert.pretrain.show.look import Options, look
from convbert.pretrain.show.reader import Reader
from convbert.pretrain.show.records import Look, Point, Sample
from convbert.pretrain.show.samples import samples_of

log = logging.getLogger(__name__)


class CheckpointSamples:
    """Lets the networks fill the masks of a few texts; what goes wrong there is a warning.

    All processes go through the same forward passes; in ZeRO 3 there are none. Nothing is drawn at
    random, and the networks are left as they were.
    """

    def __init__(
        self, run: RunDirectory, config: RunConfig, tokenizer: Tokenizer, engine: Engine
    ) -> None:
        """Take the texts of ``evaluation.show``; without a page of the run there are none."""
        self._run = run
        self._config = config
        self._tokenizer = tokenizer
        # Under DeepSpeed, too, the parts of a model may be called one by one.
        self._model: PretrainingModel = engine.module.model  # type: ignore[assignment]
        self._texts: list[Sample] | None = None  # read when they are first needed
        wanted = config.tracking.page_seconds is not None and config.evaluation.show != ()
        # There a module that reads another one's table (gdes) cannot be called by itself.
        wanted = wanted and engine.stage < 3
        self._reader = Reader.of(tokenizer) if wanted else None

    def take(self, step: int, flops: float, seq_len: int) -> None:
        """Fill the masks after ``step`` updates, of texts of at most ``seq_len`` tokens."""
        if self._reader is None:
            return
        if self._texts is None:
            self._texts = broadcast_from_first(self._read() if dist.get_rank() == 0 else None)
        try:
            looks = [self._fill(self._reader, sample, seq_len) for sample in self._texts]
        except UserError as error:  # the same one on all processes
            self._say(error)
            self._reader = None
            return
        if dist.get_rank() == 0 and looks:
            point = Point(label=f"step {step}", step=step, flops=flops, looks=looks)
            try:
                keep(self._run.path, step, KeptLooks(samples=self._texts, point=point))
            except (OSError, UserError) as error:
                self._say(error)

    def _fill(self, reader: Reader, sample: Sample, seq_len: int) -> Look:
        return look(self._model, reader, sample.text, seq_len, Options(), judge=False)

    def _read(self) -> list[Sample]:
        try:
            return samples_of(self._config, self._tokenizer)
        except (OSError, UserError) as error:
            self._say(error)
            return []

    def _say(self, error: Exception) -> None:
        if dist.get_rank() == 0:
            log.warning("no samples on the page of the run (%s)", " ".join(str(error).split()))
