"""Where a trace is asked for that no update of a run belongs to, the run says so."""

import logging
from pathlib import Path

import pytest

from convbert.pretrain.settings.profile import ProfileConfig
from convbert.pretrain.training.profiling import ProfileWindow


@pytest.mark.parametrize(("step", "total"), [(4, 100), (0, 5), (0, 3)])
def test_a_window_that_is_never_traced_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, step: int, total: int
) -> None:
    with caplog.at_level(logging.WARNING):
        ProfileWindow(ProfileConfig(start=3, steps=3), tmp_path).begin(step, total)
    (said,) = caplog.messages
    assert said.startswith("profile={start: 3, steps: 3}: is not traced, since updates ")


def test_nothing_is_said_of_a_window_to_come_or_traced_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    window = ProfileWindow(ProfileConfig(start=3, steps=3), tmp_path)
    window.begin(2, 6)
    (tmp_path / "trace-00000003.json.gz").touch()
    window.begin(9, 100)
    ProfileWindow(None, tmp_path).begin(0, 1)
    assert caplog.messages == []
