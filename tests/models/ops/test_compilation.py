"""A network compiled for training computes the same, once and for all, from less memory."""

import copy
import logging
import os

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.backends.debugging import aot_eager
from torch._dynamo.utils import counters
from torch._inductor.utils import fresh_cache

from convbert.models.compiling import compile_layers
from convbert.models.encoder import Encoder
from convbert.models.ops import compilation
from convbert.models.presets import preset

IDS = torch.arange(34).view(2, 17)
DOCUMENTS = torch.tensor([[1] * 9 + [2] * 8, [1] * 12 + [0] * 5])


def gradients(encoder: nn.Module) -> list[Tensor]:
    encoder.zero_grad()
    encoder(IDS, document_ids=DOCUMENTS)[DOCUMENTS > 0].square().sum().backward()
    return [p.grad for p in encoder.parameters()]


def kept_bytes(encoder: nn.Module) -> int:
    """What the forward pass keeps for the backward pass, parameters aside."""
    kept = {}
    parameters = {p.untyped_storage().data_ptr() for p in encoder.parameters()}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        out = encoder(IDS, document_ids=DOCUMENTS)
    assert out.requires_grad
    return sum(kept.values())


@pytest.fixture(scope="module")
def pair() -> tuple[Encoder, Encoder]:
    """The same encoder twice, the second compiled."""
    return twins(layers=3)


def twins(layers: int) -> tuple[Encoder, Encoder]:
    sizes = {"num_layers": layers, "vocab_size": 40, "hidden_size": 32, "embedding_size": 32}
    config = preset("tiny", hidden_dropout=0.0, attention_dropout=0.0, **sizes).discriminator
    plain, compiled = Encoder(config), Encoder(config)
    compiled.load_state_dict(plain.state_dict())
    compile_layers(compiled)
    return plain, compiled


def test_gradients_are_the_same_and_nothing_is_compiled_twice(pair):
    plain, compiled = pair
    first = gradients(compiled)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for actual, expected in zip(gradients(compiled), gradients(plain), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    assert all(torch.isfinite(grad).all() for grad in first)


def test_less_is_kept_for_the_backward_pass(pair):
    plain, compiled = pair
    assert kept_bytes(compiled) < 0.75 * kept_bytes(plain)


def without_cpp(monkeypatch):
    """Compile the whole way but for the C++ at its end; return how many graphs there are by now."""
    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", aot_eager)
    torch._dynamo.reset()
    before = counters["stats"]["unique_graphs"]
    return lambda: counters["stats"]["unique_graphs"] - before


def test_a_whole_network_is_compiled_for_training_alone(monkeypatch):
    graphs = without_cpp(monkeypatch)
    plain, _ = twins(layers=2)
    whole = copy.deepcopy(plain)
    compilation.compile_for_training(whole)
    for actual, expected in zip(gradients(whole), gradients(plain), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    assert graphs() == 1
    whole.eval()
    torch.testing.assert_close(whole(IDS[:, :5]), plain.eval()(IDS[:, :5]))
    assert graphs() == 1


@pytest.mark.parametrize("checkpointing", [False, True])
def test_layers_that_are_alike_are_compiled_once(monkeypatch, checkpointing):
    graphs = without_cpp(monkeypatch)
    plain, compiled = twins(layers=4)
    compiled.gradient_checkpointing = checkpointing
    for actual, expected in zip(gradients(compiled), gradients(plain), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    assert graphs() == 1
    compiled.eval()
    with torch.no_grad():
        for length in (5, 9):
            compiled(IDS[:, :length])
    assert graphs() == 1, "evaluation does not compile"


def test_a_compiler_that_fails_is_done_without(monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("convbert"), "propagate", True)
    torch._dynamo.reset()
    plain, compiled = twins(layers=2)
    with fresh_cache(), torch._inductor.config.patch({"cpp.cxx": ("false",)}):
        cache = os.environ["TORCHINDUCTOR_CACHE_DIR"]
        for actual, expected in zip(gradients(compiled), gradients(plain), strict=True):
            torch.testing.assert_close(actual, expected)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1, warnings
    assert "runs without the compiler, which failed" in warnings[0]
    assert warnings[0].endswith(f"end the runs that use it, remove {cache}")
