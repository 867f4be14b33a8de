"""Attention is attention, by kernels that read document ids and with the bias they stand for."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from convbert.models.architecture import EncoderConfig
from convbert.models.encoder import Encoder
from convbert.models.masking import document_bias
from convbert.models.ops import triton_attention
from convbert.models.ops.attention import attention, document_attention, reads_documents
from convbert.models.ops.convolution import use_backend
from convbert.models.ops.dropout import _hashed_integers

pytestmark = pytest.mark.usefixtures("on_device")

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


def inputs(shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    """Query, key and value as parts of one projection, and the gradient of the output."""
    batch, length, heads, width = shape
    generator = torch.Generator().manual_seed(sum(shape))

    def normal(*size: int) -> Tensor:
        drawn = torch.randn(size, generator=generator, dtype=torch.float64, device="cpu")
        return drawn.to(torch.get_default_device(), dtype)

    parts = normal(batch, length, 3, heads, width).unbind(2)
    return [*(part.requires_grad_() for part in parts), normal(*shape)]


def documents(batch: int, length: int) -> Tensor:
    """Rows of documents of uneven length, padding in and behind them, one row all padding."""
    generator = torch.Generator().manual_seed(length)
    starts = torch.rand(batch, length, generator=generator, device="cpu") < 0.07
    ids = 1 + starts.long().cumsum(1)
    ids[:, length - length // 5 :] = 0
    ids[0, length // 3 : length // 3 + 2] = 0
    if batch > 1:
        ids[-1] = 0
    return ids.to(torch.get_default_device())


def expected(query: Tensor, key: Tensor, value: Tensor, ids: Tensor | None, kept: Tensor | float):
    """The definition, with the kept probabilities scaled, in double precision; [B, L, N, H]."""
    query, key, value = (x.double().transpose(1, 2) for x in (query, key, value))
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    if ids is not None:
        seen = document_bias(ids, torch.float64) == 0
        scores = scores.masked_fill(~seen, float("-inf"))
    # What sees nothing mixes nothing.
    weights = scores.softmax(-1).nan_to_num(0.0) if ids is not None else scores.softmax(-1)
    return ((weights * kept) @ value).transpose(1, 2)


def assert_agrees(shape, dtype, ids, kept, p) -> None:
    *parts, grad = inputs(shape, dtype)
    torch.manual_seed(5)
    out = triton_attention.attention(*parts, ids, p)
    exact = expected(*parts, ids, kept)
    found = [out, *torch.autograd.grad(out, parts, grad)]
    wanted = [exact, *torch.autograd.grad(exact, parts, grad.double())]
    for name, one, other in zip(("out", "query", "key", "value"), found, wanted, strict=True):
        assert one.dtype == dtype, name
        error = (one.double() - other).abs().max().item() / max(1.0, other.abs().max().item())
        assert error <= TOLERANCE[dtype], f"{name}: {error}"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_kernels_are_attention_inside_documents(dtype, packed):
    # Several blocks of either kind, none of them full at the end; a width that is no power of two.
    shape = (2, 133, 2, 24)
    assert_agrees(shape, dtype, documents(2, 133) if packed else None, 1.0, 0.0)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1, 8), (3, 32, 1, 64), (1, 65, 3, 16)])
def test_kernels_at_the_edges_of_their_blocks(shape, packed):
    assert_agrees(shape, torch.float64, documents(*shape[:2]) if packed else None, 1.0, 0.0)


@pytest.mark.parametrize("packed", [False, True])
def test_dropped_probabilities_are_those_of_the_hash_in_both_passes(packed):
    shape, p = (2, 70, 2, 16), 0.3
    torch.manual_seed(5)
    numbers = _hashed_integers(torch.Size((2, 2, 70, 70)), torch.rand(()))
    kept = (numbers >= round(p * 2**32) - 2**31).double() / (1 - p)
    assert 0.25 < (kept == 0).double().mean() < 0.35
    assert_agrees(shape, torch.float64, documents(2, 70) if packed else None, kept, p)


def test_a_compiled_caller_needs_no_graph_break_and_no_second_compilation():
    ids = documents(2, 20)

    def block(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return document_attention(query, key, value, ids, 0.2)

    torch.compiler.reset()
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager", dynamic=False)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for seed in range(2):
            *parts, grad = inputs((2, 20, 2, 8), torch.float32)
            results = []
            for function in (compiled, block):
                torch.manual_seed(seed)
                out = function(*parts)
                results.append([out, *torch.autograd.grad(out, parts, grad)])
            for one, other in zip(*results, strict=True):
                torch.testing.assert_close(one, other)


def test_documents_in_any_order_and_holes():
    ids = torch.tensor([[3, 3, 0, 1, 1, 3, 2, 0, 2, 1] * 8])
    assert_agrees((1, 80, 1, 16), torch.float64, ids, 1.0, 0.0)


def test_other_strides_are_laid_out_anew():
    query, key, value, _ = inputs((2, 20, 2, 8), torch.float64)
    key = key.contiguous()
    value = value.transpose(-1, -2).contiguous().transpose(-1, -2)
    ids = documents(2, 20)
    out = triton_attention.attention(query, key, value, ids, 0.0)
    torch.testing.assert_close(out, expected(query, key, value, ids, 1.0))


def trained_by(backend: str, mask_conv_padding: bool) -> list[Tensor]:
    """The hidden states of a packed row by this backend, and two gradients."""
    torch.manual_seed(0)
    config = EncoderConfig(
        vocab_size=50,
        hidden_size=32,
        embedding_size=32,
        num_layers=2,
        num_heads=4,
        intermediate_size=32,
        max_positions=80,
        attention_dropout=0.0,
        hidden_dropout=0.0,
        mask_conv_padding=mask_conv_padding,
    )
    encoder = Encoder(config)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    encoder.to(torch.bfloat16)
    ids = documents(2, 70)
    with use_backend(backend):
        hidden = encoder(torch.randint(1, 50, (2, 70)), document_ids=ids)
    real = hidden[ids > 0]
    layer = encoder.layers[0].attention
    return [real, *torch.autograd.grad(real.square().sum(), (layer.in_proj.weight, hidden))]


@pytest.mark.parametrize("mask_conv_padding", [True, False])
def test_an_encoder_makes_no_bias_where_the_kernels_run(mask_conv_padding, monkeypatch):
    expected = trained_by("eager", mask_conv_padding)
    for module in ("encoder", "attention"):
        monkeypatch.delattr(f"convbert.models.{module}.document_bias")
    found = trained_by("triton", mask_conv_padding)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).float().norm() < 0.03 * other.float().norm()


def test_float32_and_very_wide_heads_take_the_bias():
    with use_backend("triton"):
        assert reads_documents(torch.empty(0, dtype=torch.bfloat16), 128)
        assert not reads_documents(torch.empty(0), 64)
        assert not reads_documents(torch.empty(0, dtype=torch.float16), 136)
    with use_backend("eager"):
        assert not reads_documents(torch.empty(0, dtype=torch.bfloat16), 64)


@pytest.mark.parametrize("biased", [False, True])
def test_attention_is_pytorchs(biased):
    query, key, value = (torch.randn(2, 3, 7, 4, dtype=torch.float64) for _ in range(3))
    bias = torch.randn(2, 1, 7, 7, dtype=torch.float64) if biased else None
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    # With a chance this small nothing is dropped, yet the path of training runs.
    for p in (0.0, 1e-12):
        torch.testing.assert_close(attention(query, key, value, bias, p), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_attention_in_low_precision_is_pytorchs_to_its_rounding(dtype):
    query, key, value = (torch.randn(2, 3, 40, 64) for _ in range(3))
    bias = torch.zeros(2, 1, 1, 40).masked_fill_(torch.arange(40) > 30, float("-inf"))
    exact = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    inputs = (t.to(dtype) for t in (query, key, value, bias))
    found = attention(*inputs, 0.0)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), exact, rtol=0.02, atol=0.02)


def test_attention_drops_out_probabilities():
    query, key = (torch.randn(1, 1, 50, 4) for _ in range(2))
    value = torch.eye(50)[None, None]
    probabilities = attention(query, key, value, None, 0.5)
    assert 0.4 < (probabilities == 0).float().mean().item() < 0.6
