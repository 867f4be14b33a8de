"""Mutated run directories and configurations, and the commands that are given them.

A case is plain data: what is changed in a copy of a sound run directory, and a command line. So a
case that fails can be kept as a file and tried again.
"""

import contextlib
import io
import json
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from convbert.pretrain import cli
from convbert.pretrain.training import launch

SECONDS = 60
"""What a command may compute on the small run, however busy the machine is; more is a failure."""

JUNK: list[Any] = [
    None, True, False, 0, 1, -1, 3, 0.5, 1e308, 10**20, float("nan"), float("inf"), "", " ", "a",
    "nan", "auto", "off", "../..", "/", "/nonexistent/x", "a\nb", "\0", "é\u2028", "x" * 5000,
    [], {}, [[]], [None], {"a": 1}, {"step": 4}, ["a", 1], "step-00000004", "[/]", "[red]", "http://[",
]  # fmt: skip
TOKENS = [
    b"", b"\0", b"\n", b"\xff\xfe", b"{", b"}", b"[" * 3000, b'"', b"null", b"NaN", b"-1", b"1e999",
    b"99999999999999999999", b": ", b"- ", b"&a *a", b"!!python/object:os.x", b"\\ud800", b"'",
]  # fmt: skip
NAMES = [
    "step-", "step-x", "step-00000000", "step-99999999999999999999", "step-\u00b2", "step-00000003",
    ".tmp-00000004-x", "damaged-step-00000002", "latest", "x",
]  # fmt: skip
OVERRIDES = [
    "steps", "seed", "global_batch", "micro_batch", "precision", "deepspeed", "threads", "compile",
    "cuda_graphs", "activation_checkpointing", "peak_tflops", "profile", "profile.start", "model",
    "model.preset", "model.overrides", "model.overrides.num_layers", "model.overrides.hidden_size",
    "model.overrides.max_positions", "model.init_from", "data.manifest", "data.sources",
    "data.tokenizer", "data.on_damage", "data.cache", "objective.masking.mask_fraction",
    "objective.masking.schedule", "optimizer.name", "optimizer.learning_rate", "optimizer.betas",
    "optimizer.clip", "schedule.name", "schedule.warmup_steps", "schedule.total_steps", "phases",
    "checkpoint.every", "checkpoint.best_metric", "checkpoint.upload", "guards", "guards.on_nan",
    "tracking.uri", "tracking.experiment", "tracking.log_every", "evaluation.show",
    "evaluation.held_out", "evaluation.pairs", "x", "", "a..b", "optimizer.", ".steps",
]  # fmt: skip
VALUES = [
    "", "1", "0", "-1", "4", "1e3", "0.5", "nan", ".inf", "null", "true", "a", "auto", "[", "{a: 1",
    "[1, 2]", "{}", "[]", "'", "&a [*a]", "2026-13-99", "{start: 2}", "[{start: 2}]", "../x", "\0",
    "[{start: 2, learning_rate: 1e-3}]", "{name: linear}", "constant", "wsd", "bf16", "own.json",
    "file:///nonexistent/x", "s3://", "http://", "!!binary x", "? ", "1_0", "0x10", "1:30",
    "\u2028",
]  # fmt: skip


def commands(run: str, output: str, recipe: str) -> list[list[str]]:
    """Return the command lines that are tried on a run directory, cheap ones more often."""
    cheap = [
        ["status", run], ["report", run, "-o", f"{output}/r.html"], ["pretrain", run],
        ["pretrain", recipe, "--run-dir", run], ["track", "sync", run], ["plan", run],
        ["branch", run, "--at", "2", "--decay", "2", "-o", output],
    ]  # fmt: skip
    heavy = [
        ["export", run, "-o", f"{output}/e"], ["export", run, "-o", f"{output}/e", "--step", "2"],
        ["export", run, "-o", f"{output}/e", "--average", "last:2"],
        ["evaluate", run, "--sequences", "8"], ["show", run, "a text"],
        ["show", f"{run}/checkpoints/step-00000004", "a text", "--html", f"{output}/s.html"],
    ]  # fmt: skip
    return 3 * cheap + heavy


