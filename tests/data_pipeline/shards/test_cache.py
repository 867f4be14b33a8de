"""Shards at an address: fetched once per node, checked, bounded; faults are named."""

import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest

from convbert.data_pipeline.loading import loader as loading
from convbert.data_pipeline.loading.loader import ShardLoader
from convbert.data_pipeline.shards import remote
from convbert.data_pipeline.shards.cache import BlockCache
from convbert.data_pipeline.shards.manifest import Manifest
from convbert.data_pipeline.shards.sources import CacheSettings, open_store
from convbert.data_pipeline.shards.store import SequenceStore
from convbert.data_pipeline.shards.verify import verify_shards
from convbert.models.errors import DamagedError, TransientError, UserError

Electra = tuple[Path, np.ndarray]

READ_ALL = """
import hashlib, sys
from pathlib import Path
from convbert.data_pipeline.shards.manifest import Manifest
from convbert.data_pipeline.shards.sources import CacheSettings, open_store
url, cache = sys.argv[1], CacheSettings(Path(sys.argv[2]))
manifest = Manifest.load(url)
store = open_store(url, manifest, cache)
digest = hashlib.sha256()
for first in range(0, manifest.num_sequences, 1024):
    digest.update(store.read([(first, min(first + 1024, manifest.num_sequences))]).tobytes())
print(digest.hexdigest())
"""


