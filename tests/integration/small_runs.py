"""Run directories with real records, written by the tracker and the report, without training."""

from convbert.pretrain.evaluation.publishing import publish_curve
from convbert.pretrain.report.page import write_report
from convbert.pretrain.run import metric_names
from convbert.pretrain.run.branches import FILE_NAME, Origin
from convbert.pretrain.run.curve import Curve, Level, Point, Spread
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.settings.recipes import resolve
from convbert.pretrain.tracking.records import NestedRun, now
from convbert.pretrain.tracking.tracked_run import DataInput
from convbert.pretrain.tracking.tracker import open_tracker

STEPS = (100, 200, 400, 800)


def spread(*scores):
    middle = sorted(scores)[len(scores) // 2]
    return Spread(median=middle, low=min(scores), high=max(scores), scores=list(scores))


def small_curve(name, medians, flops_per_step, base=0.55):
    points = [
        Point(step=s, flops=s * flops_per_step, spread=spread(m - 0.01, m, m + 0.008))
        for s, m in zip(STEPS, medians, strict=True)
    ]
    return Curve(
        run=name,
        task="mood",
        metric="accuracy",
        baseline=spread(base - 0.01, base, base + 0.01),
        points=points,
        lexical=Level(name="TF-IDF + logistic regression", spread=spread(0.68)),
    )


def log_seed(tracker, seed, curve):
    key = f"mood-{seed}"
    params = {"recipe.learning_rate": "0.0003", "seed": str(seed)}
    tracker.nested(NestedRun(key, f"mood, seed {seed}", now(), 40.0, params, {"task": "mood"}))
    for point in curve.points:
        score = point.spread.scores[seed]
        tracker.curve_point(point.flops, "mood/accuracy", score, within=key, step=point.step)


def small_run(
    path, uri, medians, flops_per_step=1e12, overrides=(), processes=2, every_metric=False
):
    """Write a run of 800 updates, of half a second each, whose curve has these medians.

    With ``every_metric`` it has all that training and held-out text are measured by.
    """
    config = resolve("tiny", ["steps=800", "schedule.warmup_steps=20", *overrides])
    run = RunDirectory(path)
    run.prepare(config)
    tracker = open_tracker(
        path,
        enabled=True,
        experiment="small runs",
        run_name=path.name,
        tracking_uri=uri,
        params={
            **{"model.preset": "tiny", "parameters": 1_882_626, "data": "news", "steps": 800},
            **{"global_batch": 32, "optimizer.learning_rate": 1e-3, "seed": config.seed},
        },
        tags={
            **{"mlflow.source.name": "convbert pretrain tiny", "recipe": "tiny", "model": "tiny"},
            **{"manifest": "0" * 64, "hardware": "2 x CPU (x86_64)", "precision": "fp32"},
        },
        resume_step=None,
        inputs=[
            DataInput(name="news", digest="5" * 64, source="news/manifest.json", context="training")
        ],
        sample_seconds=60.0,
    )
    for step in range(10, 801, 10):
        others = metric_names.of_updates("rtd") if every_metric else ()
        values = dict.fromkeys(others, 1 / step) | {
            "loss/total": 20 / step**0.3 + (step % 7) / 20,
            "speed/tokens_per_second": 4000.0 + step % 90,
            "speed/step_seconds": 5.0,
            "speed/processes": float(processes),
            "flops/hardware": step * flops_per_step * 0.8,
        }
        tracker.log(step, step * flops_per_step, values)
    if medians is not None:
        folder = path / "report" / "mood"
        publish_curve(small_curve(path.name, medians, flops_per_step), folder, tracker)
        tracker.artifact(write_report([path], folder / "curve.html"))
        for seed in range(3):
            log_seed(tracker, seed, small_curve(path.name, medians, flops_per_step))
    for file in (run.config_file, run.environment):
        tracker.artifact(file)
    for step in STEPS:
        value = 0.1 + step / 4000
        tracker.curve_point(step * flops_per_step, "held_out/accuracy", value, step=step)
        if every_metric:
            tracker.curve_point(step * flops_per_step, "held_out/loss/mlm", 4 - value, step=step)
    tracker.close("FINISHED")
    return path


FLOPS = 1e12  # of an update
HOURS = 0.5


def logged_run(path, steps, measures, origin=None, uri="off"):
    """Write a run that logged each of ``steps``, at half a process hour each, and measures."""
    RunDirectory(path).prepare(
        resolve("tiny", [f"steps={steps[-1]}", "schedule.warmup_steps=1", f"seed={path.name[-1]}"])
    )
    if origin:
        (path / FILE_NAME).write_text(origin.model_dump_json())
    tracker = open_tracker(
        path, enabled=True, experiment="e", run_name=path.name, tracking_uri=uri, params={},
        tags={}, resume_step=None,
    )  # fmt: skip
    for step in steps:
        values = {"loss/total": 5.0, "speed/step_seconds": HOURS * 1800, "speed/processes": 2.0}
        tracker.log(step, step * FLOPS, values)
    for step, loss in measures.items():
        tracker.curve_point(step * FLOPS, "held_out/loss/mlm", loss, step=step)
    tracker.close("FINISHED")
    return path


def branch_run(path, step, decay, measures, trunk="key", done=None, hours=True, uri="off"):
    """Write a run that branched off ``long-0`` beside it; ``done`` updates of its decay are."""
    origin = Origin(
        trunk="long", path=path.parent / "long-0", key=trunk, step=step, decay=decay,
        flops=step * FLOPS, end_flops=(step + decay) * FLOPS, hours=step * HOURS if hours else None,
        manifest="0" * 64,
    )  # fmt: skip
    steps = range(step + 1, step + (done or decay) + 1)
    return logged_run(path, steps, measures, origin, uri)
