import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from convbert.data_pipeline.packing import build as building
from convbert.data_pipeline.packing.build import RowSettings, build_shards
from convbert.data_pipeline.segmentation import split_segments
from convbert.data_pipeline.shards.manifest import Manifest
from convbert.data_pipeline.shards.store import SequenceStore
from convbert.data_pipeline.shards.verify import verify_shards
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.data_pipeline.tokenizer.training import train_tokenizer
from convbert.models.errors import UserError

BUILD = """
import sys
from pathlib import Path
from convbert.data_pipeline.packing.build import RowSettings, build_shards

def main():
    corpus, tokenizer, folder = map(Path, sys.argv[1:4])
    def report(documents, characters):
        print(documents, flush=True)
    build_shards([corpus], tokenizer, folder, workers=2, report=report)

if __name__ == "__main__":
    main()
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def long_corpus(tmp_path_factory: pytest.TempPathFactory, documents: list[str]) -> Path:
    """Several chunks of text."""
    path = tmp_path_factory.mktemp("long") / "long.jsonl"
    with path.open("w") as file:
        for turn in range(6):
            for text in documents[turn:]:
                file.write(json.dumps({"text": f"{turn} {text}"}) + "\n")
    return path


@pytest.mark.parametrize("packing", ["electra", "full"])
def test_bytes_do_not_depend_on_the_workers(
    tmp_path: Path, long_corpus: Path, tokenizer_dir: Path, packing: str
) -> None:
    done: list[int] = []
    for workers in (1, 2):
        build_shards(
            [long_corpus],
            tokenizer_dir,
            tmp_path / str(workers),
            rows=RowSettings(32, packing, 200_000),  # type: ignore[arg-type]
            workers=workers,
            report=lambda documents, characters: done.append(documents),
        )
    one, two = contents(tmp_path / "1"), contents(tmp_path / "2")
    assert one == two
    assert len(one) > 9
    assert verify_shards(tmp_path / "1") == []
    manifest = Manifest.load(tmp_path / "1")
    assert len(done) >= 6  # both built several chunks
    assert sum(done) == 2 * manifest.num_documents


def test_the_manifest_counts_what_is_there(
    corpus: Path, shards_dir: Path, tokenizer_dir: Path, documents: list[str]
) -> None:
    manifest = Manifest.load(shards_dir)
    tokenizer = Tokenizer.load(tokenizer_dir)
    stored = SequenceStore(manifest, shards_dir).read([(0, manifest.num_sequences)])
    assert manifest.num_documents == len(documents)
    assert manifest.tokenizer_digest == tokenizer.digest
    assert manifest.num_tokens == np.count_nonzero(stored)
    segments = [s for text in documents for s in split_segments(text)]
    expected = [token for ids in tokenizer.encode_batch(segments) for token in ids]
    frame = (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id)
    assert stored[~np.isin(stored, frame)].tolist() == expected


def test_settings_change_the_digest(
    tmp_path: Path, corpus: Path, tokenizer_dir: Path, shards_dir: Path
) -> None:
    other = build_shards([corpus], tokenizer_dir, tmp_path / "other", rows=RowSettings(64, seed=1))
    assert other.digest != Manifest.load(shards_dir).digest


def test_an_empty_directory_may_be_built_into(
    tmp_path: Path, corpus: Path, tokenizer_dir: Path
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    build_shards([corpus], tokenizer_dir, folder)
    assert verify_shards(folder) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows": RowSettings(7)}, "seq_len=7: .* use 8 to 65536"),
        ({"folder": "full"}, "full: exists already; remove it or choose"),
        ({"tokenizer_path": Path("nowhere")}, r"nowhere: no tokenizer .*train one"),
        ({"inputs": ["nowhere.txt"]}, r"nowhere.txt: no such file"),
        ({"inputs": ["blank"]}, r"blank.txt: no text in 1 file"),
        ({"inputs": ["invisible"]}, "no tokens, only invisible characters; check"),
    ],
)
def test_unusable_input_is_refused_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    corpus: Path,
    tokenizer_dir: Path,
    settings: dict[str, object],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("blank", " \n\t\n"), ("invisible", "\u200b\u200b"), ("full", "text")):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.txt").write_text(text)
    before = sorted(tmp_path.rglob("*"))
    arguments = {
        "inputs": [corpus],
        "tokenizer_path": tokenizer_dir,
        **settings,
        "folder": tmp_path / str(settings.get("folder", "out")),
    }
    with pytest.raises(UserError, match=message) as refused:
        build_shards(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_tokenizer_that_another_replaces_meanwhile_is_refused(
    tmp_path: Path, tokenizer_dir: Path, documents: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    used = shutil.copytree(tokenizer_dir, tmp_path / "used")
    other = train_tokenizer(documents[:9], tmp_path / "other", vocab_size=400)

    def replacing(*_: object) -> Iterator[str]:
        shutil.copy(other.file, used)
        yield documents[0]

    monkeypatch.setattr(building, "iter_documents", replacing)
    with pytest.raises(UserError, match=r"tokenizer\.model: changed while it was in use .*start"):
        build_shards([tmp_path / "text.txt"], used, tmp_path / "shards")
    assert not (tmp_path / "shards").exists()


def test_a_full_disk_is_named_and_leaves_nothing(
    tmp_path: Path, corpus: Path, tokenizer_dir: Path
) -> None:
    """A limit on the size of files makes the system refuse to write, as a full disk does."""
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from convbert.data_pipeline.packing.build import RowSettings, build_shards\n"
        "corpus, tokenizer, folder = map(Path, sys.argv[1:4])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try:\n    build_shards([corpus], tokenizer, folder)\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", script, str(corpus), str(tokenizer_dir), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("UserError ")
    assert "out: cannot be written (File too large), nothing is kept; make room" in done.stdout
    assert os.listdir(tmp_path) == []


def group_members(group: int) -> list[int]:
    """Living processes of a group; zombies do not count."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(entry.parent.name))
    return found


