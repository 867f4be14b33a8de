"""What a build did: ``report.json`` for programs and a self-contained ``report.html`` to read."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from convbert.data_pipeline.atomic import atomic_write
from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
from convbert.data_pipeline.corpus_build.clean import Cleaned
from convbert.data_pipeline.corpus_build.origins import LeftOut, Origin
from convbert.data_pipeline.corpus_build.overview import (
    Cluster,
    Contents,
    documents_of,
    largest_clusters,
)
from convbert.data_pipeline.corpus_build.pack import Packed
from convbert.data_pipeline.corpus_build.pieces import TextPiece
from convbert.data_pipeline.corpus_build.progress import Timing
from convbert.data_pipeline.documents import EXCERPT_CHARACTERS, Document, Sample, StageReport
from convbert.data_pipeline.segmentation import SEGMENTATION
from convbert.data_pipeline.shards.manifest import Manifest
from convbert.data_pipeline.templates import templates

_REASONS_SHOWN = 8  # of a stage; a crawl has pages in a hundred languages
_SOURCES_SHOWN = 20
_CLUSTERS = 10


class ShardSet(BaseModel):
    """The shards of one length."""

    model_config = ConfigDict(extra="forbid")

    folder: str
    digest: str
    seq_len: int
    documents: int
    sequences: int
    tokens: int
    fill: float
    shards: int
    bytes: int

    @classmethod
    def of(cls, manifest: Manifest) -> "ShardSet":
        """Take the figures of a manifest."""
        return cls(
            folder=f"shards-{manifest.seq_len}",
            digest=manifest.digest,
            seq_len=manifest.seq_len,
            documents=manifest.num_documents,
            sequences=manifest.num_sequences,
            tokens=manifest.num_tokens,
            fill=manifest.fill,
            shards=len(manifest.shards),
            bytes=sum(shard.bytes for shard in manifest.shards),
        )


class Step(BaseModel):
    """Wall-clock seconds of a step of the last run, and the bytes that went through it."""

    model_config = ConfigDict(extra="forbid")

    step: str
    seconds: float
    bytes: int


class CorpusReport(BaseModel):
    """Everything that ``report.html`` shows."""

    model_config = ConfigDict(extra="forbid")

    tool: str
    config: BuildConfig
    stages: list[StageReport]
    steps: list[Step] = Field(description="a step that an earlier run had finished takes no time")
    shards: list[ShardSet]
    document_tokens: dict[int, int] = Field(description="documents by tokens, bins of powers of 2")
    kept: Contents = Contents()
    clusters: list[Cluster] = Field([], description="of duplicates, the largest")
    segmentation: str = Field("", description="what cut sentences and words that need more rules")
    origins: list[Origin] | None = Field(
        None, description="the files that were read; None: an earlier version did not note them"
    )
    left_out: list[LeftOut] = Field([], description="files below the inputs that were not read")


def merged_stages(parts: Sequence[Sequence[StageReport]]) -> list[StageReport]:
    """Merge the reports of many tasks by stage, in the order of the stages."""
    merged: dict[str, StageReport] = {}
    for stages in parts:
        for stage in stages:
            before = merged.get(stage.stage)
            merged[stage.stage] = before.merge(stage) if before else stage
    return list(merged.values())


def write_report(
    out: Path,
    config: BuildConfig,
    origins: Sequence[Origin],
    left_out: Sequence[LeftOut],
    cleaned: Sequence[Cleaned],
    packed: Sequence[Packed],
    pieces: Sequence[TextPiece],
    manifests: Sequence[Manifest],
    timings: Sequence[Timing],
    dropped: Path | None,
) -> CorpusReport:
    """Write both files to ``out``; ``report.json``, written last, says that all is complete.

    A report without shards is that of a build that kept nothing. ``dropped`` is the folder of the
    duplicates.
    """
    stages = merged_stages([r.stages for r in cleaned] + [r.report.stages for r in packed])
    tokens: Counter[int] = Counter()
    for result in packed:
        tokens.update(result.report.document_tokens)
    report = CorpusReport(
        tool=f"convbert-pretrain {version('convbert-pretrain')}",
        config=config,
        stages=[_with_survivors(stage, pieces) for stage in stages],
        steps=[Step(**asdict(timing)) for timing in timings],
        shards=[ShardSet.of(manifest) for manifest in manifests],
        document_tokens=dict(sorted(tokens.items())),
        kept=Contents.merged((r.report.contents for r in packed), config.samples),
        clusters=largest_clusters(dropped, pieces, _CLUSTERS) if dropped else [],
        segmentation=SEGMENTATION,
        origins=list(origins),
        left_out=list(left_out),
    )
    with atomic_write(out / "report.html") as file:
        file.write(render(report).encode())
    with atomic_write(out / "report.json") as file:
        file.write(report.model_dump_json(indent=1).encode() + b"\n")
    return report


def _with_survivors(stage: StageReport, pieces: Sequence[TextPiece]) -> StageReport:
    """Show beside each duplicate the document that stayed, instead of its number."""
    if stage.stage != "deduplicate":
        return stage
    numbers = {int(sample.detail) for sample in chain.from_iterable(stage.samples.values())}
    found = documents_of(numbers, pieces)
    samples = {
        reason: [_beside(sample, found[int(sample.detail)]) for sample in held]
        for reason, held in stage.samples.items()
    }
    return stage.model_copy(update={"samples": samples})


def _beside(sample: Sample, survivor: Document) -> Sample:
    detail = f"{survivor.id} stays: {survivor.text[:EXCERPT_CHARACTERS]}"
    return sample.model_copy(update={"detail": detail})


def render(report: CorpusReport) -> str:
    """Return the page: no script, no other file, fit for printing."""
    environment = templates("convbert.data_pipeline.corpus_build", html=True)
    most = max(report.document_tokens.values(), default=1)
    return environment.get_template("report.html.j2").render(
        report=report,
        first=report.stages[0],
        most=most,
        most_dropped=max(chain.from_iterable(s.dropped.values() for s in report.stages), default=1),
        reasons_shown=_REASONS_SHOWN,
        sources_shown=_SOURCES_SHOWN,
        tokens_kept=sum(share.tokens for share in report.kept.sources.values()),
    )
