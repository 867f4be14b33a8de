"""Every backend computes the published operators, whatever the shape, dtype or documents."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from convbert.models.errors import UserError
from convbert.models.ops.convolution import (
    BACKEND_VARIABLE,
    BACKENDS,
    depthwise_conv,
    selected_backend,
    span_dynamic_conv,
    use_backend,
)

pytestmark = pytest.mark.usefixtures("on_device")

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}

shapes = st.tuples(
    st.integers(1, 3),
    st.integers(1, 20),
    st.integers(1, 3),
    st.integers(1, 9),
    st.sampled_from([1, 3, 5, 9, 13]),
)
dtypes = st.sampled_from(list(TOLERANCE))
plain = settings(max_examples=40, deadline=None)


def documents(batch: int, length: int, seed: int) -> Tensor:
    """Rows of a few documents with padding at the end of some of them."""
    generator = torch.Generator().manual_seed(seed)
    starts = torch.rand(batch, length, generator=generator, device="cpu") < 0.3
    ids = 1 + starts.long().cumsum(1)
    real = torch.randint(0, length + 1, (batch, 1), generator=generator, device="cpu")
    ids = ids * (torch.arange(length, device="cpu") < real)
    return ids.to(torch.get_default_device())


def inputs(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, ...]:
    """Value, logits, channels and filter with gradients, of one shape B, L, N, H, K."""
    batch, length, heads, width, taps = shape
    generator = torch.Generator().manual_seed(seed)
    sizes = (
        (batch, length, heads, width),
        (batch, length, heads, taps),
        (batch, length, heads * width),
        (heads * width, 1, taps),
    )
    return tuple(
        torch.randn(size, generator=generator, dtype=torch.float64, device="cpu")
        .to(torch.get_default_device(), dtype)
        .requires_grad_()
        for size in sizes
    )


def by_loop(value: Tensor, weights: Tensor, ids: Tensor | None) -> Tensor:
    """The definition, one position and one tap at a time; weights are [B, L, N, H, K]."""
    batch, length = value.shape[:2]
    taps = weights.shape[-1]
    out = torch.zeros_like(value)
    for row in range(batch):
        for center in range(length):
            for tap in range(taps):
                seen = center + tap - (taps - 1) // 2
                if not 0 <= seen < length:
                    continue
                if ids is not None and not ids[row, seen] == ids[row, center] != 0:
                    continue
                out[row, center] += weights[row, center, ..., tap] * value[row, seen]
    return out


def results(backend: str, shape: tuple[int, ...], dtype: torch.dtype, ids: Tensor | None) -> dict:
    """Both operators' outputs and gradients on one backend."""
    value, logits, x, weight = inputs(shape, dtype)
    mixed = span_dynamic_conv(value, logits, ids, backend=backend)
    filtered = depthwise_conv(x, weight, ids, backend=backend)
    up_mixed, _, up_filtered, _ = inputs(shape, dtype, seed=1)
    grads = torch.autograd.grad(
        (mixed, filtered), (value, logits, x, weight), (up_mixed, up_filtered)
    )
    names = ("mixed", "filtered", "value", "logits", "x", "weight")
    return dict(zip(names, (mixed, filtered, *grads), strict=True))


def assert_agrees(
    backend: str, shape: tuple[int, ...], dtype: torch.dtype, ids: Tensor | None
) -> None:
    expected = results("reference", shape, dtype, ids)
    for name, actual in results(backend, shape, dtype, ids).items():
        assert actual.dtype == dtype, name
        scale = max(1.0, expected[name].abs().max().item())
        error = (actual - expected[name]).abs().max().item() / scale
        assert error <= TOLERANCE[dtype], f"{name}: {error}"


@plain
@given(shape=shapes, packed=st.booleans(), seed=st.integers(0, 99))
def test_reference_is_the_definition(shape, packed, seed):
    ids = documents(*shape[:2], seed) if packed else None
    value, logits, x, weight = inputs(shape, torch.float64, seed)
    weights = logits.softmax(-1)[:, :, :, None, :]
    mixed = span_dynamic_conv(value, logits, ids, backend="reference")
    torch.testing.assert_close(mixed, by_loop(value, weights, ids))
    filtered = depthwise_conv(x, weight, ids, backend="reference")
    filters = weight[:, 0].expand(*x.shape, shape[-1])
    torch.testing.assert_close(filtered, by_loop(x, filters, ids))


@plain
@given(shape=shapes, dtype=dtypes, packed=st.booleans(), seed=st.integers(0, 99))
def test_slices_equal_the_reference(shape, dtype, packed, seed):
    assert_agrees("eager", shape, dtype, documents(*shape[:2], seed) if packed else None)


@settings(max_examples=10, deadline=None)
@given(shape=shapes, dtype=dtypes, packed=st.booleans(), seed=st.integers(0, 99))
def test_triton_kernels_equal_the_reference(shape, dtype, packed, seed):
    assert_agrees("triton", shape, dtype, documents(*shape[:2], seed) if packed else None)


@pytest.mark.parametrize("packed", [False, True])
def test_triton_kernels_join_their_blocks(packed):
    # More positions, channels and heads than one program holds, and no multiple of either.
    shape = (2, 133, 3, 48, 9)
    assert_agrees("triton", shape, torch.float32, documents(2, 133, seed=4) if packed else None)


