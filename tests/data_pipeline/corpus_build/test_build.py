import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convbert.data_pipeline.corpus_build.build import build_corpus
from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
from convbert.data_pipeline.corpus_build.overview import MOST_SOURCES, Contents
from convbert.data_pipeline.corpus_build.progress import BuildProgress
from convbert.data_pipeline.corpus_build.report import CorpusReport, render
from convbert.data_pipeline.dedup.words import words
from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.filters.corpus_settings import load_config
from convbert.data_pipeline.segmentation import split_segments
from convbert.data_pipeline.shards.manifest import Manifest
from convbert.data_pipeline.shards.store import SequenceStore
from convbert.data_pipeline.shards.verify import verify_shards
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import DamagedError, UserError

UNFILTERED = {"language": None, "gopher": None, "repetition": None}


def build(settings: dict[str, Any], out: Path, **options: Any) -> CorpusReport:
    with BuildProgress() as progress:
        config = BuildConfig.model_validate(settings)
        return build_corpus(config, out, progress, **{"workers": 1, **options})


def stored_tokens(folder: Path) -> list[int]:
    manifest = Manifest.load(folder)
    store = SequenceStore(manifest, folder)
    rows = store.read([(0, manifest.num_sequences)]).ravel().tolist()
    store.close()
    frame = {manifest.pad_id, manifest.cls_id, manifest.sep_id}
    return [token for token in rows if token not in frame]


def test_shards_hold_each_surviving_text_once_and_in_order(
    built: Path, sources: Path, tokenizer_dir: Path
) -> None:
    read = [
        json.loads(line)["text"]
        for path in sorted(sources.iterdir())
        for line in path.read_text().splitlines()
    ]
    report = CorpusReport.model_validate_json((built / "report.json").read_bytes())
    stages = {stage.stage: stage for stage in report.stages}
    assert stages["read"].documents_out == len(read)
    assert stages["decontaminate"].dropped == {
        report.config.decontamination.files[0]: 6,
    }
    dropped = stages["deduplicate"].dropped
    assert dropped["exact duplicate"] >= 5  # the shouted copies; some topics come twice as well
    assert dropped["near duplicate"] >= 5
    tokenizer = Tokenizer.load(tokenizer_dir)
    stored = stored_tokens(built / "shards-32")
    assert stored == stored_tokens(built / "shards-64")
    # Walk through the input: what the shards lack is what the report says was dropped.
    position = gone = 0
    for text in read:
        ids = [i for part in tokenizer.encode_batch(split_segments(text)) for i in part]
        if stored[position : position + len(ids)] == ids:
            position += len(ids)
        else:
            gone += 1
    assert position == len(stored)
    assert gone == 6 + sum(dropped.values())
    for length in (32, 64):
        assert verify_shards(built / f"shards-{length}") == []
        assert len(Manifest.load(built / f"shards-{length}").shards) == 1


def test_contaminated_documents_are_listed(built: Path) -> None:
    entries = [json.loads(line) for line in (built / "contaminated.jsonl").read_text().splitlines()]
    assert {entry["file"][-13:] for entry in entries} == {"questions.txt"}
    assert {entry["ngram"] for entry in entries} == {
        "which of the many rivers that cross the old town carried most of"
    }
    assert len({entry["id"] for entry in entries}) == 6


def test_survivors_do_not_depend_on_the_order_of_files(
    tmp_path: Path, built: Path, settings: dict[str, Any], tokenizer_dir: Path
) -> None:
    turned = {**settings, "sources": list(reversed(settings["sources"])), "piece_megabytes": 1}
    build(turned, tmp_path / "turned")
    assert sorted(stored_tokens(tmp_path / "turned" / "shards-32")) == sorted(
        stored_tokens(built / "shards-32")
    )


def test_finished_tasks_are_not_done_again(
    tmp_path: Path, settings: dict[str, Any], shard_bytes: Callable[[Path], Any]
) -> None:
    out = tmp_path / "corpus"
    build(settings, out, keep_work=True)
    made = {path: path.stat().st_mtime_ns for path in (out / "work").rglob("*.arrow")}
    assert len(made) > 6  # the files, some in parts
    whole = shard_bytes(out)
    (out / "report.json").unlink()
    for path in (out / "shards-64").iterdir():
        path.unlink()
    (out / "shards-64").rmdir()
    build(settings, out, keep_work=True)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert shard_bytes(out) == whole
    (out / "report.json").unlink()
    build(settings, out)
    assert not (out / "work").exists()


