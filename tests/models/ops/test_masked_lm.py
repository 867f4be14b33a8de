"""Chunked loss and sampling equal the full softmax, at any chunk size."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from convbert.models.ops import masked_lm as masked_lm_module
from convbert.models.ops.convolution import use_backend
from convbert.models.ops.masked_lm import _with_impossible_ids, masked_lm

pytestmark = pytest.mark.usefixtures("on_device")


@pytest.fixture(params=["eager", "triton"], autouse=True)
def backend(request):
    """Every test here holds for both; without a GPU the kernels are interpreted."""
    with use_backend(request.param):
        yield request.param


def inputs(rows: int, vocabulary: int, width: int, dtype: torch.dtype, seed: int = 0):
    """Hidden states, table, bias, targets and uniform numbers."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        drawn = torch.randn(size, generator=generator, dtype=torch.float64, device="cpu")
        return drawn.to(torch.get_default_device(), dtype)

    hidden, weight, bias = normal(rows, width), normal(vocabulary, width), normal(vocabulary)
    targets = torch.randint(0, vocabulary, (rows,), generator=generator, device="cpu")
    uniform = torch.rand(rows, generator=generator, device="cpu")
    return hidden, weight, bias, targets.to(hidden.device), uniform.to(hidden.device)


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    rows=st.integers(1, 9),
    vocabulary=st.integers(1, 50),
    chunk=st.integers(1, 10),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    seed=st.integers(0, 999),
)
def test_everything_equals_the_full_softmax(backend, rows, vocabulary, chunk, temperature, seed):
    rows = rows if backend == "eager" else 1 + rows // 4  # the interpreter is slow
    hidden, weight, bias, targets, uniform = inputs(rows, vocabulary, 4, torch.float64, seed)
    loss, sampled, correct = masked_lm(
        hidden, weight, bias, targets, uniform, temperature, chunk=chunk
    )
    logits = hidden @ weight.T + bias
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(loss, expected)
    assert torch.equal(correct, logits.argmax(1) == targets)
    cumulative = (logits / temperature).softmax(1).cumsum(1)
    for row, token in enumerate(sampled.tolist()):
        below = cumulative[row, token - 1].item() if token else 0.0
        assert below - 1e-9 <= uniform[row].item() <= cumulative[row, token].item() + 1e-9


def test_a_vocabulary_of_several_blocks_is_one():
    """Loss, samples and gradients of rows that the kernels read in more than one piece."""
    tensors = inputs(5, 10_000, 4, torch.float32)
    tensors[-1][:2] = torch.tensor([0.0, 1 - 2**-24])
    leaves = [x.requires_grad_() for x in tensors[:3]]
    weights = torch.arange(5.0)
    outcomes = []
    for backend in ("eager", "triton"):
        with use_backend(backend):
            found = masked_lm(*tensors, 0.7)
            outcomes.append((*found, *torch.autograd.grad(found[0] @ weights, leaves)))
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_ids_added_for_alignment_change_nothing(temperature):
    hidden, weight, bias, targets, uniform = inputs(12, 11, 3, torch.float64)
    uniform[:2] = torch.tensor([0.0, 1 - 2**-24])
    leaves = [x.requires_grad_() for x in (hidden, weight, bias)]
    expected = masked_lm(hidden, weight, bias, targets, uniform, temperature)
    wider = _with_impossible_ids(weight, bias, 5)
    found = masked_lm(hidden, *wider, targets, uniform, temperature)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    grads = [torch.autograd.grad(out[0].sum(), leaves) for out in (found, expected)]
    torch.testing.assert_close(*grads)


def test_gradients_are_those_of_the_loss():
    hidden, weight, bias, targets, uniform = inputs(3, 5, 2, torch.float64)
    leaves = [x.requires_grad_() for x in (hidden, weight, bias)]
    assert torch.autograd.gradcheck(
        lambda h, w, b: masked_lm(h, w, b, targets, uniform, chunk=2)[0], leaves
    )


def test_bfloat16_losses_are_taken_in_float32():
    hidden, weight, bias, targets, uniform = inputs(6, 300, 16, torch.bfloat16)
    hidden.requires_grad_()
    weight.requires_grad_()
    loss, _, _ = masked_lm(hidden, weight, bias, targets, uniform, chunk=4)
    assert loss.dtype == torch.float32
    logits = hidden.double() @ weight.double().T + bias.double()
    exact = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(loss, exact.float(), atol=0.1, rtol=0)
    grads = torch.autograd.grad(loss.sum(), (hidden, weight), retain_graph=True)
    exact_grads = torch.autograd.grad(exact.sum(), (hidden, weight))
    for grad, exact_grad in zip(grads, exact_grads, strict=True):
        assert grad.dtype == torch.bfloat16
        error = (grad - exact_grad).norm() / exact_grad.norm()
        assert error < 0.02


