"""datatrove's counterparts of ``bench_corpus.py``: CORPUS.jsonl TOKENIZER.json FOLDER.

Runs in an environment of its own, which needs no convbert. Prints CPU seconds by step as JSON.
Its tokenizer step writes token ids; it does not pack rows.
"""

import json
import sys
import time
from pathlib import Path

from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.formatters import FTFYFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens.tokenizer import DocumentTokenizer
from datatrove.pipeline.writers.jsonl import JsonlWriter


def main() -> None:
    """Run the steps one after the other, each on the whole corpus or on what is left of it."""
    corpus, tokenizer, folder = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    names = {name: str(folder / name) for name in ("sig", "buckets", "remove", "kept", "left")}

    def timed(step: list[object], tasks: int = 1) -> float:
        start = time.process_time()
        logs = str(folder / f"logs-{time.monotonic_ns()}")
        LocalPipelineExecutor(pipeline=step, tasks=tasks, workers=1, logging_dir=logs).run()
        return time.process_time() - start

    def read(path: str | Path) -> JsonlReader:
        return JsonlReader(str(path), glob_pattern="*.jsonl*")

    source = corpus.parent
    filters = [GopherRepetitionFilter(), GopherQualityFilter()]
    clean = timed([read(source), FTFYFormatter(), *filters, JsonlWriter(names["kept"])])
    signatures = timed([read(source), MinhashDedupSignature(names["sig"], config=config)])
    buckets = MinhashDedupBuckets(names["sig"], names["buckets"], config=config)
    cluster = timed([buckets], tasks=config.num_buckets)
    cluster += timed([MinhashDedupCluster(names["buckets"], names["remove"], config=config)])
    left = [read(source), MinhashDedupFilter(names["remove"]), JsonlWriter(names["left"])]
    cluster += timed(left)
    tokens = DocumentTokenizer(
        str(folder / "tokens"),
        local_working_dir=str(folder / "local"),
        tokenizer_name_or_path=tokenizer,
        eos_token="[SEP]",
        shuffle_documents=False,
    )
    tokenize = timed([read(source), tokens])
    seconds = {
        "clean and filter": clean,
        "near-duplicate signatures": signatures,
        "tokenize, pack, write": tokenize,
        "end to end": clean + signatures + cluster + tokenize,
    }
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