def test_a_finished_build_is_not_repeated_and_not_overwritten(
    built: Path, settings: dict[str, Any]
) -> None:
    before = (built / "report.json").stat().st_mtime_ns
    assert build(settings, built).shards[0].seq_len == 32
    assert (built / "report.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="built with other settings; choose another directory"):
        build({**settings, "piece_megabytes": 2}, built)


def test_what_a_build_leaves_is_removed_without_the_work_of_the_next(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, out = shutil.rmtree, tmp_path / "corpus"

    def start_another(path: Path, **options: Any) -> None:
        (out / "work/clean").mkdir(parents=True, exist_ok=True)
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", start_another)
    build(settings, out)
    assert [path.name for path in (out / "work").iterdir()] == ["clean"]


def test_a_trained_tokenizer_lies_beside_the_shards(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    build({**settings, "tokenizer": {"vocab_size": 700, "model_type": "bpe"}}, tmp_path / "corpus")
    tokenizer = Tokenizer.load(tmp_path / "corpus" / "tokenizer")
    manifest = Manifest.load(tmp_path / "corpus" / "shards-32")
    assert manifest.vocab_size == 700
    assert manifest.tokenizer_digest == tokenizer.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": [{"inputs": ["nowhere.txt"]}]}, "nowhere.txt: no such file"),
        ({"decontamination": {"files": ["nowhere.txt"]}}, "nowhere.txt: no such file"),
        ({"tokenizer": {"path": "nowhere"}}, "no tokenizer .*train one"),
    ],
)
def test_unusable_settings_are_named_before_text_is_cleaned(
    tmp_path: Path, settings: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        build({**settings, **change}, tmp_path / "out")
    assert not (tmp_path / "out/work/clean").exists()


def test_what_is_not_of_the_build_is_refused_before_the_work(
    settings: dict[str, Any], tmp_path: Path, built: Path, tokenizer_dir: Path
) -> None:
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(DamagedError, match=r"report\.json: not the report of a corpus .*missing"):
        build(settings, tmp_path)
    shutil.copytree(built / "shards-32", tmp_path / "one/shards-32")
    shutil.copytree(tokenizer_dir, tmp_path / "two/tokenizer")
    with pytest.raises(UserError, match="one/shards-32: exists already; remove it or choose"):
        build(settings, tmp_path / "one")
    with pytest.raises(UserError, match="two/tokenizer: exists already; remove it or choose"):
        build({**settings, "tokenizer": {"vocab_size": 700}}, tmp_path / "two")
    assert sorted(os.listdir(tmp_path / "one") + os.listdir(tmp_path / "two")) == [
        "shards-32",
        "tokenizer",
    ]


def test_wrong_keys_and_those_without_effect_are_named(tmp_path: Path) -> None:
    path = tmp_path / "corpus.yaml"
    for content, message in (
        ("sources: [{inputs: [a], reder: {}}]", r"sources\.0\.reder: unknown key"),
        (
            "inputs: [a]\ntokenizer: {lowercase: true, normalization: identity}",
            "tokenizer: lowercase is part of a normalization, and 'identity' has none; choose",
        ),
        (
            "inputs: [a]\ntokenizer: {path: bert, vocab_size: 800, lowercase: true}",
            "tokenizer: vocab_size, lowercase cannot change the tokenizer that is there, bert; lea",
        ),
        (
            "sources: [{inputs: [a]}]\nreader: {unit: line}\ncleaning: null",
            "reader, cleaning of the top level concern its inputs, and there are none; set them",
        ),
        (
            "inputs: [a]\nsources: [{inputs: [b], samples: 5}]",
            r"sources\.0\.samples is of the whole corpus; set samples",
        ),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=f"corpus.yaml: {message}"):
            load_config(path, BuildConfig)


def test_the_report_is_one_file_with_samples_of_both_copies(built: Path) -> None:
    page = (built / "report.html").read_text()
    for outside in ("http://", "https://", "<script", "<link", "src="):
        assert outside not in page.split("<h2>The largest")[0]
    report = CorpusReport.model_validate_json((built / "report.json").read_bytes())
    (stage,) = (stage for stage in report.stages if stage.stage == "deduplicate")
    for sample in stage.samples["exact duplicate"]:
        stays = sample.detail.split(" stays: ", 1)[1]
        assert words(stays)[:50] == words(sample.excerpt)[:50]


def test_the_report_folds_rare_reasons_and_scales_bars_to_the_commonest(built: Path) -> None:
    report = CorpusReport.model_validate_json((built / "report.json").read_bytes())
    dropped = {f"lang-{number:02}": number + 1 for number in range(30)}
    stage = report.stages[0].model_copy(update={"stage": "language", "dropped": dropped})
    page = render(report.model_copy(update={"stages": [report.stages[0], stage]}))
    assert "language: lang-29" in page
    assert "language: 22 more (lang-00, lang-01" in page
    assert 'class="drop" style="width:100.00%"' in page  # 22 more are 253 documents
    assert "<td>253</td>" in page


def test_the_report_shows_what_the_corpus_holds(built: Path, sources: Path) -> None:
    report = CorpusReport.model_validate_json((built / "report.json").read_bytes())
    kept, manifest = report.kept, Manifest.load(built / "shards-32")
    assert set(kept.sources) == {str(path) for path in sources.iterdir()}
    assert set(kept.languages) == {""}  # nothing told them
    for shares in (kept.sources, kept.languages):
        assert sum(share.documents for share in shares.values()) == manifest.num_documents
        assert sum(s.tokens for s in shares.values()) == len(stored_tokens(built / "shards-32"))
    gone = {s.id for stage in report.stages for held in stage.samples.values() for s in held}
    assert len(kept.samples) == report.config.samples
    assert not gone & {sample.id for sample in kept.samples}
    (stage,) = (stage for stage in report.stages if stage.stage == "deduplicate")
    clusters = report.clusters
    assert len(clusters) < 10  # so these are all
    assert sum(cluster.documents - 1 for cluster in clusters) == sum(stage.dropped.values())
    assert sum(cluster.exact for cluster in clusters) == stage.dropped["exact duplicate"]
    assert [c.documents for c in clusters] == sorted((c.documents for c in clusters), reverse=True)
    whole = [
        words(json.loads(line)["text"])
        for path in sources.iterdir()
        for line in path.read_text().splitlines()
    ]
    for cluster in clusters:
        starts = (words(sample.excerpt)[:30] for sample in (cluster.kept, cluster.dropped))
        one, two = (set(next(w for w in whole if w[:30] == start)) for start in starts)
        assert len(one & two) > 0.5 * len(one | two)  # others share less than half
    page = (built / "report.html").read_text()
    assert f"{clusters[0].documents} documents, " in page
    assert "not told" in page


def test_languages_and_samples_of_parts_are_those_of_the_whole() -> None:
    documents = [
        Document(f"f#{n}", "x" * n, f"file-{n % 1500}", language="de" if n % 3 else "ja")
        for n in range(3000)
    ]
    parts, whole = [], Contents()
    whole.count(documents, range(3000), 5)
    for start in (2000, 0, 1000):
        part = Contents()
        for first in range(start, start + 1000, 250):
            part.count(documents[first : first + 250], range(first, first + 250), 5)
        parts.append(part)
    merged = Contents.merged(parts, 5)
    assert merged == Contents.merged([whole], 5)
    assert len(merged.samples) == 5
    without = Contents()
    without.count(documents, range(3000), 0)
    assert without.samples == []
    assert {name: share.documents for name, share in merged.languages.items()} == {
        "de": 2000, "ja": 1000,
    }  # fmt: skip
    assert len(merged.sources) == MOST_SOURCES + 1
    assert merged.sources["500 others"].documents == 1000
    assert sum(share.tokens for share in merged.sources.values()) == sum(range(3000))


def test_a_file_of_lines_that_was_dropped_as_one_document_names_the_setting(
    tmp_path: Path, tokenizer_dir: Path
) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"Line {number} of the text.\n" for number in range(50)))
    settings: dict[str, Any] = {
        "inputs": [str(lines)],
        "filters": {**UNFILTERED, "gopher": {"min_words": 9000}},
        "tokenizer": {"path": str(tokenizer_dir)},
    }
    with pytest.raises(UserError, match=r"1 of 1\); set `reader: \{unit: line\}` if each line is"):
        build(settings, tmp_path / "corpus")
    settings["reader"] = {"unit": "line"}
    with pytest.raises(UserError, match=r"50 of 50\); look at the filters"):
        build(settings, tmp_path / "corpus")


