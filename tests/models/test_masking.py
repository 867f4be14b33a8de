"""What padding and neighboring documents may and may not change."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convbert.models.config import EncoderConfig
from convbert.models.encoder import Encoder
from convbert.models.masking import restarting_positions

OPERATORS = ["sdconv", "dynamic", "lightweight", "conv", "none", "attention"]
CONVOLVING = OPERATORS[:4]
VOCABULARY = 50


def make_encoder(**overrides: Any) -> Encoder:
    torch.manual_seed(0)
    fields: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "embedding_size": 16,
        "num_layers": 2,
        "num_heads": 4,
        "intermediate_size": 64,
        "max_positions": 64,
    }
    encoder = Encoder(EncoderConfig(**(fields | overrides))).eval()
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    return encoder


def random_ids(*shape: int) -> Tensor:
    return torch.randint(1, VOCABULARY, shape)


def mask_of(lengths: list[int], width: int) -> Tensor:
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def document_ids_of(lengths: list[int], padding: int) -> Tensor:
    runs = [torch.full((n,), i) for i, n in enumerate(lengths, start=1)]
    return torch.cat([*runs, torch.zeros(padding, dtype=torch.long)])[None]


@pytest.mark.parametrize("local_op", OPERATORS)
def test_padding_changes_nothing(local_op: str) -> None:
    encoder = make_encoder(local_op=local_op)
    ids = random_ids(2, 30)
    alone = encoder(ids[:, :13])
    padded = encoder(ids, attention_mask=mask_of([13, 13], 30))
    assert (padded[:, :13] - alone).abs().max() < 1e-6 * alone.abs().max()
    double = encoder.double()
    padded = double(ids, attention_mask=mask_of([13, 13], 30))
    assert (padded[:, :13] - double(ids[:, :13])).abs().max() < 1e-12


@pytest.mark.parametrize("local_op", CONVOLVING)
@pytest.mark.parametrize("taps", [3, 9])
def test_padding_leaks_by_half_a_kernel_when_unmasked(local_op: str, taps: int) -> None:
    encoder = make_encoder(
        local_op=local_op, conv_kernel_size=taps, num_layers=1, mask_conv_padding=False
    ).double()
    ids = random_ids(1, 30)
    padded = encoder(ids, attention_mask=mask_of([20], 30))[:, :20]
    differs = (padded - encoder(ids[:, :20])).abs().amax(dim=-1)[0] > 1e-9
    assert differs.nonzero().flatten().tolist() == list(range(20 - taps // 2, 20))


@pytest.mark.parametrize("mask_conv_padding", [True, False])
@pytest.mark.parametrize("local_op", OPERATORS)
def test_one_document_is_a_plain_attention_mask(local_op: str, mask_conv_padding: bool) -> None:
    encoder = make_encoder(local_op=local_op, mask_conv_padding=mask_conv_padding).double()
    ids, mask = random_ids(3, 20), mask_of([20, 12, 1], 20)
    by_mask = encoder(ids, attention_mask=mask)
    by_documents = encoder(ids, document_ids=mask.long())
    assert (by_mask - by_documents)[mask].abs().max() < 1e-12


@settings(max_examples=40, deadline=None)
@given(
    local_op=st.sampled_from(OPERATORS),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    padding=st.integers(0, 6),
    taps=st.sampled_from([1, 3, 9]),
)
def test_packed_documents_are_as_if_alone(
    local_op: str, lengths: list[int], padding: int, taps: int
) -> None:
    encoder = make_encoder(local_op=local_op, conv_kernel_size=taps).double()
    ids = random_ids(1, sum(lengths) + padding)
    packed = encoder(ids, document_ids=document_ids_of(lengths, padding))
    assert packed.isfinite().all()
    start = 0
    for length in lengths:
        own = slice(start, start + length)
        assert (packed[:, own] - encoder(ids[:, own])).abs().max() < 1e-10
        start += length


@pytest.mark.parametrize("local_op", OPERATORS)
def test_no_gradient_reaches_another_document(local_op: str) -> None:
    encoder = make_encoder(local_op=local_op)
    ids = torch.cat([torch.full((1, 7), 1), torch.full((1, 9), 2)], dim=1)
    hidden = encoder(ids, document_ids=document_ids_of([7, 9], 0))
    hidden[:, :7].square().sum().backward()
    gradient = encoder.embeddings.word.weight.grad
    assert gradient is not None
    assert gradient[1].abs().max() > 0
    assert gradient[2].abs().max() == 0


@pytest.mark.parametrize("local_op", CONVOLVING)
def test_documents_leak_by_half_a_kernel_when_unmasked(local_op: str) -> None:
    encoder = make_encoder(local_op=local_op, num_layers=1, mask_conv_padding=False).double()
    ids = random_ids(1, 20)
    packed = encoder(ids, document_ids=document_ids_of([12, 8], 0))[:, :12]
    differs = (packed - encoder(ids[:, :12])).abs().amax(dim=-1)[0] > 1e-9
    assert differs.nonzero().flatten().tolist() == [8, 9, 10, 11]


def test_a_mask_on_top_of_documents_hides_their_tails() -> None:
    encoder = make_encoder().double()
    ids, documents = random_ids(1, 12), document_ids_of([5, 7], 0)
    shorter = documents.clone()
    shorter[:, 10:] = 0
    masked = encoder(ids, document_ids=documents, attention_mask=mask_of([10], 12))
    assert torch.equal(masked, encoder(ids, document_ids=shorter))


def test_positions_restart_at_every_document() -> None:
    documents = torch.tensor([[1, 1, 1, 2, 2, 3, 0, 0], [1, 2, 2, 2, 2, 2, 2, 2], [0] * 8])
    expected = [[0, 1, 2, 0, 1, 0, 1, 2], [0, 0, 1, 2, 3, 4, 5, 6], [*range(8)]]
    assert restarting_positions(documents).tolist() == expected


@pytest.mark.parametrize("mask_conv_padding", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("local_op", OPERATORS)
def test_rows_of_padding_stay_finite(
    local_op: str, dtype: torch.dtype, mask_conv_padding: bool
) -> None:
    encoder = make_encoder(local_op=local_op, mask_conv_padding=mask_conv_padding).to(dtype)
    ids, mask = random_ids(2, 9), mask_of([0, 4], 9)
    for hidden in (encoder(ids, attention_mask=mask), encoder(ids, document_ids=mask.long())):
        hidden[1, :4].float().sum().backward()
        assert hidden.isfinite().all()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
