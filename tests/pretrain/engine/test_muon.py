import math

import pytest
import torch
from torch import Tensor

from convbert.models.errors import UserError
from convbert.models.presets import preset
from convbert.models.pretraining import build_model
from convbert.pretrain.engine.matrices import MatrixShape, hidden_matrices
from convbert.pretrain.engine.matrix_shares import HeldPart, assign_owners
from convbert.pretrain.engine.muon import Muon, orthogonalize
from convbert.pretrain.engine.optimizer import AdamW, parameter_groups
from convbert.pretrain.settings.recipes import resolve


def polynomial(matrix: Tensor) -> Tensor:
    """Apply the published quintic five times to the singular values, by a decomposition."""
    left, values, right = torch.linalg.svd(matrix / matrix.norm(), full_matrices=False)
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left @ torch.diag(values) @ right


@pytest.mark.parametrize("shape", [(8, 8), (6, 20), (20, 6), (1, 5)])
def test_iteration_acts_on_singular_values_alone(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape, dtype=torch.float64)
    found = orthogonalize(matrices, 5)
    for matrix, result in zip(matrices, found, strict=True):
        torch.testing.assert_close(result, polynomial(matrix), rtol=1e-9, atol=1e-9)
    assert not orthogonalize(torch.zeros(1, *shape), 5).any()


def test_iteration_is_torchs() -> None:
    from torch.optim._muon import _zeropower_via_newtonschulz as theirs

    matrix = torch.randn(16, 40)
    expected = theirs(matrix, (3.4445, -4.7750, 2.0315), 5, 1e-7).float()
    # Theirs computes in bfloat16.
    torch.testing.assert_close(orthogonalize(matrix[None], 5)[0], expected, rtol=0, atol=0.02)


def test_update_is_that_of_a_dense_implementation() -> None:
    """Five updates in fp64: two ordinary matrices, one of three blocks, and a bias by AdamW."""
    torch.manual_seed(0)
    starts = [torch.randn(6, 4), torch.randn(4, 6), torch.randn(12, 4), torch.randn(5)]
    params = [torch.nn.Parameter(t.double()) for t in starts]
    matrices = {
        "wide": MatrixShape(1, 6, 4, math.sqrt(6 / 4)),
        "flat": MatrixShape(1, 4, 6, 1.0),
        "blocks": MatrixShape(3, 4, 4, 1.0),
    }
    groups = [
        {"params": params[:3], "weight_decay": 0.1, "matrices": True, "lr": 0.02},
        {"params": params[3:], "weight_decay": 0.0, "matrices": False, "lr": 1e-3},
    ]
    optimizer = Muon(groups, matrices=matrices)
    bias = torch.nn.Parameter(params[3].detach().clone())
    adamw = AdamW([bias], lr=1e-3, weight_decay=0.0)
    expected = [p.detach().clone() for p in params[:3]]
    velocity = [torch.zeros_like(p) for p in expected]
    for _ in range(5):
        for p in params:
            p.grad = torch.randn_like(p)
        bias.grad = params[3].grad.clone()  # type: ignore[union-attr]
        for index, p in enumerate(expected):
            gradient = params[index].grad
            # As the author's code has it, without the factor that orthogonalizing takes away.
            velocity[index] = 0.95 * velocity[index] + gradient
            nesterov = gradient + 0.95 * velocity[index]
            parts = nesterov.split(4) if index == 2 else [nesterov]
            rows, columns = parts[0].shape
            update = torch.cat([polynomial(part) for part in parts])
            p -= 0.02 * (max(1.0, rows / columns) ** 0.5 * update + 0.1 * p)
        optimizer.step()
        adamw.step()
    for p, e in zip(params, expected, strict=False):
        torch.testing.assert_close(p.detach(), e, rtol=1e-6, atol=1e-9)
    assert torch.equal(params[3], bias)


@pytest.mark.parametrize("operator", ["sdconv", "conv", "lightweight", "dynamic"])
def test_hidden_matrices_are_the_maps_of_the_layers(operator: str) -> None:
    model = build_model(
        preset("tiny", vocab_size=100, local_op=operator, num_groups=2, embedding_size=64)
    )
    found = hidden_matrices(model)
    parameters = dict(model.named_parameters())
    kinds = {name.split("layers.")[1].split(".", 1)[1] for name in found}
    local = {"sdconv": {"span_pointwise"}, "conv": {"conv.weight"}}.get(operator, set())
    assert kinds == {
        "attention.in_proj.weight",
        "attention.out_proj.weight",
        "feedforward.up.weight",
        "feedforward.down.weight",
        *(f"attention.local.{name}" for name in local),
    }
    for name, shape in found.items():
        assert shape.blocks * shape.rows * shape.columns == parameters[name].numel()
        if "in_proj" in name:
            assert shape.blocks == (3 if operator == "conv" else 4)
            assert shape.scale == max(1.0, shape.rows / shape.columns) ** 0.5
        if "feedforward" in name:
            assert shape.blocks == 2
    groups = parameter_groups(model, 0.01, found)
    assert [g["matrices"] for g in groups] == [True, False, False]
    assert len(groups[0]["params"]) == len(found)


def test_its_settings_are_refused_where_they_would_do_nothing() -> None:
    with pytest.raises(UserError, match="muon is set, but name is 'adamw'"):
        resolve("tiny", ["optimizer.muon.learning_rate=0.05"])
    given = ["optimizer.name=muon", "optimizer.muon.learning_rate=0.05"]
    assert resolve("tiny", given).optimizer.muon.learning_rate == 0.05


def test_no_matrix_is_done_twice_and_the_work_is_shared() -> None:
    shapes = {n: MatrixShape(1, 64, 64 * (1 + n % 3), 1.0) for n in range(40)}
    counts = {n: shape.rows * shape.columns for n, shape in shapes.items()}
    sharded = [
        [HeldPart(n, rank * count // 4, count // 4) for n, count in counts.items()]
        for rank in range(4)
    ]
    owners = assign_owners(shapes, sharded)
    assert set(owners) == set(shapes)
    load = [sum(shapes[n].cost for n in owners if owners[n] == rank) for rank in range(4)]
    assert max(load) < 1.15 * sum(load) / 4
    # A matrix that lies mostly in one process stays there.
    whole = [
        [HeldPart(n, 0, counts[n]) for n in range(20)],
        [HeldPart(n, 0, counts[n]) for n in range(20, 40)],
    ]
    kept = assign_owners(shapes, whole)
    assert sum(kept[n] == (n >= 20) for n in shapes) >= 38
