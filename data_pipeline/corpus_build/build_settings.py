"""What a corpus is built from and how."""

from collections.abc import Container
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from convbert.data_pipeline.dedup.dedup_settings import DecontaminationConfig, DedupConfig
from convbert.data_pipeline.filters.corpus_settings import CorpusConfig
from convbert.data_pipeline.packing.rows import LONGEST_ROW, SHORTEST_ROW
from convbert.data_pipeline.shards.manifest import Packing
from convbert.data_pipeline.tokenizer.training import ModelType, Normalization, normalization_rule
from convbert.models.schema import StrictModel


def _changed(config: StrictModel, names: Container[str]) -> list[str]:
    """Return which of the settings with these names differ from their defaults."""
    fields = type(config).model_fields
    return [n for n in fields if n in names and getattr(config, n) != fields[n].default]


class TokenizerConfig(StrictModel):
    """The tokenizer: one that exists, or settings to train one on the cleaned text."""

    path: Path | None = Field(
        None, description="directory of a tokenizer; none: train one", examples=["bert"]
    )
    vocab_size: int = Field(
        32_000,
        ge=300,
        le=10_000_000,
        description="tokens of the vocabulary, special ones included",
        examples=[8000],
    )
    model_type: ModelType = Field("unigram", description="how sentencepiece cuts words")
    character_coverage: float = Field(
        0.9995,
        gt=0,
        le=1,
        description="share of the text's characters that have a token; the others become bytes",
    )
    ascii: bool = Field(True, description="every printable ASCII character that occurs is covered")
    max_sentences: int = Field(2_000_000, ge=1, description="lines of the training sample")
    lowercase: bool = Field(False, description="make all text lower case")
    normalization: Normalization = Field(
        "nmt_nfkc", description="sentencepiece's rule: nmt_nfkc, nfkc, or identity for none"
    )
    threads: int = Field(
        2,
        ge=1,
        le=1024,
        description="threads of the training, fixed because a unigram model depends on them",
    )
    sample_megabytes: int = Field(
        2_000, ge=1, description="MB of text looked at; larger corpora are sampled by document"
    )

    @model_validator(mode="after")
    def _has_an_effect(self) -> "TokenizerConfig":
        normalization_rule(self.normalization, self.lowercase)
        training = _changed(self, type(self).model_fields.keys() - {"path"})
        if self.path is not None and training:
            raise ValueError(
                f"{', '.join(training)} cannot change the tokenizer that is there, {self.path}; "
                "leave them out, or leave out path to train one"
            )
        return self


class ShardsConfig(StrictModel):
    """The shards to write, one set per length."""

    seq_len: list[Annotated[int, Field(ge=SHORTEST_ROW, le=LONGEST_ROW)]] = Field(
        [128], min_length=1, description="tokens per sequence"
    )
    packing: Packing = Field(
        "electra",
        description="how documents fill rows: segment pairs as in ELECTRA, or whole documents "
        "without padding",
    )
    megabytes: int = Field(256, ge=1, description="size of a shard in MB")
    seed: int = Field(0, description="number that lengths of segments follow from")

    @field_validator("seq_len")
    @classmethod
    def _is_no_list_of_copies(cls, value: list[int]) -> list[int]:
        if len(set(value)) < len(value):
            raise ValueError("names a length twice; give each once")
        return value


class BuildConfig(CorpusConfig):
    """Everything that decides the bytes of the shards."""

    inputs: tuple[str, ...] = Field(
        (), description="files, directories, globs, URLs", examples=[["crawl/*.warc.gz"]]
    )
    sources: tuple[CorpusConfig, ...] = Field(
        (),
        description="more inputs, each with its own reader, cleaning and filters",
        examples=[[{"inputs": ["wiki.xml.bz2"]}]],
    )
    dedup: DedupConfig = DedupConfig()
    decontamination: DecontaminationConfig = DecontaminationConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    shards: ShardsConfig = ShardsConfig()
    split_megabytes: float = Field(
        256,
        ge=0.001,
        le=1e9,
        description="stored size in MB of the parts of large files: the unit of cleaning",
    )
    piece_megabytes: int = Field(
        64, ge=1, description="text of a piece: the unit of work behind cleaning"
    )

    @model_validator(mode="after")
    def _has_input(self) -> "BuildConfig":
        if not self.inputs and not self.sources:
            raise ValueError("inputs and sources are both empty; give files to read")
        own = _changed(self, {"reader", "cleaning", "filters"})
        if own and not self.inputs:
            raise ValueError(
                f"{', '.join(own)} of the top level concern its inputs, and there are none; set "
                "them in each of sources"
            )
        for number, source in enumerate(self.sources):
            if _changed(source, {"samples"}) and source.samples != self.samples:
                raise ValueError(f"sources.{number}.samples is of the whole corpus; set samples")
        return self

    def all_sources(self) -> list[CorpusConfig]:
        """Return the sources in order, the one of the file's top level first."""
        own = {name: getattr(self, name) for name in CorpusConfig.model_fields}
        first = [CorpusConfig(**own)] if self.inputs else []
        return [
            source.model_copy(update={"samples": self.samples})
            for source in (*first, *self.sources)
        ]

    def recorded(self) -> dict[str, Any]:
        """Return what decided the rows, for the manifest: no paths, they say nothing elsewhere."""
        return {
            "sources": [
                source.model_dump(mode="json", exclude={"inputs", "samples"})
                for source in self.all_sources()
            ],
            "dedup": self.dedup.model_dump(mode="json"),
            "decontamination_ngram": self.decontamination.ngram,
            "split_megabytes": self.split_megabytes,
            "piece_megabytes": self.piece_megabytes,
            "seed": self.shards.seed,
        }
