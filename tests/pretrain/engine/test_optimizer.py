import pytest
import torch

from convbert.models.presets import preset
from convbert.models.pretraining import build_model
from convbert.pretrain.engine.optimizer import AdamW, Lamb, decays, parameter_groups


def reference(grads: list[float], lr: float, decay: float) -> list[float]:
    """Evaluate the published update by hand for one parameter that starts at 1."""
    p, m, v, trace = 1.0, 0.0, 0.0, []
    for g in grads:
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        p -= lr * (m / (v**0.5 + 1e-6) + decay * p)
        trace.append(p)
    return trace


def test_matches_the_published_update() -> None:
    grads = [0.5, -1.0, 0.25, 0.0, 3.0]
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = AdamW([p], lr=0.01, weight_decay=0.1)
    for expected, g in zip(reference(grads, 0.01, 0.1), grads, strict=True):
        p.grad = torch.full_like(p, g)
        optimizer.step()
        torch.testing.assert_close(p.detach(), torch.full_like(p, expected).detach())


@pytest.mark.parametrize(("step", "factor"), [(1, 3.2), (10, 6.5), (100, 3.2), (1000, 1.26)])
def test_missing_correction_enlarges_early_steps(step: int, factor: float) -> None:
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = AdamW([p], lr=1.0, weight_decay=0.0)
    for _ in range(step):
        before = p.item()
        p.grad = torch.ones_like(p)
        optimizer.step()
    assert before - p.item() == pytest.approx(factor, rel=0.02)


def test_bias_correction_gives_torchs_adamw() -> None:
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(7, dtype=torch.float64))
    theirs = torch.nn.Parameter(ours.detach().clone())
    settings = {"lr": 0.01, "eps": 1e-8, "weight_decay": 0.1}
    a = AdamW([ours], bias_correction=True, **settings)
    b = torch.optim.AdamW([theirs], **settings)
    for _ in range(20):
        ours.grad = torch.randn_like(ours)
        theirs.grad = ours.grad.clone()
        a.step()
        b.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_decay_spares_norms_and_biases_only() -> None:
    assert decays("model.discriminator.embeddings.word.weight")
    assert decays("model.discriminator.layers.0.attention.local.span_depthwise")
    assert not decays("model.discriminator.layers.0.attention.norm.weight")
    assert not decays("model.discriminator.layers.0.attention.local.span_bias")
    assert not decays("model.generator_head.bias")


def test_tied_embeddings_are_optimized_once() -> None:
    model = build_model(preset("tiny", vocab_size=100))
    groups = parameter_groups(model, 0.01)
    listed = [id(p) for g in groups for p in g["params"]]
    assert len(listed) == len(set(listed))
    assert sum(p.numel() for g in groups for p in g["params"]) == sum(
        p.numel() for p in model.parameters()
    )


def test_lamb_scales_each_parameter_by_its_own_norms() -> None:
    torch.manual_seed(0)
    starts = [torch.randn(5, 3), torch.randn(4), torch.zeros(2), torch.randn(3)]
    params = [torch.nn.Parameter(t.clone()) for t in starts]
    groups = [
        {"params": params[:3], "adapt": True, "weight_decay": 0.1},
        {"params": params[3:], "adapt": False, "weight_decay": 0.0},
    ]
    optimizer = Lamb(groups, lr=0.01)
    moments = [(torch.zeros_like(t), torch.zeros_like(t)) for t in starts]
    for _ in range(3):
        grads = [torch.randn_like(p) for p in params]
        for index, (p, g, (m, v)) in enumerate(zip(starts, grads, moments, strict=True)):
            m.mul_(0.9).add_(0.1 * g)
            v.mul_(0.999).add_(0.001 * g * g)
            update = m / (v.sqrt() + 1e-6) + (0.1 * p if index < 3 else 0.0)
            adapted = index < 3 and bool(p.norm() > 0)
            p -= 0.01 * (p.norm() / update.norm() if adapted else 1.0) * update
        for p, g in zip(params, grads, strict=True):
            p.grad = g
        optimizer.step()
        for p, expected in zip(params, starts, strict=True):
            torch.testing.assert_close(p.detach(), expected)
