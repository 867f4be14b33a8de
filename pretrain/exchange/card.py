"""What the model card of an exported checkpoint says of its training and its scores."""

import re
from collections.abc import Sequence
from pathlib import Path

from convbert.models.interop.model_card import CardFacts
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.timeline import Timeline
from convbert.pretrain.settings.run import RunConfig
from convbert.pretrain.tracking.metrics_log import FILE_NAME, read_records
from convbert.pretrain.tracking.records import CurvePoint

_AVERAGED = re.compile(r"_average_(\d+)")


def card_of(
    run: RunDirectory,
    config: RunConfig,
    step: int,
    average: int,
    place: str,
    license_code: str,
    languages: Sequence[str],
) -> CardFacts:
    """Return the facts about ``step``, a mean of ``average`` checkpoints, for its card."""
    timeline = Timeline.load(config)
    training = {
        "step": step,
        "averaged_checkpoints": average,
        "steps": config.steps,
        "global_batch": config.global_batch,
        "sequence_length": timeline.at(step - 1).seq_len,
        "training_tokens": timeline.tokens(step),
        "training FLOPs, as ELECTRA's and ConvBERT's papers count": f"{timeline.flops(step):.3e}",
        "training FLOPs of the hardware": f"{timeline.flops(step, 'hardware'):.3e}",
        "data": _data(timeline),
        "shards": timeline.digest,
        "tokenizer": timeline.corpora[0].tokenizer_digest,
    }
    return CardFacts(
        place=place,
        license=license_code,
        languages=languages or _languages(timeline),
        training=training,
        scores=scores_of(run, step, average),
    )


def _data(timeline: Timeline) -> str:
    """Name the shards of all phases by their folders, with their size."""
    sources = {
        source.manifest: manifest
        for corpus in timeline.corpora
        for source, manifest in zip(corpus.sources, corpus.manifests, strict=True)
    }
    return "; ".join(
        f"`{Path(place.removesuffix('/manifest.json')).name}`, {manifest.num_tokens:,} tokens"
        for place, manifest in sources.items()
    )


def _languages(timeline: Timeline) -> list[str]:
    """Return the languages that the corpora were built for, as far as their manifests tell."""
    manifests = [manifest for corpus in timeline.corpora for manifest in corpus.manifests]
    return list(dict.fromkeys(code for m in manifests for code in m.languages))


def scores_of(run: RunDirectory, step: int, average: int) -> list[tuple[str, str, str]]:
    """Return measure, value and spread of all that was measured of exactly these weights.

    Of two values of one measure the later counts. Names of tasks that were measured on a mean of N
    checkpoints end in ``_average_N``.
    """
    path = run.path / FILE_NAME
    wanted = [str(average)] if average > 1 else []
    found: dict[str, CurvePoint] = {}
    for record in read_records(path) if path.is_file() else ():
        if not isinstance(record, CurvePoint) or record.within is not None:
            continue
        if _AVERAGED.findall(record.curve) == wanted and record.extra.get("step") == step:
            found[record.curve] = record
    return [(name, f"{p.value:.4f}", _spread(p)) for name, p in sorted(found.items())]


def _spread(point: CurvePoint) -> str:
    extra = point.extra
    if "scores" in extra:
        range_ = f"{float(extra['low']):.4f} to {float(extra['high']):.4f}"
        return f"median of {len(extra['scores'])} seeds, {range_}"
    if "standard_error" in extra:
        return f"± {extra['standard_error']:.4f}, {extra['pairs']:,} pairs"
    return ""