def test_a_build_that_drops_everything_says_why_in_its_report(
    tmp_path: Path, sources: Path, tokenizer_dir: Path
) -> None:
    settings: dict[str, Any] = {
        "inputs": [str(path) for path in sorted(sources.iterdir())],
        "filters": {**UNFILTERED, "gopher": {"min_words": 9000}},
        "tokenizer": {"path": str(tokenizer_dir)},
    }
    out = tmp_path / "corpus"
    for _ in range(2):  # a failure is no finished build
        with pytest.raises(
            UserError, match=r"left of the input \(gopher: word count, (\d+) of \1\)"
        ):
            build(settings, out)
        report = CorpusReport.model_validate_json((out / "report.json").read_bytes())
        (stage,) = (stage for stage in report.stages if stage.stage == "gopher")
        assert (stage.documents_out, report.shards) == (0, [])
        assert len(stage.samples["word count"]) == 20
        assert "gopher: word count" in (out / "report.html").read_text()
    assert build({**settings, "filters": UNFILTERED}, out).shards[0].documents > 50


def test_files_that_were_not_read_are_in_the_report(
    settings: dict[str, Any], documents: list[str], tmp_path: Path
) -> None:
    folder, more = tmp_path / "in", tmp_path / "more"
    for place in (folder, more):
        place.mkdir()
        (place / "a.txt").write_text(f"{place.name} {documents[0]}")
    for number in range(25):
        (folder / f"{number:02}<b>.dat").write_text("x")
    (folder / "gone.txt").symlink_to(tmp_path / "nothing")
    (folder / "z.txt").hardlink_to(folder / "a.txt")
    (more / ".hidden.txt").write_text("x")
    (more / b"caf\xe9.dat".decode(errors="surrogateescape")).write_text("x")
    inputs = {"inputs": [str(folder)], "sources": [{"inputs": [str(more)]}]}
    report = build({**settings, **inputs}, tmp_path / "out")
    unknown = "name tells no format"
    assert [(entry.source, entry.reason, entry.files) for entry in report.left_out] == [
        (0, unknown, 25), (0, "broken link", 1), (0, "file that was found already", 1),
        (1, "hidden", 1), (1, unknown, 1),
    ]  # fmt: skip
    assert report.left_out[0].examples == [f"{folder}/{n:02}<b>.dat" for n in range(20)]
    assert report.left_out[4].examples == [f"{more}/caf\\xe9.dat"]
    page = (tmp_path / "out/report.html").read_text()
    assert "name tells no format (source 0)\n<details><summary>the first 20<" in page
    assert f"{folder}/19&lt;b&gt;.dat" in page
    assert CorpusReport.model_validate_json((tmp_path / "out/report.json").read_bytes()) == report