def is_gone(group: int, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while group_members(group) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not group_members(group)


@pytest.fixture
def running_build(
    tmp_path: Path, long_corpus: Path, tokenizer_dir: Path
) -> Iterator[subprocess.Popen[str]]:
    """A build with two workers in a group of its own, after its first chunk."""
    script = tmp_path / "build.py"
    script.write_text(BUILD)
    output = tmp_path / "output"
    output.mkdir()
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for number in range(60):
        shutil.copyfile(long_corpus, inputs / f"{number}.jsonl")  # a link would not be read again
    command = [sys.executable, script, inputs, tokenizer_dir, output / "shards"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background job ignores Ctrl-C, and so would its children.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    yield process
    process.stdout.close()
    if group_members(process.pid):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.integration
def test_ctrl_c_leaves_no_directory_and_no_workers(
    running_build: subprocess.Popen[str], tmp_path: Path
) -> None:
    os.killpg(running_build.pid, signal.SIGINT)
    _, errors = running_build.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    assert "Process SpawnProcess" not in errors  # the workers do not print their own
    assert os.listdir(tmp_path / "output") == []
    assert is_gone(running_build.pid)


@pytest.mark.integration
def test_ctrl_c_between_two_chunks_ends_the_workers_too(
    tmp_path: Path, long_corpus: Path, tokenizer_dir: Path
) -> None:
    """The interruption is raised while the caller, and not the iterator, has the turn."""
    script = tmp_path / "build.py"
    script.write_text(BUILD.replace("print(documents, flush=True)", "raise KeyboardInterrupt"))
    output = tmp_path / "output"
    output.mkdir()
    command = [sys.executable, script, long_corpus, tokenizer_dir, output / "shards"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "KeyboardInterrupt" in ended.stderr
    assert os.listdir(output) == []


@pytest.mark.integration
def test_workers_end_when_the_build_is_killed(running_build: subprocess.Popen[str]) -> None:
    assert len(group_members(running_build.pid)) >= 3
    running_build.kill()
    assert is_gone(running_build.pid)


@pytest.mark.integration
def test_a_killed_worker_is_an_error_that_says_so(
    running_build: subprocess.Popen[str], tmp_path: Path
) -> None:
    workers = [pid for pid in group_members(running_build.pid) if is_worker(pid)]
    os.kill(workers[0], signal.SIGKILL)
    _, errors = running_build.communicate(timeout=30)
    assert "UserError: workers=2: one was killed, most likely for lack of memory" in errors
    assert os.listdir(tmp_path / "output") == []


def is_worker(pid: int) -> bool:
    return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
