"""A run of two phases, on short and then on long rows, is one run."""

import gzip
import json
from pathlib import Path

import pytest
from forked import Zygote, kill_after

from convbert.data_pipeline.packing.build import RowSettings, build_shards

pytestmark = pytest.mark.integration


def records(run: Path) -> dict[int, dict[str, float]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {r["step"]: r["values"] for r in lines if "step" in r}


def test_killed_before_the_boundary_and_continued_on_one_process(
    zygote: Zygote, tmp_path: Path, corpus: Path, tokenizer_dir: Path
) -> None:
    build_shards([corpus], tokenizer_dir, tmp_path / "long", rows=RowSettings(128))
    change = f"start: 6, manifest: {tmp_path / 'long/manifest.json'}, global_batch: 4"
    settings = ("tracking.log_every=2", "micro_batch=2", f"phases=[{{{change}, micro_batch: 1}}]")
    zygote.finish(tmp_path / "whole", *settings, "profile={start: 9, steps: 3}")
    assert "step 12/12  loss" in (tmp_path / "whole/output.log").read_text()

    run = tmp_path / "killed"
    kill_after(zygote, run, 4, *settings)
    zygote.finish(run, *settings, "deepspeed=zero3", processes=1)

    whole, killed = records(tmp_path / "whole"), records(run)
    assert sorted(whole) == sorted(killed) == list(range(1, 13))
    same = ("loss/total", "optimizer/gradient_norm", "optimizer/learning_rate", "flops/electra")
    for step, values in whole.items():
        for key in same:
            assert killed[step][key] == pytest.approx(values[key], rel=1e-4), (step, key)
    first = [values["data/first_sequence"] for _, values in sorted(whole.items())]
    assert first == [*range(0, 48, 8), *range(48, 72, 4)]
    assert whole[12]["tokens"] == 6 * 8 * 64 + 6 * 4 * 128
    # What a report says beside the losses.
    parts = ("data", "forward", "backward", "optimizer", "checkpoint")
    for values in whole.values():
        spent = sum(values[f"time/{part}_seconds"] for part in parts)
        assert 0 < spent <= 1.2 * values["speed/step_seconds"]
        assert 0 < values["speed/mfu"] < 1.5
        assert values["memory/host_peak_bytes"] > 1e8
    reported = {step for step, values in whole.items() if "gradient_norm/generator" in values}
    assert reported == {2, 4, 6, 8, 10, 12}
    trace = json.loads(gzip.decompress((tmp_path / "whole/trace-00000009.json.gz").read_bytes()))
    assert any("addmm" in event.get("name", "") for event in trace["traceEvents"])
