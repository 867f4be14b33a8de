"""The curve's picture shows what its data says, and its points reach the tracker."""

import matplotlib.image
import numpy as np
import pytest

from convbert.pretrain.evaluation.publishing import publish_curve
from convbert.pretrain.report.curve import BLUE, GREEN, VERMILION, draw_curve
from convbert.pretrain.run.curve import Curve, Level, Point, Spread
from convbert.pretrain.tracking.metrics_log import read_records
from convbert.pretrain.tracking.records import ArtifactRecord, CurvePoint
from convbert.pretrain.tracking.tracker import open_tracker


def spread(*scores):
    middle = sorted(scores)[len(scores) // 2]
    return Spread(median=middle, low=min(scores), high=max(scores), scores=list(scores))


def curve(flops=(4e12, 1.6e13, 6.4e13)):
    points = [
        Point(
            step=100 * i, flops=x, spread=spread(0.6 + 0.03 * i, 0.62 + 0.03 * i, 0.61 + 0.03 * i)
        )
        for i, x in enumerate(flops, start=1)
    ]
    baseline = spread(0.58, 0.6, 0.59)
    words = Level(name="TF-IDF", spread=spread(0.65))
    return Curve(
        run="tiny", task="mood", metric="accuracy", baseline=baseline, points=points, lexical=words
    )


def rows_of(pixels, color):
    """Return the picture rows that contain exactly this color."""
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    hits = np.abs(pixels[..., :3] - rgb).max(axis=-1) < 0.01
    return np.flatnonzero(hits.any(axis=1)), np.flatnonzero(hits.any(axis=0))


def test_the_picture_shows_a_rising_line_above_its_baseline(tmp_path):
    draw_curve(curve(), tmp_path / "curve.png")
    pixels = matplotlib.image.imread(tmp_path / "curve.png")
    assert pixels.shape[:2] == (462, 792)
    body = pixels[:, 105:]
    line_rows, line_columns = rows_of(body, BLUE)
    base_rows, base_columns = rows_of(body, VERMILION)
    assert np.ptp(line_columns) > 480
    assert np.ptp(base_columns) > 480
    assert line_rows.max() < base_rows.max()  # row 0 is the top
    words_rows, words_columns = rows_of(body, GREEN)
    assert np.ptp(words_columns) > 480
    assert line_rows.min() < words_rows.max() < base_rows.max()
    draw_curve(curve().model_copy(update={"lexical": None}), tmp_path / "curve.png")
    assert not len(rows_of(matplotlib.image.imread(tmp_path / "curve.png"), GREEN)[0])


@pytest.mark.parametrize("flops", [(3e18,), (1e9, 1e21)])
def test_one_point_and_a_wide_range_can_be_drawn(tmp_path, flops):
    draw_curve(curve(flops), tmp_path / "curve.png")
    assert matplotlib.image.imread(tmp_path / "curve.png").std() > 0


def test_an_undefined_measure_leaves_no_line(tmp_path):
    undefined = Spread.of([0.6, float("nan")])
    points = [Point(step=1, flops=1e12, spread=undefined)]
    draw_curve(curve().model_copy(update={"points": points}), tmp_path / "some.png")
    rows, _ = rows_of(matplotlib.image.imread(tmp_path / "some.png")[:, 105:], BLUE)
    assert not rows.size
    nothing = curve().model_copy(update={"points": points, "baseline": undefined})
    draw_curve(nothing, tmp_path / "none.png")
    rows, _ = rows_of(matplotlib.image.imread(tmp_path / "none.png")[:, 105:], VERMILION)
    assert not rows.size


def test_publishing_keeps_the_data_beside_the_picture_and_logs_all(tmp_path):
    run_dir = tmp_path / "run"
    tracker = open_tracker(
        run_dir,
        enabled=True,
        experiment="e",
        run_name="tiny",
        tracking_uri="off",
        params={},
        tags={},
        resume_step=None,
    )
    drawn = curve()
    picture = publish_curve(drawn, run_dir / "report", tracker)
    tracker.close("FINISHED")
    assert picture == run_dir / "report" / "curve.png"
    stored = Curve.model_validate_json((run_dir / "report" / "curve.json").read_bytes())
    assert stored == drawn
    records = list(read_records(run_dir / "metrics.jsonl"))
    points = [r for r in records if isinstance(r, CurvePoint)]
    assert [(p.curve, p.flops, p.value) for p in points] == [
        ("mood/accuracy", 0.0, 0.59),
        ("mood/accuracy", 4e12, pytest.approx(0.64)),
        ("mood/accuracy", 1.6e13, pytest.approx(0.67)),
        ("mood/accuracy", 6.4e13, pytest.approx(0.70)),
    ]
    assert points[1].extra["scores"] == drawn.points[0].spread.scores
    assert [(p.extra["lexical"], p.extra["lexical_name"]) for p in points] == [(0.65, "TF-IDF")] * 4
    files = [r.artifact for r in records if isinstance(r, ArtifactRecord)]
    assert files == ["report/curve.json", "report/curve.png"]


def test_a_run_may_be_called_what_is_no_formula(tmp_path):
    draw_curve(curve().model_copy(update={"run": "cost$_$2"}), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").is_file()
