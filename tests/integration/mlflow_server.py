"""A real ``mlflow server``, for tests that kill, stop or look at it."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request


def free_port():
    """Return a port that nothing uses, below those that the system gives to others meanwhile."""
    while True:
        port = random.randrange(10_000, 32_768)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


class Server:
    """An ``mlflow server`` in its own process group, on a port of its own, by default on SQLite.

    ``options`` takes the place of where things are kept, ``environment`` is added to ours.
    """

    def __init__(self, folder, options=None, environment=None):
        self.folder = folder
        self.environment = {**os.environ, **(environment or {})}
        self.options = options or [
            "--workers=1",
            f"--backend-store-uri=sqlite:///{folder}/server.db",
            f"--artifacts-destination={folder / 'artifacts'}",
        ]
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self):
        command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1"]
        command += [f"--port={self.port}", *self.options]
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=self.environment
            )
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=10):
                    return
            except OSError:
                time.sleep(0.3)
        raise AssertionError((self.folder / "server.log").read_text()[-2000:])

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()