def test_samples_follow_the_distribution(backend):
    # The interpreter takes milliseconds for a row.
    rows, vocabulary = (20_000, 37) if backend == "eager" else (100, 4)
    _, weight, bias, _, _ = inputs(1, vocabulary, 4, torch.float32)
    hidden = inputs(1, 1, 4, torch.float32, seed=5)[0].expand(rows, 4)
    torch.manual_seed(7)
    uniform = torch.rand(rows)
    targets = torch.zeros(rows, dtype=torch.int64)
    _, sampled, _ = masked_lm(hidden, weight, bias, targets, uniform, 2.0)
    expected = ((hidden[0] @ weight.T + bias) / 2.0).softmax(0) * rows
    counts = torch.bincount(sampled, minlength=vocabulary)
    chi_squared = ((counts - expected) ** 2 / expected).sum().item()
    assert chi_squared < vocabulary - 1 + 4 * math.sqrt(2 * (vocabulary - 1))


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2**-24])
def test_impossible_tokens_are_never_drawn(uniform):
    # All the mass lies on ids 3 and 30; the extremes of the uniform must find them.
    bias = torch.full((41,), -math.inf)
    bias[[3, 30]] = 0.0
    hidden, weight = torch.zeros(2, 4), torch.zeros(41, 4)
    targets = torch.tensor([3, 30])
    _, drawn, _ = masked_lm(hidden, weight, bias, targets, torch.full((2,), uniform))
    assert drawn.tolist() == [3 if uniform == 0.0 else 30] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_samples_of_logits_that_mean_nothing_are_ids_of_the_vocabulary(dtype, temperature, bad):
    vocabulary = 41  # 7 blocks of ids, the last one not full
    hidden, weight, bias, targets, uniform = inputs(2, vocabulary, 4, dtype)
    expected = masked_lm(hidden, weight, bias, targets, uniform, temperature)
    hidden[1::2] = bad
    wider = _with_impossible_ids(weight, bias, 23)
    for table in ((weight, bias), wider):
        loss, drawn, correct = masked_lm(hidden, *table, targets, uniform, temperature)
        assert int(drawn.min()) >= 0
        assert int(drawn.max()) < len(table[1])
        assert not loss[1::2].isfinite().any()
        for found, wanted in zip((loss, drawn, correct), expected, strict=True):
            torch.testing.assert_close(found[::2], wanted[::2])


def test_ids_added_for_alignment_are_not_drawn_from_nan(monkeypatch):
    monkeypatch.setattr(
        masked_lm_module, "_aligned", lambda w, b: _with_impossible_ids(w, b, -len(w) % 64)
    )
    hidden, weight, bias, targets, uniform = inputs(6, 41, 4, torch.float32)
    _, drawn, _ = masked_lm(hidden * math.nan, weight, bias, targets, uniform)
    assert int(drawn.max()) < 41


def test_autocast_multiplies_in_its_own_dtype():
    hidden, weight, bias, targets, uniform = inputs(4, 64, 8, torch.float32)
    hidden.requires_grad_()
    with torch.autocast(hidden.device.type, torch.bfloat16):
        loss, _, _ = masked_lm(hidden, weight, bias, targets, uniform)
    half = masked_lm(hidden.bfloat16(), weight.bfloat16(), bias, targets, uniform)[0]
    assert torch.equal(loss, half)
    (grad,) = torch.autograd.grad(loss.sum(), hidden)
    assert grad.dtype == torch.float32


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    hidden, weight, bias, targets, uniform = inputs(2, 5, 3, torch.float32)
    with pytest.raises(ValueError, match="temperature"):
        masked_lm(hidden, weight, bias, targets, uniform, temperature)


@pytest.mark.parametrize("temperature", [2.0, 1.0])
def test_a_temperature_in_a_tensor_is_a_temperature(temperature):
    tensors = inputs(16, 40, 4, torch.float32)
    expected = masked_lm(*tensors, temperature)
    for found, wanted in zip(masked_lm(*tensors, torch.tensor(temperature)), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert not torch.equal(masked_lm(*tensors, 0.1)[1], expected[1])


def test_a_compiled_caller_needs_no_graph_break():
    tensors = inputs(5, 40, 4, torch.float32)
    compiled = torch.compile(masked_lm, fullgraph=True, backend="aot_eager")
    for actual, expected in zip(compiled(*tensors, chunk=2), masked_lm(*tensors), strict=True):
        torch.testing.assert_close(actual, expected)
