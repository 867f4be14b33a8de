"""A finished build is finished until what it was made from changes, and then it is made anew."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convbert.data_pipeline.corpus_build import build as building
from convbert.data_pipeline.corpus_build import clean
from convbert.data_pipeline.corpus_build.build import build_corpus
from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
from convbert.data_pipeline.corpus_build.progress import BuildProgress
from convbert.data_pipeline.corpus_build.report import CorpusReport
from convbert.data_pipeline.shards.manifest import Manifest
from convbert.data_pipeline.shards.verify import verify_shards
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.data_pipeline.tokenizer.training import train_tokenizer
from convbert.models.errors import AbsentError, UserError

FILES = 3
QUESTION = "where did the old ferry land before the stone bridge was at last built there"


class Corpus:
    """A small corpus of ``FILES`` files in a directory, and its build."""

    def __init__(self, folder: Path, tokenizer: Path, documents: list[str]) -> None:
        self.out, self.raw, self.questions = folder / "out", folder / "raw", folder / "test.txt"
        self.tokenizer = folder / "tokenizer"
        shutil.copytree(tokenizer, self.tokenizer)
        self.raw.mkdir()
        long = dict.fromkeys(text[:600] for text in documents if len(text) > 600)
        self.texts = list(long)[: 4 * FILES]
        for number in range(FILES):
            self.write(number, self.texts[4 * number : 4 * number + 4])
        self.questions.write_text(QUESTION)
        self.settings: dict[str, Any] = {
            "inputs": [str(self.raw)],
            "filters": {"language": None, "gopher": None, "repetition": None},
            "cleaning": None,
            "dedup": {"mode": "exact"},
            "decontamination": {"files": [str(self.questions)]},
            "tokenizer": {"path": str(self.tokenizer)},
            "shards": {"seq_len": [32]},
            "split_megabytes": 0.002,  # a task for each file
        }

    def write(self, number: int, texts: list[str]) -> Path:
        path = self.raw / f"{number}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        return path

    def build(self, **options: Any) -> CorpusReport:
        config = BuildConfig.model_validate(self.settings)
        with BuildProgress() as progress:
            return build_corpus(config, self.out, progress, workers=1, **options)

    def documents(self) -> int:
        """Count the documents of the shards on the disk, which must be whole."""
        assert verify_shards(self.out / "shards-32") == []
        return Manifest.load(self.out / "shards-32").num_documents or 0

    def made(self, step: str) -> dict[Path, int]:
        files = (p for p in (self.out / "work" / step).rglob("*") if p.is_file())
        return {path: path.stat().st_mtime_ns for path in files}


@pytest.fixture
def small(tmp_path: Path, tokenizer_dir: Path, documents: list[str]) -> Corpus:
    small = Corpus(tmp_path, tokenizer_dir, documents)
    small.build(keep_work=True)
    assert small.documents() == 12
    return small


def said(caplog: pytest.LogCaptureFixture) -> str:
    """Return the one line that was logged."""
    (record,) = caplog.records
    caplog.clear()
    return record.getMessage()


def test_nothing_is_done_if_nothing_but_a_time_changed(
    small: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    before = (small.out / "report.json").stat().st_mtime_ns
    for path in (small.raw / "1.jsonl", small.questions):
        os.utime(path, (1, 1))
    assert small.build().shards[0].documents == 12
    assert (small.out / "report.json").stat().st_mtime_ns == before
    assert not caplog.records


def test_an_input_more_less_or_rewritten_is_in_the_shards(
    small: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    cleaned = small.made("clean")
    small.write(3, ["A text that was not there before."])
    assert small.build(keep_work=True).shards[0].documents == small.documents() == 13
    assert f"1 input added ({small.raw / '3.jsonl'}); built again" in said(caplog)
    assert cleaned.items() < small.made("clean").items()  # what was clean was not cleaned again

    (small.raw / "0.jsonl").unlink()
    (small.raw / "1.jsonl").unlink()
    assert small.build(keep_work=True).shards[0].documents == small.documents() == 5
    assert "2 inputs removed (" in said(caplog)

    path = small.raw / "2.jsonl"
    size, digest = path.stat().st_size, Manifest.load(small.out / "shards-32").digest
    small.write(2, [text[::-1] for text in small.texts[8:]])
    assert path.stat().st_size == size
    report = small.build()
    assert f"1 input changed ({path})" in said(caplog)
    assert report.shards[0].digest == Manifest.load(small.out / "shards-32").digest != digest
    assert small.documents() == 5
    small.build()
    assert not caplog.records
    assert sorted(os.listdir(small.out)) == [
        "contaminated.jsonl", "report.html", "report.json", "shards-32",
    ]  # fmt: skip


def test_another_evaluation_text_drops_other_documents(
    small: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    small.questions.write_text(" ".join(small.texts[5].split()[:16]))
    report = small.build()
    assert f"1 evaluation file changed ({small.questions})" in said(caplog)
    (stage,) = (stage for stage in report.stages if stage.stage == "decontaminate")
    assert stage.dropped == {str(small.questions): 1}
    assert small.documents() == 11


def test_another_list_of_words_drops_other_documents(
    small: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = tmp_path / "words.txt"
    small.out = tmp_path / "filtered"
    lenient = {"min_words_per_line": 0, "end_marks": [], "min_sentences": 0}
    small.settings["filters"]["c4"] = {"bad_words": str(words), **lenient}
    with pytest.raises(UserError, match=r"words\.txt: cannot be read \(No such file"):
        small.build()
    words.write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"words\.txt: cannot be read \(it is not UTF-8\)"):
        small.build()
    words.write_text("no-such-word")
    kept = small.build(keep_work=True).shards[0].documents
    words.write_text("the")
    with pytest.raises(UserError, match="no document is left"):
        small.build()
    assert f"1 input changed ({words})" in said(caplog)
    assert kept == small.documents() > 0


def test_another_tokenizer_packs_anew_what_was_cleaned(
    small: Corpus, documents: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    kept = {**small.made("clean"), **small.made("match"), **small.made("evaluation")}
    shutil.rmtree(small.tokenizer)
    train_tokenizer(documents, small.tokenizer, vocab_size=400)
    small.build(keep_work=True)
    assert f"tokenizer changed ({small.tokenizer})" in said(caplog)
    assert small.documents() == 12
    manifest = Manifest.load(small.out / "shards-32")
    assert manifest.vocab_size == 400
    assert manifest.tokenizer_digest == Tokenizer.load(small.tokenizer).digest
    now = {**small.made("clean"), **small.made("match"), **small.made("evaluation")}
    assert {path: at for path, at in now.items() if path.name != "pieces.json"} == {
        path: at for path, at in kept.items() if path.name != "pieces.json"
    }


def test_a_trained_tokenizer_is_replaced_with_its_shards(small: Corpus, tmp_path: Path) -> None:
    small.out = tmp_path / "trained"
    small.settings["tokenizer"] = {"vocab_size": 400, "model_type": "bpe"}
    small.build()
    before = Tokenizer.load(small.out / "tokenizer").digest
    small.write(0, [text.upper() for text in small.texts[:4]])
    small.build()
    after = Tokenizer.load(small.out / "tokenizer").digest
    assert after == Manifest.load(small.out / "shards-32").tokenizer_digest != before


def test_an_input_that_is_written_while_it_is_read_is_named(
    small: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def writing(task: clean.CleanTask) -> clean.Cleaned:
        cleaned = clean.run_clean(task)
        small.write(2, small.texts[:3])
        os.utime(small.raw / "0.jsonl")
        return cleaned

    small.write(1, small.texts[4:7])  # else there is nothing to do
    monkeypatch.setattr(building, "run_clean", writing)
    with pytest.raises(UserError, match=r"^1 input changed \(.*2\.jsonl\) while the build read"):
        small.build()
    monkeypatch.undo()
    assert small.build().stages[0].documents_in == 4 + 3 + 3


def test_a_failed_rebuild_leaves_the_finished_corpus(
    small: Corpus, shard_bytes: Callable[[Path], Any]
) -> None:
    before = shard_bytes(small.out), (small.out / "report.json").read_bytes()
    small.settings["inputs"] = [str(small.raw / f"{number}.jsonl") for number in range(FILES)]
    with pytest.raises(UserError, match="built with other settings; choose another directory"):
        small.build()
    small.settings["inputs"] = [str(small.raw)]
    for number in range(FILES):
        small.write(number, [QUESTION])
    with pytest.raises(UserError, match=r"no document is left .*work/report\.html"):
        small.build()
    shutil.rmtree(small.raw)
    with pytest.raises(AbsentError, match=r"raw: no such file .* still holds what was built"):
        small.build()
    assert (shard_bytes(small.out), (small.out / "report.json").read_bytes()) == before


def test_a_rebuild_that_is_killed_while_it_replaces_goes_on(
    small: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.write(3, ["A text that was not there before."])

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(building, "write_report", die)
        with pytest.raises(KeyboardInterrupt):
            small.build()
    assert not (small.out / "report.json").exists()
    small.write(4, ["One more that was not there before."])
    assert small.build().shards[0].documents == small.documents() == 14


def test_missing_shards_are_made_again_and_foreign_ones_refused(
    small: Corpus, shard_bytes: Callable[[Path], Any], caplog: pytest.LogCaptureFixture
) -> None:
    shards = small.out / "shards-32"
    before = shard_bytes(small.out)
    shutil.rmtree(shards)
    small.build()
    assert "shards-32 is missing" in said(caplog)
    assert shard_bytes(small.out) == before
    manifest = Manifest.load(shards)
    manifest.model_copy(update={"tool": "another"}).save(shards / "manifest.json")
    with pytest.raises(UserError, match=r"shards-32: holds other shards than .*report\.json"):
        small.build()


def test_a_build_that_noted_no_inputs_is_finished_and_says_so(
    small: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    path = small.out / "report.json"
    report = json.loads(path.read_bytes())
    del report["origins"]
    path.write_text(json.dumps(report))
    shutil.rmtree(small.raw)
    assert small.build().shards[0].documents == 12
    assert "whether they have changed since is unknown" in said(caplog)


@pytest.mark.parametrize("package", ["convbert-pretrain", "resiliparse", "pyarrow"])
def test_another_version_of_what_reads_makes_other_tasks(
    small: Corpus, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    config, work = BuildConfig.model_validate(small.settings), small.out / "work"

    def folders() -> set[Path]:
        return {task.folder for task in clean.clean_tasks(config, None, work)}

    before = folders()
    assert folders() == before
    installed = clean.version
    monkeypatch.setattr(clean, "version", lambda name: installed(name) + "+" * (name == package))
    assert len(before) == FILES
    assert not before & folders()
