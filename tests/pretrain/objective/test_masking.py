"""Which positions are selected, and what the generator sees there."""

import dataclasses

import pytest
import torch

from convbert.data_pipeline.loading.batch import Batch
from convbert.pretrain.objective.masking import MaskedBatch, SpecialIds, mask_batch, slot_count
from convbert.pretrain.settings.objective import MaskingConfig

SPECIAL = SpecialIds(pad=0, cls=2, sep=3, mask=4)
CONFIG = MaskingConfig()


def batch(lengths: list[int], length: int = 128, first: int = 0) -> Batch:
    """Rows ``[CLS] tokens [SEP] PAD...`` with distinct ordinary ids."""
    ids = torch.zeros(len(lengths), length, dtype=torch.int64)
    for row, real in enumerate(lengths):
        ids[row, :real] = torch.arange(10, 10 + real)
        ids[row, 0], ids[row, real - 1] = SPECIAL.cls, SPECIAL.sep
    documents = (ids != 0).long()
    positions = torch.arange(first, first + len(lengths))
    return Batch(ids, torch.zeros_like(ids), documents, positions, False)


def masked(lengths: list[int], **options: int) -> MaskedBatch:
    return mask_batch(CONFIG, SPECIAL, 0, batch(lengths, **options))


def test_slots_per_row_as_published() -> None:
    assert slot_count(0.15, 128) == 19
    assert slot_count(0.15, 512) == 79


@pytest.mark.parametrize(("real", "expected"), [(128, 19), (100, 15), (50, 8), (5, 1), (3, 1)])
def test_count_follows_the_real_length(real: int, expected: int) -> None:
    assert masked([real]).valid_BM.sum() == expected


def test_selection_avoids_special_tokens_padding_and_repeats() -> None:
    lengths = [128, 77, 20, 3] * 50
    result = masked(lengths)
    for row, real in enumerate(lengths):
        slots = result.slots_BM[row][result.valid_BM[row]].tolist()
        assert len(set(slots)) == len(slots)
        assert all(0 < slot < real - 1 for slot in slots)


def test_masking_shares_and_untouched_rest() -> None:
    result = masked([128] * 2000)
    original, shown = result.input_ids_BL, result.masked_BL
    selected = torch.zeros_like(original, dtype=torch.bool).scatter(1, result.slots_BM, True)
    changed = shown != original
    assert torch.all(shown[changed] == SPECIAL.mask)
    assert not torch.any(changed & ~selected)
    share = changed.sum() / selected.sum()
    assert 0.845 < share < 0.855  # 38,000 draws: standard deviation 0.0018


def test_every_position_is_equally_likely() -> None:
    result = masked([128] * 4000)
    counts = torch.bincount(result.slots_BM.flatten(), minlength=128)[1:127].double()
    expected = counts.mean()
    assert ((counts - expected) ** 2 / expected).sum() < 190  # 125 degrees of freedom


def test_a_row_is_masked_alike_in_any_batch() -> None:
    whole = masked([128] * 8)
    part = masked([128] * 3, first=4)
    for field in dataclasses.fields(part):
        if field.name != "packed":
            assert torch.equal(getattr(part, field.name), getattr(whole, field.name)[4:7])


def test_a_row_without_ordinary_tokens_selects_nothing() -> None:
    result = masked([2, 128])
    assert not result.valid_BM[0].any()
    assert torch.equal(result.masked_BL[0], result.input_ids_BL[0])