def test_what_a_build_writes_is_no_input_of_it(
    settings: dict[str, Any], documents: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_text(json.dumps({"text": documents[0]}))
    (tmp_path / "linked").symlink_to(folder)
    evaluated = {**settings, "decontamination": {"files": [str(folder / "a.jsonl")]}}
    settings = {**settings, "decontamination": {}, "sources": []}
    for entry, out, chosen in [
        ("in", folder / "corpus", settings),
        (str(folder), tmp_path / "linked/corpus", settings),
        ("./in/**", folder, settings),
        ("i*/*.js*", folder, settings),
        ("in/*.jsonl", folder, evaluated),
    ]:
        with pytest.raises(UserError, match="would find what the build writes; choose another"):
            build({**chosen, "inputs": [entry]}, out)
        assert [path.name for path in folder.iterdir()] == ["a.jsonl"]
    for _ in range(2):
        report = build({**settings, "inputs": ["in/*.jsonl"]}, folder)
        assert report.stages[0].documents_in == 1


def test_bad_records_are_in_the_report_or_stop_with_their_place(
    settings: dict[str, Any], documents: list[str], tmp_path: Path
) -> None:
    source = tmp_path / "a.jsonl"
    lines = [json.dumps({"text": text}) for text in documents[:6]]
    source.write_text("\n".join([*lines, '{"text": null}', '{"text": 1, "n": "\\ud800"}']))
    given = {
        "inputs": [str(source)],
        "filters": {"language": None, "gopher": None, "repetition": None},
        "tokenizer": settings["tokenizer"],
        "shards": {"seq_len": [64]},
    }
    with pytest.raises(
        UserError, match=r"a\.jsonl, line 7: 'text' is None, .* or set --on-bad-rec"
    ):
        build(given, tmp_path / "out")
    report = build({**given, "reader": {"on_bad_record": "skip"}}, tmp_path / "out")
    read = report.stages[0]
    assert (read.stage, read.documents_in, read.documents_out) == ("read", 8, 6)
    assert read.dropped == {"'text' is no text": 2}
    samples = read.samples["'text' is no text"]
    assert sorted(s.id for s in samples) == [f"{source}#7", f"{source}#8"]
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "read: &#39;text&#39; is no text" in page
    assert "line 7: &#39;text&#39; is None, not text" in page


def test_passed_over_records_and_lacking_fields_are_said(
    tmp_path: Path, tokenizer_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ('{"text": "one two", "lang": "en"}', '{"text": null}', '{"text": "three four"}')
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    config = BuildConfig.model_validate(
        {
            "inputs": [str(tmp_path / "a.jsonl")],
            "reader": {"on_bad_record": "skip", "meta_fields": ["lang", "date"]},
            "filters": UNFILTERED,
            "tokenizer": {"path": str(tokenizer_dir)},
            "shards": {"seq_len": [32]},
        }
    )
    with BuildProgress() as progress:
        report = build_corpus(config, tmp_path / "out", progress, workers=1)
    lacking = {"no 'date' (meta_fields)": 2, "no 'lang' (meta_fields)": 1}
    assert report.stages[0].changed == lacking
    assert caplog.messages == [
        "passed over 1 record(s) that cannot be read ('text' is no text: 1)",
        f"for example {tmp_path}/a.jsonl, line 2: 'text' is None, not text",
        "2 of 2 document(s) have no 'date' (meta_fields)",
        "1 of 2 document(s) have no 'lang' (meta_fields)",
    ]
