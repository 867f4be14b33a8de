"""Tying, learning and recomputation of the pretraining networks."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.models.presets import preset
from convbert.models.pretraining import (
    MaskedLanguageModel,
    ReplacedTokenModel,
    build_model,
    kept_encoder,
)

VOCABULARY = 60
LOCAL_OPS = ["sdconv", "dynamic", "lightweight", "conv", "none", "attention"]
TINY = {"hidden_size": 64, "embedding_size": 48, "num_layers": 2, "max_positions": 32}


def make(**overrides: Any) -> ReplacedTokenModel:
    torch.manual_seed(0)
    model = build_model(preset("tiny", vocab_size=VOCABULARY, **(TINY | overrides)))
    assert isinstance(model, ReplacedTokenModel)
    return model


def addresses(module: nn.Module) -> set[int]:
    return {parameter.data_ptr() for parameter in module.parameters()}


def mlm_loss(encoder: Encoder, head: nn.Module, ids: Tensor, at: Tensor, target: Tensor) -> Tensor:
    """Predict the ids of the positions ``at`` (a bool mask)."""
    return F.cross_entropy(head(encoder(ids)[at]), target[at])


def test_tied_embeddings_are_one_storage() -> None:
    model = make()
    assert model.generator.embeddings is model.discriminator.embeddings
    shared = addresses(model.generator) & addresses(model.discriminator)
    assert shared == addresses(model.discriminator.embeddings)
    names = [name for name, _ in model.named_parameters()]
    assert sum("embeddings.word" in name for name in names) == 1
    assert sum("embeddings.norm.weight" in name for name in names) == 1
    assert model.generator_head.vocabulary is model.discriminator.embeddings.word.weight
    # The generator is narrower, so its projection from the shared table is its own.
    assert model.generator.project.weight.shape == (32, 48)


def test_both_losses_reach_the_shared_embeddings() -> None:
    ids, at = torch.randint(1, VOCABULARY, (2, 8)), torch.zeros(2, 8, dtype=torch.bool)
    at[:, 2] = True
    for network in ("generator", "discriminator"):
        model = make()
        if network == "generator":
            mlm_loss(model.generator, model.generator_head, ids, at, ids).backward()
        else:
            model.discriminator_head(model.discriminator(ids)).sum().backward()
        for name, parameter in model.discriminator.embeddings.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_tying_survives_copies_casts_and_loading() -> None:
    model = make()
    copied = copy.deepcopy(model).to(torch.float64)
    assert copied.generator_head.vocabulary is copied.discriminator.embeddings.word.weight
    assert not addresses(copied) & addresses(model)
    other = make(init="hf")
    other.load_state_dict(model.state_dict())
    assert other.generator.embeddings is other.discriminator.embeddings
    ids = torch.randint(1, VOCABULARY, (1, 6))
    hidden = model.eval().generator(ids)[0]
    assert torch.equal(other.eval().generator(ids)[0], hidden)
    assert torch.equal(other.generator_head(hidden), model.generator_head(hidden))


def test_an_untied_generator_shares_nothing() -> None:
    model = make(tie_embeddings=False)
    assert not addresses(model.generator) & addresses(model.discriminator)
    assert model.generator_head.vocabulary is model.generator.embeddings.word.weight
    assert model.generator_head.vocabulary.shape == (VOCABULARY, 32)


def disentangled(**overrides: Any) -> ReplacedTokenModel:
    """Networks with gdes whose differences are no longer zero."""
    model = make(tie_embeddings="gdes", **overrides)
    for parameter in model.discriminator.embeddings.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def test_differences_start_at_zero() -> None:
    model = make(tie_embeddings="gdes").eval()
    assert not addresses(model.generator) & addresses(model.discriminator)
    ids = torch.randint(1, VOCABULARY, (2, 8))
    blocks = (model.generator.embeddings, model.discriminator.embeddings)
    assert torch.equal(*(block(ids) for block in blocks))
    with torch.no_grad():
        model.generator.embeddings.word.weight.add_(1.0)
    assert torch.equal(*(block(ids) for block in blocks))


@pytest.mark.parametrize("inputs", ["plain", "documents"])
def test_the_discriminator_learns_its_differences_as_it_would_the_sums(inputs: str) -> None:
    """Outputs and gradients are those of an encoder with the summed tables, to the last bit."""
    model = disentangled(hidden_dropout=0.0, attention_dropout=0.0)
    plain = kept_encoder(model)
    own = model.discriminator
    assert torch.equal(
        plain.embeddings.word.weight,
        own.embeddings.word.weight + model.generator.embeddings.word.weight,
    )
    ids = torch.randint(1, VOCABULARY, (2, 12))
    documents = torch.tensor([[1] * 7 + [2] * 5, [1] * 9 + [0] * 3])
    given = {} if inputs == "plain" else {"document_ids": documents, "token_type_ids": ids % 2}
    found, expected = own(ids, **given), plain(ids, **given)
    assert torch.equal(found, expected)
    for output in (found, expected):
        output.pow(3).sum().backward()
    for name, parameter in plain.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(own.get_parameter(name).grad, parameter.grad), name
    assert own.embeddings.word.weight.grad.any()
    assert all(parameter.grad is None for parameter in model.generator.parameters())


def test_the_generator_learns_the_shared_table_alone() -> None:
    model = disentangled()
    ids, at = torch.randint(1, VOCABULARY, (2, 8)), torch.zeros(2, 8, dtype=torch.bool)
    at[:, 2] = True
    mlm_loss(model.generator, model.generator_head, ids, at, ids).backward()
    assert model.generator.embeddings.word.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.discriminator.parameters())


def test_tied_encoders_are_one_module() -> None:
    model = make(tie_encoders=True)
    assert model.generator is model.discriminator
    assert model.generator_head.vocabulary is model.discriminator.embeddings.word.weight
    assert not any(name.startswith("generator.") for name, _ in model.named_parameters())


def test_a_generator_is_asked_for_where_there_is_none() -> None:
    with pytest.raises(UserError, match="has no generator"):
        ReplacedTokenModel(preset("bert-tiny"))


VARIANTS: dict[str, dict[str, Any]] = {
    "sdconv": {},
    "dynamic": {"local_op": "dynamic"},
    "lightweight": {"local_op": "lightweight"},
    "conv": {"local_op": "conv"},
    "none": {"local_op": "none"},
    "attention": {"local_op": "attention"},
    "groups": {"num_groups": 2},
    "ratio one": {"head_ratio": 1},
    "ratio four": {"head_ratio": 4},
    "hf rule": {"head_ratio": 4, "head_rule": "hf", "init": "hf"},
    "wide kernel": {"conv_kernel_size": 31},
    "unmasked": {"mask_conv_padding": False},
    "untied": {"tie_embeddings": False},
    "gdes": {"tie_embeddings": "gdes"},
    "one encoder": {"tie_encoders": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_replaced_token_detection_overfits_one_batch(variant: str) -> None:
    """Both losses on fixed corrupted rows fall to almost nothing."""
    model = make(hidden_dropout=0.0, attention_dropout=0.0, **VARIANTS[variant])
    ids = torch.randint(5, VOCABULARY, (4, 16))
    at = torch.rand(4, 16) < 0.2
    masked = ids.masked_fill(at, 4)
    corrupted = torch.where(at, torch.randint(5, VOCABULARY, ids.shape), ids)
    replaced = (corrupted != ids).float()
    optimizer = torch.optim.Adam(model.parameters())
    losses, updates = [], 160
    for update in range(updates):
        # Falls to nothing: at a constant rate a late update may overshoot on some processors.
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - update / updates)
        mlm = mlm_loss(model.generator, model.generator_head, masked, at, ids)
        logits = model.discriminator_head(model.discriminator(corrupted))
        rtd = F.binary_cross_entropy_with_logits(logits, replaced)
        optimizer.zero_grad()
        (mlm + 10 * rtd).backward()
        optimizer.step()
        losses.append((mlm.item(), rtd.item()))
    assert losses[0][0] > 3.0
    assert losses[0][1] > 0.3
    assert max(losses[-1]) < 0.05


@pytest.mark.parametrize("local_op", ["sdconv", "attention"])
def test_masked_language_model_overfits_one_batch(local_op: str) -> None:
    torch.manual_seed(0)
    model = MaskedLanguageModel(
        preset(
            "bert-tiny",
            vocab_size=VOCABULARY,
            local_op=local_op,
            hidden_dropout=0.0,
            attention_dropout=0.0,
            **TINY,
        )
    )
    ids = torch.randint(5, VOCABULARY, (4, 16))
    at = torch.rand(4, 16) < 0.2
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        loss = mlm_loss(model.encoder, model.head, ids.masked_fill(at, 4), at, ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


@pytest.mark.parametrize("variant", ["sdconv", "attention"])
def test_recomputation_changes_no_gradient(variant: str) -> None:
    """Dropout included: the recomputed forward draws the same masks."""
    ids = torch.randint(1, VOCABULARY, (2, 12))
    documents = torch.ones_like(ids)
    gradients = []
    for recompute in (False, True):
        model = make(**VARIANTS[variant])
        model.discriminator.gradient_checkpointing = recompute
        torch.manual_seed(1)
        model.discriminator(ids, document_ids=documents).pow(3).sum().backward()
        gradients.append({n: p.grad for n, p in model.discriminator.named_parameters()})
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name


@pytest.mark.parametrize("inputs", ["plain", "attention_mask", "document_ids"])
@pytest.mark.parametrize("local_op", LOCAL_OPS)
def test_the_encoder_is_one_graph(local_op: str, inputs: str) -> None:
    """``fullgraph`` refuses whatever would send compiled code back to Python."""
    torch._dynamo.reset()
    encoder = make(local_op=local_op).discriminator.eval()
    compiled = torch.compile(encoder, fullgraph=True, backend="eager")
    ids = torch.randint(1, VOCABULARY, (2, 12))
    documents = torch.tensor([[1] * 7 + [2] * 5, [1] * 9 + [0] * 3])
    arguments = {
        "plain": {},
        "attention_mask": {"attention_mask": documents},
        "document_ids": {"document_ids": documents},
    }[inputs]
    assert torch.equal(compiled(ids, **arguments), encoder(ids, **arguments))
