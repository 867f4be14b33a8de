"""A window of ``torch.profiler`` over some updates, on request."""

from pathlib import Path

import torch

from convbert.pretrain.settings.profile import ProfileConfig


class ProfileWindow:
    """Traces the updates of a window and writes ``trace-STEP.json.gz``, a Chrome trace.

    Call ``at`` with the number of finished updates; without ``config`` it does nothing.
    """

    def __init__(self, config: ProfileConfig | None, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._running: torch.profiler.profile | None = None

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
        assert self._config is not None
        assert self._running is not None
        self._running.stop()
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"trace-{self._config.start:08d}.json.gz"
        self._running.export_chrome_trace(str(path))
        self._running = None
        return path
