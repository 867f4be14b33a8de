"""A window of ``torch.profiler`` over some updates, on request."""

import logging
from pathlib import Path

import torch

from convbert.pretrain.settings.profile import ProfileConfig

log = logging.getLogger(__name__)


class ProfileWindow:
    """Traces the updates of a window and writes ``trace-STEP.json.gz``, a Chrome trace.

    Call ``begin``, then ``at``, with the number of finished updates; without ``config`` they do
    nothing.
    """

    def __init__(self, config: ProfileConfig | None, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._running: torch.profiler.profile | None = None

    def begin(self, step: int, total: int) -> None:
        """Begin at update ``step`` of ``total``; warn where these do not hold the whole window."""
        if self._config is None:
            return
        first, count = self._config.start, self._config.steps
        if not step <= first <= total - count and not self._path.exists():
            log.warning(
                f"profile={{start: {first}, steps: {count}}}: is not traced, since updates {step} "
                f"to {total - 1} are trained; give a start among them"
            )
        self.at(step)

    def at(self, step: int) -> Path | None:
        """Begin or end the trace at the configured updates; return the file once it is written."""
        if self._config is None:
            return None
        if self._running is None and step == self._config.start:
            activities = [torch.profiler.ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(torch.profiler.ProfilerActivity.CUDA)
            self._running = torch.profiler.profile(activities=activities, profile_memory=True)
            self._running.start()
        elif self._running is not None and step >= self._config.start + self._config.steps:
            return self._write()
        return None

    def _write(self) -> Path:
        assert self._running is not None
        self._running.stop()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._running.export_chrome_trace(str(self._path))
        self._running = None
        return self._path

    @property
    def _path(self) -> Path:
        assert self._config is not None
        return self._folder / f"trace-{self._config.start:08d}.json.gz"
