"""Whatever a configuration or a run directory holds, commands answer, or refuse in one line.

``make fuzz`` goes on for its share of FUZZ_MINUTES from FUZZ_FIRST on and writes what fails to
``tests/integration/fuzz_seeds``, whose cases every later run tries first.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from forked import Zygote
from fuzzed_runs import Mutator, answer, apply, commands
from fuzzing import for_a_while

from convbert.cluster.records import Attempt, JobRecords
from convbert.pretrain.run.branches import FILE_NAME, Origin
from convbert.pretrain.run.curve import Curve, Level, Point, Spread
from convbert.pretrain.settings.recipes import load
from convbert.pretrain.tracking.metrics_log import hand_in
from convbert.pretrain.tracking.records import CurvePoint, NestedRun, now

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SEEDS = Path(__file__).with_name("fuzz_seeds")


@pytest.fixture(scope="module")
def sound(zygote: Zygote, shards_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a file of everything that a run directory can hold."""
    root = tmp_path_factory.mktemp("fuzz")
    run = root / "run"
    settings = ("steps=4", "checkpoint.every=2", "checkpoint.keep_last=2", "schedule.name=constant")
    held_out = f"evaluation.held_out={shards_dir / 'manifest.json'}"
    store = f"tracking.uri=sqlite:///{root / 'mlflow.db'}"
    zygote.finish(run, *settings, held_out, store, processes=1)
    spread = Spread.of([0.5, 0.6])
    points = [Point(step=step, flops=step * 1e9, spread=spread) for step in (2, 4)]
    lexical = Level(name="words", spread=spread)
    curve = Curve(run="run", task="t", metric="f1", baseline=spread, points=points, lexical=lexical)
    (run / "report" / "t").mkdir(parents=True)
    (run / "report" / "t" / "curve.json").write_text(curve.model_dump_json())
    hand_in(run, [NestedRun("t-0", "t, 0", now(), 1.0), CurvePoint("t/f1", now(), 1e9, 0.5)])
    jobs = JobRecords(run)
    jobs.submitted("7", "pretrain", run / "slurm" / "7.log")
    jobs.note(Attempt(job="7", restart=0, nodes=["n1"], begun=1.0, step=0, outcome="crashed"))
    jobs.exclude({"n1": "broken"})
    origin = Origin(
        trunk="long", path=root / "long", key="k", step=2, decay=2, flops=1.0, end_flops=2.0,
        hours=None, manifest="0" * 64,
    )  # fmt: skip
    (run / FILE_NAME).write_text(origin.model_dump_json())
    return run


def attempt(case: dict[str, Any], sound: Path, folder: Path) -> str | None:
    """Try a case in ``folder``, which is made anew; return what went wrong."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    run = folder / "run"
    shutil.copytree(sound, run)
    for edit in case["edits"]:
        apply(edit, run)
    (folder / "own.json").write_text(case["deepspeed"])
    if case["recipe"] is not None:
        (folder / "own.yaml").write_text(case["recipe"])
    arguments = [text.replace("FOLDER", str(folder)) for text in case["arguments"]]
    before = Path.cwd()
    os.chdir(folder)
    try:
        return answer(arguments, run)
    finally:
        os.chdir(before)


def drawn(sound: Path, number: int) -> dict[str, Any]:
    """Return case ``number``: half of them change a run directory, half a configuration."""
    mutator = Mutator(sound, number)
    case: dict[str, Any] = {"edits": [], "deepspeed": mutator.deepspeed(), "recipe": None}
    if number % 2:
        case["edits"] = mutator.edits()
        chosen = commands("FOLDER/run", "FOLDER/out", "FOLDER/run/config.yaml")
        case["arguments"] = mutator.choice.choice(chosen)
        return case
    content = load(sound / "config.yaml").model_dump(mode="json", exclude_defaults=True)
    for _ in range(mutator.choice.choice([0, 1, 1, 2])):
        mutator._put(content)
    case["recipe"] = yaml.safe_dump(content)
    command = mutator.choice.choice(["pretrain"] * 9 + ["plan"])
    place = ["--run-dir", "FOLDER/new"] if command == "pretrain" else []
    own = ["deepspeed=FOLDER/own.json"] if mutator.choice.random() < 0.4 else []
    more = mutator.overrides() if mutator.choice.random() < 0.7 else []
    case["arguments"] = [command, "FOLDER/own.yaml", *own, *more, *place]
    return case


def test_the_sound_run_is_answered(sound: Path, tmp_path: Path) -> None:
    for arguments in (["status", "FOLDER/run"], ["report", "FOLDER/run", "-o", "FOLDER/r.html"]):
        case = {"edits": [], "deepspeed": "{}", "recipe": None, "arguments": arguments}
        assert attempt(case, sound, tmp_path / "case") is None


@pytest.mark.parametrize("seed", sorted(SEEDS.glob("*.json")), ids=lambda path: path.stem)
def test_what_once_failed(sound: Path, tmp_path: Path, seed: Path) -> None:
    assert attempt(json.loads(seed.read_text()), sound, tmp_path / "case") is None


@pytest.mark.timeout(7200)
def test_no_traceback_for_a_while(sound: Path, tmp_path: Path) -> None:
    def check(number: int) -> None:
        case = drawn(sound, number)
        if problem := attempt(case, sound, tmp_path / "case"):
            SEEDS.mkdir(exist_ok=True)
            text = json.dumps(case, indent=1).replace(str(sound.parent), "FOLDER")
            (SEEDS / f"{number}.json").write_text(text)
            raise AssertionError(f"{' '.join(case['arguments'])} {case['edits']!s:.300}: {problem}")

    for_a_while(check)
