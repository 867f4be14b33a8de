"""Fine-tune a run's checkpoints and draw accuracy against training FLOPs."""

from collections.abc import Callable, Sequence
from pathlib import Path

from convbert.data_pipeline.sources import Corpus
from convbert.data_pipeline.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.models.flops import training_flops_per_sequence
from convbert.pretrain.checkpoints import checkpoint
from convbert.pretrain.exchange.trained_model import kept_encoder, load_model
from convbert.pretrain.finetune.kinds import prepare
from convbert.pretrain.finetune.loop import FinetuneResult
from convbert.pretrain.finetune.runs import Spread, Start, finetune_all
from convbert.pretrain.finetune.task import load_task
from convbert.pretrain.report.curve import Curve, Point, publish
from convbert.pretrain.run_directory import RunDirectory
from convbert.pretrain.tracking.tracker import open_tracker

BASELINE = "from random weights"


def flops_curve(
    run: RunDirectory,
    task_name: str,
    *,
    data_dir: Path | None = None,
    steps: Sequence[int] | None = None,
    seeds: int = 3,
    on_result: Callable[[str, FinetuneResult], None] = lambda label, result: None,
) -> tuple[Curve, Path]:
    """Fine-tune every checkpoint, and the same model from random weights, with several seeds.

    Writes ``report/curve.json`` and ``curve.png`` in the run directory and publishes points,
    picture and data in the run's MLflow run. Training FLOPs are those of the papers' convention.
    Raises ``UserError`` without checkpoints or for unusable task files.
    """
    config = run.open()
    chosen = list(steps or checkpoint.steps(run.checkpoints))
    if not chosen:
        raise UserError(f"{run.checkpoints}: no checkpoint to evaluate; train the run first")
    task = load_task(task_name, data_dir)
    data = prepare(task, Tokenizer.load(config.data.tokenizer))
    corpus = Corpus(config.data.blend)
    networks = config.model.build(corpus.vocab_size)
    per_step = config.global_batch * training_flops_per_sequence(
        networks, corpus.seq_len, "electra"
    )
    starts: dict[str, Start] = {BASELINE: networks.discriminator}
    starts |= {f"step {step}": kept_encoder(load_model(run, step)[0]) for step in chosen}
    results = finetune_all(starts, data, seeds=range(seeds), on_result=on_result)
    curve = Curve(
        run=run.name,
        task=task.name,
        metric=task.metric,
        baseline=Spread.of(results[BASELINE]),
        points=[
            Point(step=s, flops=s * per_step, spread=Spread.of(results[f"step {s}"]))
            for s in chosen
        ],
    )
    return curve, _publish(run, curve)


def _publish(run: RunDirectory, curve: Curve) -> Path:
    config = run.open()
    tracker = open_tracker(
        run.path,
        enabled=True,
        experiment=config.tracking.experiment,
        run_name=run.name,
        tracking_uri=config.tracking.uri,
        params={},
        tags={},
        resume_step=None,
    )
    try:
        picture = publish(curve, run.report, tracker)
    except BaseException:
        tracker.close("FAILED")
        raise
    tracker.close("FINISHED")
    return picture
