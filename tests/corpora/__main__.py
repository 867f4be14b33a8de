"""``python -m tests.corpora [NAME ...] -o DIR`` fetches corpora, all eleven by default."""

import argparse
from pathlib import Path

from convbert.data_pipeline.corpora import CORPORA
from tests.corpora.catalog import MORE_CORPORA

if __name__ == "__main__":
    known = CORPORA | MORE_CORPORA
    parser = argparse.ArgumentParser(prog="python -m tests.corpora")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {' '.join(known)}")
    parser.add_argument("-o", "--output", type=Path, required=True, help="directory for the text")
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - set(known)):
        parser.error(f"{', '.join(unknown)}: unknown; choose from {', '.join(known)}")
    for name in given.names or known:
        for path in known[name].fetch(given.output):
            print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