@pytest.mark.parametrize(("dtype", "packed"), [(torch.float32, True), (torch.bfloat16, False)])
def test_compiled_slices_equal_the_reference(dtype, packed):
    shape = (2, 19, 2, 8, 5)
    assert_agrees("compiled", shape, dtype, documents(2, 19, seed=3) if packed else None)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("backend", ["reference", "eager", "triton"])
def test_gradients_are_those_of_the_formula(backend, packed):
    value, logits, x, weight = inputs((2, 4, 2, 2, 3), torch.float64)
    ids = torch.tensor([[1, 1, 2, 2], [1, 1, 1, 0]]) if packed else None
    # One random direction instead of every entry: interpreted kernels are slow.
    check = functools.partial(torch.autograd.gradcheck, fast_mode=backend == "triton")
    assert check(lambda v, k: span_dynamic_conv(v, k, ids, backend=backend), (value, logits))
    assert check(lambda v, k: depthwise_conv(v, k, ids, backend=backend), (x, weight))


@pytest.mark.parametrize("backend", ["eager", "triton"])
def test_half_precision_inputs_are_summed_in_float32(backend):
    # In bfloat16's 8 bits 256 + 1 is 256, so a running sum in that precision would stay there.
    value = torch.full((1, 9, 1, 1), 1.0, dtype=torch.bfloat16)
    value[0, 0] = 256.0
    weight = torch.ones(1, 1, 17, dtype=torch.bfloat16)
    out = depthwise_conv(value[..., 0], weight, backend=backend)
    assert out[0, 8, 0].item() == 264.0


@pytest.mark.parametrize("backend", ["eager", "triton"])
def test_views_of_one_projection_are_taken_as_they_are(backend):
    shape = (2, 7, 2, 4, 3)
    _, logits, _, _ = inputs(shape, torch.float64)
    projected = torch.randn(2, 7, 32, dtype=torch.float64)
    view = projected.chunk(4, dim=-1)[3].view(2, 7, 2, 4)
    expected = span_dynamic_conv(view.contiguous(), logits, backend="reference")
    actual = span_dynamic_conv(view, logits, backend=backend)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("backend", ["eager", "triton"])
def test_padding_neither_gives_nor_receives(backend):
    value, logits, _, _ = inputs((1, 8, 1, 2, 5), torch.float32)
    ids = torch.tensor([[1, 1, 1, 1, 1, 0, 0, 0]])
    out = span_dynamic_conv(value, logits, ids, backend=backend)
    assert torch.equal(out[:, 5:], torch.zeros_like(out[:, 5:]))
    alone = span_dynamic_conv(value[:, :5], logits[:, :5], backend=backend)
    torch.testing.assert_close(out[:, :5], alone)


@pytest.mark.parametrize("operator", [span_dynamic_conv, depthwise_conv])
def test_even_kernels_are_refused(operator):
    value, logits, x, weight = inputs((1, 4, 1, 2, 4), torch.float32)
    arguments = (value, logits) if operator is span_dynamic_conv else (x, weight)
    with pytest.raises(ValueError, match="4 taps"):
        operator(*arguments)


def test_the_nearest_choice_of_backend_wins(monkeypatch):
    assert selected_backend("auto", "cpu") == "eager"
    assert selected_backend("auto", "cuda") == "triton"
    monkeypatch.setenv(BACKEND_VARIABLE, "reference")
    assert selected_backend("auto", "cpu") == "reference"
    with use_backend("compiled"):
        assert selected_backend("auto", "cpu") == "compiled"
        assert selected_backend("auto", "cuda") == "compiled"
        assert selected_backend("eager", "cpu") == "eager"
    assert selected_backend("auto", "cpu") == "reference"


def test_an_unknown_backend_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setenv(BACKEND_VARIABLE, "fast")
    with pytest.raises(UserError, match=f"{BACKEND_VARIABLE}.*'fast'.*{next(iter(BACKENDS))}"):
        span_dynamic_conv(*inputs((1, 4, 1, 2, 3), torch.float32)[:2])


def test_triton_on_a_cpu_names_the_remedy(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UserError, match=r"cannot run on cpu.*choose 'eager'"):
        selected_backend("triton", "cpu")


@pytest.mark.parametrize("backend", ["eager", "triton"])
def test_a_compiled_caller_needs_no_graph_break_and_no_second_compilation(backend):
    def block(value, logits, x, weight, ids):
        mixed = span_dynamic_conv(value, logits, ids, backend=backend)
        return mixed, depthwise_conv(x, weight, ids, backend=backend)

    shape = (2, 12, 2, 4, 3)
    ids = documents(2, 12, seed=2)
    torch.compiler.reset()
    compiled_block = torch.compile(block, fullgraph=True, backend="aot_eager", dynamic=False)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for seed in range(2):
            tensors = inputs(shape, torch.float32, seed)
            results = compiled_block(*tensors, ids), block(*tensors, ids)
            for actual, expected in zip(*results, strict=True):
                torch.testing.assert_close(actual, expected)
            grads = [torch.autograd.grad([y.sum() for y in ys], tensors) for ys in results]
            for actual, expected in zip(*grads, strict=True):
                torch.testing.assert_close(actual, expected)
