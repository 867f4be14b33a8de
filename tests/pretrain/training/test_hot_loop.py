"""After its first update a compiled run compiles nothing, and our code reads the device once.

Also where the share of masked tokens and the temperature of the samples are others in every update.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

SETTINGS = [
    "steps=5",
    "global_batch=8",
    "micro_batch=4",
    "precision=fp32",
    "compile=true",
    "threads=1",
    "schedule.warmup_steps=2",
    "objective.masking.schedule={final: 0.3}",
    "objective.masking.temperature_schedule={final: 0.5}",
    "tracking.uri=off",
    "model.overrides={num_layers: 1, hidden_size: 32, embedding_size: 32, num_heads: 2}",
]
# What makes the host wait for a GPU.
READS = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__")


def test_a_compiled_run_compiles_once_and_reads_once_per_update(
    shards_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    command = [sys.executable, __file__, str(shards_dir), str(tokenizer_dir), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr
    updates = json.loads(done.stdout.splitlines()[-1])
    first, *later = updates
    assert first["graphs"] == 2, updates  # a layer of the generator, one of the discriminator
    assert len(later) == 4
    for update in later:
        assert update["graphs"] == 0, updates
        ours = {place: n for place, n in update["reads"].items() if place.startswith("convbert.")}
        assert ours == {"convbert.pretrain.training.totals: tolist": 1}, updates


class CountReads(TorchFunctionMode):
    """Counts the calls that read a tensor's values, by the module that makes them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        if name in READS and function is getattr(torch.Tensor, name, None):
            self.calls[f"{sys._getframe(1).f_globals['__name__']}: {name}"] += 1
        return function(*args, **(kwargs or {}))


def watch(shards: Path, tokenizer: Path, folder: Path) -> None:
    """Train in this process and print what every update compiled and read."""
    from torch._dynamo.backends.debugging import aot_eager
    from torch._dynamo.utils import counters

    from convbert.models.ops import compilation
    from convbert.pretrain.run.directory import RunDirectory
    from convbert.pretrain.settings.recipes import resolve
    from convbert.pretrain.training.stopping import StopRequest
    from convbert.pretrain.training.trainer import Trainer
    from convbert.pretrain.training.worker import train

    data = [f"data.manifest={shards / 'manifest.json'}", f"data.tokenizer={tokenizer}"]
    run = RunDirectory(folder / "run")
    run.prepare(resolve("tiny", [*SETTINGS, *data]))
    updates: list[dict[str, Any]] = []
    update = Trainer.update

    def watched(*args: Any, **kwargs: Any) -> Any:
        before = counters["stats"]["unique_graphs"]
        with CountReads() as reads:
            result = update(*args, **kwargs)
        graphs = counters["stats"]["unique_graphs"] - before
        updates.append({"graphs": graphs, "reads": reads.calls})
        return result

    Trainer.update = watched  # type: ignore[method-assign]
    # The whole way but for the C++ at its end, which takes long and recompiles nothing by itself.
    compilation.compile_fx = aot_eager
    with StopRequest() as stop:
        train(run.path, stop)
    print(json.dumps(updates))


if __name__ == "__main__":
    shards, tokenizer, folder = map(Path, sys.argv[1:4])
    watch(shards, tokenizer, folder)
