"""Which positions are selected, and what the generator sees there."""

import dataclasses
import math

import pytest
import torch

from convbert.data_pipeline.loading.batch import Batch
from convbert.pretrain.objective.masking import MaskedBatch, SpecialIds, mask_batch
from convbert.pretrain.run.schedule import sampling
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
    assert MaskingConfig().slots(128) == 19
    assert MaskingConfig().slots(512) == 79


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
        if isinstance(getattr(part, field.name), torch.Tensor):
            assert torch.equal(getattr(part, field.name), getattr(whole, field.name)[4:7])


def test_a_row_without_ordinary_tokens_selects_nothing() -> None:
    result = masked([2, 128])
    assert not result.valid_BM[0].any()
    assert torch.equal(result.masked_BL[0], result.input_ids_BL[0])


FALLING = MaskingConfig(mask_fraction=0.3, schedule={"final": 0.15})


@pytest.mark.parametrize("length", [128, 64])
def test_a_falling_share_is_met_at_ten_places_of_a_run(length: int) -> None:
    rows, steps = 600, 1000
    shapes = set()
    for place in range(10):
        step = place * 111
        stated = 0.3 - 0.15 * step / steps
        drawn = sampling(FALLING, step, steps)
        given = batch([length] * rows, length, first=step * rows)
        result = mask_batch(FALLING, SPECIAL, 0, given, drawn)
        tokens = rows * length
        deviation = math.sqrt(stated * (1 - stated) / tokens)
        share = result.valid_BM.sum().item() / tokens
        assert abs(share - stated) < 1.96 * deviation, step
        # No token is selected in an unused slot, and the number of slots is that of the largest.
        assert (result.masked_BL != result.input_ids_BL).sum() <= result.valid_BM.sum()
        shapes.add(tuple(result.slots_BM.shape))
    assert shapes == {(rows, math.ceil(0.3 * length))}


def test_a_falling_share_is_the_same_on_one_and_on_four_processes() -> None:
    drawn = sampling(FALLING, 400, 1000)
    whole = mask_batch(FALLING, SPECIAL, 0, batch([128, 90, 40, 17] * 2), drawn)
    parts = [
        mask_batch(FALLING, SPECIAL, 0, batch(lengths, first=2 * rank), drawn)
        for rank, lengths in enumerate([[128, 90], [40, 17]] * 2)
    ]
    for name in ("masked_BL", "slots_BM", "valid_BM", "uniforms_BM"):
        assert torch.equal(torch.cat([getattr(p, name) for p in parts]), getattr(whole, name))


def test_held_out_text_is_masked_as_by_a_run_without_schedule() -> None:
    given = batch([128, 77, 20] * 20)
    falling = mask_batch(FALLING, SPECIAL, 0, given)
    assert torch.equal(falling.masked_BL, mask_batch(CONFIG, SPECIAL, 0, given).masked_BL)
