"""Two real processes that train a small model under many engine configurations in one start.

``python engines.py FOLDER [BACKEND]``, started by ``run_cases`` with a rank in the environment.
Every case is a mapping: ``deepspeed`` (a name in ds_configs), ``precision``, ``optimizer`` (fields
of its settings), ``accumulation``, ``checkpointing``, ``steps``, ``width``, ``rows`` per process,
``model`` (overrides of its preset), ``zero`` and ``fp16`` (keys of those sections of the
configuration), ``dropout`` (another rate), ``graphs`` (treat gradients as
if CUDA graphs were replayed), ``memory`` (return the most that is allocated, instead of losses),
``reload`` (a step before which the state goes through a checkpoint into a new engine) and
``new_stage`` for that engine.
"""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

LENGTH, VOCABULARY = 32, 300


def run_cases(
    folder: Path, cases: dict[str, dict[str, Any]], processes: int = 2, backend: str | None = None
) -> dict[str, Any]:
    """Run all cases and return, by name, what each recorded.

    With ``backend`` gloo all processes share the first GPU, if there is one.
    """
    from torch.distributed import TCPStore

    (folder / "cases.json").write_text(json.dumps(cases))
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        **os.environ,
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "OMP_NUM_THREADS": "1",
    }
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder), *([backend] if backend else [])],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": "0" if backend else str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        outputs = [worker.communicate(timeout=580)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert not any(worker.returncode for worker in workers), "\n".join(outputs)[-6000:]
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


def _objective(case: dict[str, Any]) -> Any:
    import torch

    from convbert.models.encoder import Encoder
    from convbert.models.presets import preset
    from convbert.models.pretraining import build_model
    from convbert.pretrain.objective.losses import build_objective
    from convbert.pretrain.settings.objective import ObjectiveConfig

    torch.manual_seed(0)
    width = case.get("width", 32)
    shape = {"num_layers": 1, "hidden_size": width, "embedding_size": width, "num_heads": 2}
    if "dropout" in case:
        shape |= dict.fromkeys(("hidden_dropout", "attention_dropout"), case["dropout"])
    model = build_model(preset("tiny", vocab_size=VOCABULARY, **(shape | case.get("model", {}))))
    for module in model.modules():
        if isinstance(module, Encoder):
            module.gradient_checkpointing = case.get("checkpointing", False)
    return build_objective(model, ObjectiveConfig())


def _engine(case: dict[str, Any], stage: str) -> Any:
    from convbert.pretrain.engine.assembly import build_engine
    from convbert.pretrain.settings.deepspeed import (
        load_deepspeed_config,
        resolve_deepspeed_config,
    )
    from convbert.pretrain.settings.optimizer import OptimizerConfig

    accumulation = case.get("accumulation", 1)
    config = resolve_deepspeed_config(
        load_deepspeed_config(stage),
        precision=case.get("precision", "fp32"),
        micro_batch=case.get("rows", 8) // accumulation,
        accumulation=accumulation,
        clip=case.get("clip", 1.0),
    )
    config["fp16"] |= case.get("fp16", {})
    config["zero_optimization"] |= case.get("zero", {})
    settings = OptimizerConfig(**case.get("optimizer", {}))
    engine, norms = build_engine(_objective(case), config, settings)
    engine.replays_graphs = case.get("graphs", False)
    return engine, norms


def _batch(step: int, rows: int, device: Any) -> Any:
    """Rows of a global batch that do not depend on the number of processes."""
    import torch
    import torch.distributed as dist

    from convbert.data_pipeline.loading.batch import Batch
    from convbert.pretrain.objective.masking import SpecialIds, mask_batch
    from convbert.pretrain.settings.objective import MaskingConfig

    rank = dist.get_rank()
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(5, VOCABULARY, (rows * dist.get_world_size(), LENGTH), generator=generator)
    ids = ids[rank * rows : (rank + 1) * rows]
    ones = torch.ones_like(ids)
    places = torch.arange(rank * rows, (rank + 1) * rows) + step * 1000
    batch = Batch(ids, torch.zeros_like(ids), ones, places, packed=False).to(device)
    return mask_batch(MaskingConfig(), SpecialIds(0, 2, 3, 4), 0, batch)