class Mutator:
    """Draws cases; each follows from its number."""

    def __init__(self, base: Path, number: int) -> None:
        self.base, self.choice = base, random.Random(number)

    def edits(self) -> list[list[Any]]:
        """Return changes to a copy of the run, each an operation and its operands."""
        return [self._edit() for _ in range(self.choice.choice([1, 1, 1, 2, 3]))]

    def _edit(self) -> list[Any]:
        files = sorted(str(p.relative_to(self.base)) for p in self.base.rglob("*") if p.is_file())
        small = [name for name in files if not name.endswith(".safetensors")]
        name = self.choice.choice(small if self.choice.random() < 0.9 else files)
        folders = sorted({str(Path(name).parent) for name in files} - {"."})
        match self.choice.randrange(10):
            case 0:
                return ["remove", self.choice.choice([name, name, *folders])]
            case 1:
                other = self.choice.choice(files)
                return ["copy", other, name]
            case 2:
                return ["folder", name]
            case 3:
                return ["loop", name]
            case 4:
                step = f"checkpoints/{self.choice.choice(NAMES)}"
                return ["copy", f"checkpoints/step-0000000{self.choice.choice('24')}", step]
            case 5 | 6:
                size = (self.base / name).stat().st_size
                start = self.choice.randrange(size + 1)
                end = min(size, start + self.choice.choice([0, 1, 4, 64, 10**9]))
                return ["splice", name, start, end, self.choice.choice(TOKENS).hex()]
            case _:
                structured = [n for n in small if n.endswith((".json", ".jsonl", ".yaml"))]
                name = self.choice.choice(structured)
                return ["write", name, self._changed(self.base / name)]

    def _changed(self, path: Path) -> str:
        """Return a structured file with another value somewhere."""
        text = path.read_text()
        if path.suffix == ".yaml":
            content = yaml.safe_load(text)
            self._put(content)
            return yaml.safe_dump(content, sort_keys=False)
        if path.suffix == ".jsonl":
            lines = text.splitlines()
            index = self.choice.randrange(len(lines))
            record = json.loads(lines[index])
            self._put(record)
            lines[index] = json.dumps(record)
            return "\n".join(lines) + "\n"
        content = json.loads(text)
        self._put(content)
        return json.dumps(content)

    def _put(self, node: Any) -> None:
        """Replace, add or remove one value somewhere in a mapping or list."""
        places = list(node) if isinstance(node, dict) else list(range(len(node)))
        if isinstance(node, dict) and self.choice.random() < 0.1:
            places.append("unknown")
        if not places:
            return
        place = self.choice.choice(places)
        inner = node.get(place) if isinstance(node, dict) else node[place]
        if isinstance(inner, dict | list) and inner and self.choice.random() < 0.8:
            self._put(inner)
        elif isinstance(node, dict) and self.choice.random() < 0.15:
            node.pop(place, None)
        else:
            node[place] = self.choice.choice(JUNK)

    def overrides(self) -> list[str]:
        """Return settings for a command line."""
        return [
            f"{self.choice.choice(OVERRIDES)}={self.choice.choice(VALUES)}"
            for _ in range(self.choice.choice([1, 1, 2, 3]))
        ]

    def deepspeed(self) -> str:
        """Return a DeepSpeed file with some wrong values."""
        zero = {"stage": 2, "reduce_bucket_size": 5e8, "offload_optimizer": {"device": "cpu"}}
        content: dict[str, Any] = {
            "train_micro_batch_size_per_gpu": "auto", "gradient_clipping": "auto",
            "bf16": {"enabled": "auto"}, "fp16": {"enabled": False}, "zero_optimization": zero,
            "data_types": {"grad_accum_dtype": "auto"}, "steps_per_print": 100,
        }  # fmt: skip
        for _ in range(self.choice.choice([0, 1, 1, 2])):
            self._put(content)
        text = json.dumps(content)
        if self.choice.random() < 0.2:
            start = self.choice.randrange(len(text))
            text = (
                text[:start] + self.choice.choice(['"', "{", "NaN", ",", "\\ud800"]) + text[start:]
            )
        return text


def apply(edit: list[Any], run: Path) -> None:
    """Carry out one change; what is not there any more cannot be changed."""
    kind, name, *rest = edit
    path = run / name
    with contextlib.suppress(OSError):
        if kind == "write":
            path.write_text(rest[0])
        elif kind == "splice":
            start, end, new = rest
            content = path.read_bytes()
            path.write_bytes(content[:start] + bytes.fromhex(new) + content[end:])
        elif kind == "copy":
            _remove(run / rest[0])
            copy = shutil.copytree if path.is_dir() else shutil.copyfile
            copy(path, run / rest[0])
        else:
            _remove(path)
            if kind == "folder":
                path.mkdir()
            elif kind == "loop":
                path.symlink_to(path.name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class WouldTrain(BaseException):
    """A command got as far as starting processes."""


def tree(folder: Path) -> dict[str, bytes | None]:
    """Return everything below a folder, but for the files that are locked."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = str(path.readlink()).encode()
        elif not path.name.endswith(".lock"):
            found[str(path)] = path.read_bytes() if path.is_file() else None
    return found


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise ``TimeoutError`` where the block takes more processor time."""

    def late(number: int, frame: object) -> None:
        raise TimeoutError(f"took more than {seconds} s of the processors")

    previous = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def answer(arguments: list[str], run: Path) -> str | None:
    """Run a command in this process; return what is wrong with its answer, None if nothing is."""
    before = tree(run) if run.is_dir() else None
    said, trouble = io.StringIO(), io.StringIO()
    sys_argv, launched = sys.argv, launch.launch

    def would_train(*_: object) -> int:
        raise WouldTrain

    sys.argv, launch.launch = ["convbert", *arguments], would_train  # type: ignore[assignment]
    code: object = 0
    try:
        with (
            limited(SECONDS),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(trouble),
        ):
            code = cli.main()
    except WouldTrain:
        return None
    except SystemExit as ended:
        code = ended.code
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error!s:.300} ({where.filename}:{where.lineno})"
    finally:
        sys.argv, launch.launch = sys_argv, launched
    lines = trouble.getvalue().splitlines()
    if code == 2 and lines and "Usage:" not in lines[0]:
        errors = [line for line in lines if line.startswith("error: ")]
        if len(errors) != 1 or errors[0] != lines[-1] or len(errors[0]) < 20:
            return f"not one line of error: {lines[-3:]}"
        if arguments[0] != "track" and before is not None and tree(run) != before:
            return f"was refused and changed the run: {errors[0]}"
    return None