class Server(ThreadingHTTPServer):
    """Serves a folder with range requests, as object stores do, and counts what it sends."""

    def __init__(self, folder: Path) -> None:
        self.sent: Counter[tuple[str, str]] = Counter()
        self.knows_ranges = True
        self.answers = threading.Event()
        self.answers.set()
        super().__init__(("127.0.0.1", 0), lambda *args: Handler(*args, directory=str(folder)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(SimpleHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return self.send_error(404)
        wanted = self.headers.get("Range", "")
        content = path.read_bytes()
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted) if self.server.knows_ranges else None
        if found and int(found[1]) >= len(content):
            return self.send_error(416)
        self.server.sent[path.name, wanted] += 1
        self.server.answers.wait()
        if found:
            content = content[int(found[1]) : int(found[2] or len(content)) + 1]
        self.send_response(206 if found else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again sooner than a run does."""
    monkeypatch.setattr(remote, "_FIRST_WAIT_SECONDS", 0.02)


@pytest.fixture
def serve() -> Iterator[Callable[[Path], Server]]:
    servers = []

    def start(folder: Path) -> Server:
        server = Server(folder)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def store_of(place: str, cache: Path, gigabytes: float = 1.0) -> SequenceStore:
    return open_store(place, Manifest.load(place), CacheSettings(cache, gigabytes))


def entries(cache: Path) -> list[Path]:
    return sorted((cache / "entries").iterdir())


def test_four_processes_of_a_node_fetch_every_block_once(
    electra: Electra, tmp_path: Path, serve: Callable[[Path], Server]
) -> None:
    folder, rows = electra
    server = serve(folder)
    command = [sys.executable, "-c", READ_ALL, server.url, str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    digests = {process.communicate(timeout=120)[0] for process in running}
    assert len(digests) == 1
    assert store_of(server.url, tmp_path / "cache").read([(0, 5000)]).tolist() == rows.tolist()
    fetched = {key: n for key, n in server.sent.items() if key[0] != "manifest.json"}
    assert set(fetched.values()) == {1}
    blocks = sum(name.endswith(".tar") for name, _ in fetched)
    assert blocks == -(-5000 // 512)
    assert all(wanted for name, wanted in fetched if name.endswith(".tar"))


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_the_loader_reads_the_same_at_any_address(
    electra: Electra, tmp_path: Path, kind: str
) -> None:
    folder, _ = electra
    address = f"file://{folder}"
    if kind == "memory":
        address = "memory://bucket/shards/manifest.json"
        for path in folder.iterdir():
            fsspec.filesystem("memory").pipe(f"/bucket/shards/{path.name}", path.read_bytes())
    local = ShardLoader(folder, global_batch=384)
    remote = ShardLoader(address, global_batch=384, cache=CacheSettings(tmp_path / "cache", 1))
    ahead = remote.iterate(3)
    for step in range(3, 20):
        assert next(ahead).input_ids.equal(local.batch(step).input_ids)
    remote.close()


def test_the_cache_keeps_its_limit_and_the_blocks_used_last(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 100_000)
    fetched: list[str] = []

    def fetch(keys: object) -> list[bytes | UserError]:
        fetched.extend(keys)  # type: ignore[arg-type]
        return [key.encode() * 1000 for key in keys]  # type: ignore[attr-defined]

    for number in range(60):
        cache.get("group", [f"{number:05d}", "00000"], fetch)
        assert sum(path.stat().st_size for path in entries(tmp_path)) <= 100_000
    assert sorted(fetched) == [f"{number:05d}" for number in range(60)]
    assert {"00000", "00059"} <= {path.name for path in entries(tmp_path)}
    with pytest.raises(UserError, match=r"100,000 bytes; raise data\.cache_gigabytes"):
        cache.get("group", [f"x{number:04d}" for number in range(19)], fetch)


def test_a_block_damaged_in_the_cache_is_fetched_again(
    electra: Electra, tmp_path: Path, serve: Callable[[Path], Server]
) -> None:
    folder, rows = electra
    server = serve(folder)
    store_of(server.url, tmp_path).read([(0, 1024)])
    for path in entries(tmp_path):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert np.array_equal(store_of(server.url, tmp_path).read([(0, 1024)]), rows[:1024])
    assert {n for (name, _), n in server.sent.items() if name.startswith("shard-000000")} == {2}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3000] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda shard: flip(shard), r"/shard-000000.tar: member 0.*npy is damaged .*; copy"),
        (lambda shard: os.truncate(shard, 9000), r"/shard-000000.tar: ends inside member .*; copy"),
        (lambda shard: os.truncate(shard, 100), r"/shard-000000.tar: ends inside member .*; copy"),
        (lambda shard: shard.unlink(), r"/shard-000000.tar: is missing; copy the shard again"),
        (
            lambda shard: shard.with_name("shard-000000.index.json").unlink(),
            r"/shard-000000.index.json: missing; copy it again",
        ),
        (
            lambda shard: shard.with_name("shard-000000.index.json").write_text("{}"),
            r"/shard-000000.index.json: is not the index this manifest was built with; copy",
        ),
    ],
)
def test_damage_at_the_address_is_named_and_never_kept(
    spoilable: Path,
    tmp_path: Path,
    serve: Callable[[Path], Server],
    damage: Callable[[Path], None],
    message: str,
) -> None:
    damage(spoilable / "shard-000000.tar")
    store = store_of(serve(spoilable).url, tmp_path / "cache")
    with pytest.raises(DamagedError, match=message):
        store.read([(0, 512)])
    assert not [path for path in entries(tmp_path / "cache") if path.name.endswith(".npy")]
    assert store.read([(3900, 4000)]).shape == (100, 16)


def test_a_server_that_is_silent_does_not_hold_up_the_end(
    electra: Electra,
    tmp_path: Path,
    serve: Callable[[Path], Server],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "_PATIENCE_SECONDS", 0.1)
    server = serve(electra[0])
    loader = ShardLoader(server.url, global_batch=100, cache=CacheSettings(tmp_path, 1.0))
    server.answers.clear()
    loader.iterate()
    while server.sent.total() < 2:  # the manifest, and then an index
        time.sleep(0.01)
    start = time.monotonic()
    loader.close()
    assert time.monotonic() - start < 5
    server.answers.set()


def test_what_is_no_damage_says_what_to_do(
    electra: Electra, tmp_path: Path, serve: Callable[[Path], Server]
) -> None:
    server = serve(electra[0])
    store = store_of(server.url, tmp_path / "cache")
    server.knows_ranges = False
    with pytest.raises(UserError, match="whole files when asked for a part; use one that knows"):
        store.read([(0, 512)])
    server.shutdown()
    server.server_close()
    with pytest.raises(TransientError, match=r"cannot be fetched \(.*\); check the address"):
        store.read([(0, 512)])
    with pytest.raises(UserError, match=r"nosuchstore://.*: cannot be used \(.*; check"):
        Manifest.load("nosuchstore://bucket/shards")
    with pytest.raises(UserError, match="are checked as they are read; verify a copy on a disk"):
        verify_shards(f"file://{electra[0]}")


def test_a_lock_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "fetch-group.lock").mkdir()
    with pytest.raises(UserError, match=r"cannot be used \(Is a directory\); set data\.cache"):
        BlockCache(tmp_path, 100).get("group", ["key"], lambda keys: [b""])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_an_error_that_says_so_and_leaves_no_part(
    electra: Electra, tmp_path: Path
) -> None:
    folder, rows = electra
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", disk], check=True)
    try:
        store = store_of(f"file://{folder}", disk / "cache")
        with pytest.raises(UserError, match=r"the shard cache is full .* lower data\.cache"):
            store.read([(0, 5000)])
        kept = [path for path in entries(disk / "cache") if "-" in path.name]
        assert {path.stat().st_size for path in kept} == {512 + 128 + 512 * 32}
        # With a limit that the disk has room for, the same disk serves.
        small = store_of(f"file://{folder}", disk / "cache", 60_000 / 1e9)
        for first in range(0, 4608, 512):
            assert np.array_equal(small.read([(first, first + 512)]), rows[first : first + 512])
    finally:
        subprocess.run(["umount", disk], check=True)