def _update(engine: Any, norms: Any, step: int, case: dict[str, Any]) -> dict[str, Any]:
    import torch
    import torch.distributed as dist

    from convbert.pretrain.objective.losses import Normalizers

    accumulation = case.get("accumulation", 1)
    rows = case.get("rows", 8)
    masked = _batch(step, rows, engine.device)
    counts = torch.stack([masked.valid_BM.sum(), (masked.document_ids_BL > 0).sum()]).float()
    dist.all_reduce(counts)
    counts = counts / (dist.get_world_size() * accumulation)
    norms.wanted = True
    sums = torch.zeros(8, device=engine.device)
    micro = rows // accumulation
    for index in range(accumulation):
        torch.manual_seed(step * 100 + dist.get_rank() * accumulation + index)
        part = masked.rows(index * micro, (index + 1) * micro)
        loss, statistics = engine.forward(part, Normalizers(counts[0], counts[1]))
        engine.backward(loss)
        sums += statistics
        kept = [p for p in engine.module.parameters() if p.grad is not None]
        assert not (engine.replays_graphs and kept), "the next replay overwrites these gradients"
    norm = float(engine.gradient_norm(case.get("rate", 1e-2)))
    engine.finish(apply=True)
    dist.all_reduce(sums)
    return {
        "loss": float(sums[0] / sums[2] + sums[3] / sums[4]),
        "norm": norm,
        "norms": norms.read(norm),
        "scale": engine.loss_scale.value,
        "skipped": engine.deepspeed.skipped_steps,
        "updates": engine.updates,
    }


def _through_a_checkpoint(folder: Path, engine: Any, case: dict[str, Any]) -> Any:
    """Save, build a new engine, perhaps of another stage, and restore into it."""
    from convbert.pretrain.checkpoints.saving import Checkpointer
    from convbert.pretrain.settings.run import RunConfig

    run = RunConfig()
    writer = Checkpointer(folder, run, engine)
    writer.save(1, {})
    writer.finish()
    engine, norms = _engine(case, case.get("new_stage", case["deepspeed"]))
    assert Checkpointer(folder, run, engine).restore() is not None
    return engine, norms


def _peaks(trace: Path) -> list[int]:
    """Return the most that each update of a Chrome trace allocates beyond what was before."""
    events = json.loads(trace.read_text())["traceEvents"]
    spans = [(e["ts"], e["ts"] + e["dur"]) for e in events if e["name"] == "update"]
    found = [(e["ts"], e["args"]["Total Allocated"]) for e in events if e["name"] == "[memory]"]
    at_first = min(found)[1]
    return [max(size for at, size in found if a <= at <= b) - at_first for a, b in sorted(spans)]


def _peak(folder: Path, case: dict[str, Any]) -> dict[str, float]:
    """Return what every update needs at its peak, by the profiler.

    The first allocates the moments. In a single one more can be live: a thread of gloo lets go of
    the buffers of its last collective when it gets the processor, or another collective.
    """
    import torch
    import torch.distributed as dist

    gc.collect()  # engines of earlier cases should not be freed in the middle of this one
    activities = [torch.profiler.ProfilerActivity.CPU]
    profile = torch.profiler.profile(activities=activities, profile_memory=True)
    profile.start()
    before = torch.empty(1)
    engine, norms = _engine(case, case["deepspeed"])
    for step in range(4):
        for _ in range(8):
            dist.barrier()
        with torch.profiler.record_function("update"):
            _update(engine, norms, step, case)
    profile.stop()
    path = folder / f"memory-{os.environ['RANK']}.json"
    profile.export_chrome_trace(str(path))
    count = sum(getattr(p, "ds_numel", p.numel()) for p in engine.module.parameters())
    del before
    peaks: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(peaks, min(_peaks(path)[1:]))
    return {"count": count, "peak": min(peaks)}


def main() -> None:
    """Run this process's part of every case."""
    import warnings

    from convbert.pretrain.engine.process_group import init_distributed

    warnings.simplefilter("ignore")

    folder = Path(sys.argv[1])
    init_distributed(backend=sys.argv[2] if len(sys.argv) > 2 else None)
    found: dict[str, Any] = {}
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        if case.get("memory"):
            found[name] = _peak(folder, case)
            continue
        engine, norms = _engine(case, case["deepspeed"])
        rows = []
        for step in range(case.get("steps", 3)):
            if step == case.get("reload"):
                engine, norms = _through_a_checkpoint(folder / name, engine, case)
            rows.append(_update(engine, norms, step, case))
        found[name] = rows
    if os.environ["RANK"] == "0":
        (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
