"""``convbert watch``: the page of runs on a port of this machine alone, made anew at each look."""

import http.server
import ipaddress
import logging
import secrets
import socket
import socketserver
import sys
import threading
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from convbert.models.errors import UserError
from convbert.pretrain.report.live import samples_of
from convbert.pretrain.report.page import Live, render, require_distinct
from convbert.pretrain.report.runs import ReportRun, RunReader
from convbert.pretrain.run.claim import claimed_by_training

logger = logging.getLogger(__name__)

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


class Watch:
    """The page of one run or several, as their directories say now."""

    def __init__(self, paths: Sequence[Path], refresh: float) -> None:
        """Look again every ``refresh`` seconds; raises ``UserError`` for what is no run."""
        require_distinct(paths)
        self._readers = [RunReader(path) for path in paths]
        self._refresh = refresh
        self._lock = threading.Lock()  # a browser asks from several threads

    def page(self) -> str:
        """Return the page; raises ``UserError`` for what is damaged."""
        with self._lock:
            runs = [reader.read() for reader in self._readers]
        states = list(dict.fromkeys(map(state_of, runs)))
        live = Live(", ".join(states), self._refresh)
        return render(runs, live=live, samples=samples_of(runs[0]) if len(runs) == 1 else None)


def state_of(run: ReportRun) -> str:
    """Say what a run does, as far as its directory tells."""
    if run.newest is not None and run.newest.step == run.steps:
        return "finished"
    try:
        return "training" if claimed_by_training(run.path) else "not training"
    except OSError:  # the lock belongs to another user
        return "unfinished"


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Serves one page at ``url``, whose secret path keeps other users of the machine out."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, watch: Watch, host: str, port: int) -> None:
        """Listen on ``port``, 0 for a free one; raises ``UserError`` where that is not possible."""
        self.watch = watch
        self.path = f"/{secrets.token_urlsafe(9)}/"
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise UserError(
                f"--port {port}: cannot be used ({error.strerror}); leave it out to get a free one"
            ) from None
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.server_port}{self.path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say in a line what went wrong, unless it is a browser that left."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            logger.warning("a look was not answered (%s: %s)", type(error).__name__, error)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        """Answer with the page, or with what is wrong with the run, which may pass."""
        # A page elsewhere may give this address a name of its own, and read along.
        if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in LOCAL_NAMES:
            return self._answer(HTTPStatus.FORBIDDEN, "text/plain", "only by the name of localhost")
        if self.path != self.server.path:
            return self._answer(HTTPStatus.NOT_FOUND, "text/plain", "no such page")
        try:
            self._answer(HTTPStatus.OK, "text/html", self.server.watch.page())
        except (OSError, UserError) as error:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"{error}\n", refresh=True)

    def _answer(self, status: HTTPStatus, kind: str, text: str, *, refresh: bool = False) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        if refresh:
            self.send_header("Refresh", "5")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing for each look."""


def require_loopback(host: str) -> str:
    """Return the address of ``host``; raises ``UserError`` unless only this machine reaches it."""
    address = "127.0.0.1" if host == "localhost" else host
    try:
        local = ipaddress.ip_address(address).is_loopback
    except ValueError:
        local = False
    if not local:
        raise UserError(
            f"--host {host}: other machines would reach it, and nothing asks them who they are; "
            "leave it out, and from elsewhere use ssh -L PORT:127.0.0.1:PORT"
        )
    return address
