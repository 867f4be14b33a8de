"""The hashed dropout of compiled graphs is a dropout."""

import pytest
import torch
from torch import Tensor

from convbert.models.ops.dropout import Dropout, dropout

P = 0.1
SHAPE = (64, 100, 33)


@pytest.fixture(scope="module")
def two_masks():
    """A compiled function that drops out ones twice, with the gradient of the second."""

    def forward(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return dropout(x, P), dropout(y, P)

    compiled = torch.compile(forward, fullgraph=True, dynamic=False)

    def draw() -> tuple[Tensor, Tensor, Tensor]:
        ones = torch.ones(SHAPE, requires_grad=True)
        first, second = compiled(torch.ones(SHAPE), ones)
        return first, second.detach(), torch.autograd.grad(second.sum(), ones)[0]

    return draw


def test_a_share_p_is_dropped_and_the_rest_is_scaled(two_masks):
    for out in two_masks()[:2]:
        kept = out != 0
        torch.testing.assert_close(out[kept], torch.full_like(out[kept], 1 / (1 - P)))
        deviation = (P * (1 - P) / out.numel()) ** 0.5
        assert abs((~kept).float().mean().item() - P) < 4 * deviation


def test_gradients_pass_where_values_passed(two_masks):
    _, out, grad = two_masks()
    assert torch.equal(out, grad)


def test_neighbors_and_calls_are_independent(two_masks):
    first, second, _ = two_masks()
    later = two_masks()[1]
    centerd = [(out != 0).float() - (1 - P) for out in (first, second, later)]
    pairs = [
        (centerd[0], centerd[1]),
        (centerd[1], centerd[2]),
        *(
            (centerd[0].narrow(d, 1, n - 1), centerd[0].narrow(d, 0, n - 1))
            for d, n in enumerate(SHAPE)
        ),
    ]
    for one, other in pairs:
        correlation = (one * other).mean().item() / (P * (1 - P))
        assert abs(correlation) < 4 / one.numel() ** 0.5
    # Rows that kept too alike a number of elements would betray a regular pattern.
    per_row = centerd[0].sum(dim=-1)
    expected = P * (1 - P) * SHAPE[-1]
    assert per_row.var().item() == pytest.approx(expected, rel=0.1)


def test_the_seed_repeats_the_masks(two_masks):
    torch.manual_seed(3)
    once = two_masks()
    torch.manual_seed(3)
    for one, other in zip(once, two_masks(), strict=True):
        assert torch.equal(one, other)


def test_nothing_is_dropped_outside_training():
    x = torch.randn(4, 5)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert (Dropout(0.5)(torch.ones(100)) == 0).any()
