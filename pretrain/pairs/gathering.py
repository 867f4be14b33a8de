"""Pairs from what a user names: a file of pairs, or text whose sentences are spoilt."""

from pathlib import Path

from convbert.data_pipeline.readers import iter_documents
from convbert.pretrain.pairs.corruption import make_pairs
from convbert.pretrain.pairs.files import is_pairs_file, read_pairs
from convbert.pretrain.pairs.pair import Pair
from convbert.pretrain.settings.evaluation import PairsConfig


def gather(wanted: PairsConfig) -> tuple[list[Pair], list[str]]:
    """Read pairs from a file of pairs, or make ``count`` of each kind from text.

    Returns them with what a person should know of them. Raises ``UserError`` for unusable input.
    """
    path = Path(wanted.inputs[0])
    if len(wanted.inputs) == 1 and path.is_file() and is_pairs_file(path):
        pairs, alone = read_pairs(path)
        notes = [f"{path}: {alone} sentences belong to no pair"] if alone else []
        usual = PairsConfig(inputs=wanted.inputs)
        if (wanted.corruptions, wanted.count) != (usual.corruptions, usual.count):
            notes.append(
                f"{path}: holds pairs, of which all are taken; corruptions and count are not used"
            )
        return pairs, notes
    found: list[Pair] = []
    notes = []
    for corruption in wanted.corruptions:
        texts = iter_documents(list(wanted.inputs), wanted.reader)
        made = make_pairs(texts, corruption, wanted.count, seed=wanted.seed)
        if len(made) < wanted.count:
            notes.append(f"{corruption}: the text gives {len(made):,} pairs, not {wanted.count:,}")
        found += made
    return found, notes
