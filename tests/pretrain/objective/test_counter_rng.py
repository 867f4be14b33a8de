import torch

from convbert.pretrain.objective.counter_rng import uniform
from convbert.pretrain.run.seeds import mix


def test_a_row_depends_on_its_position_alone() -> None:
    positions = torch.tensor([5, 10**12, 0])
    together = uniform(1, 2, positions, 40)
    alone = uniform(1, 2, positions[1:2], 40)
    assert torch.equal(together[1:2], alone)
    assert torch.equal(together[:, :7], uniform(1, 2, positions, 7))


def test_seeds_streams_and_positions_differ() -> None:
    p = torch.arange(4)
    base = uniform(0, 0, p, 1000)
    for other in (uniform(1, 0, p, 1000), uniform(0, 1, p, 1000), uniform(0, 0, p + 4, 1000)):
        assert (base == other).float().mean() < 0.01


def test_uniformity_and_independence_of_neighbors() -> None:
    u = uniform(7, 3, torch.arange(2000), 200).double()
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 2e-3
    assert abs(u.var() - 1 / 12) < 1e-3
    counts = torch.histc(u.float(), bins=64, min=0, max=1)
    expected = u.numel() / 64
    assert ((counts - expected) ** 2 / expected).sum() < 120  # 63 degrees of freedom: p < 1e-5
    for a, b in ((u[:, :-1], u[:, 1:]), (u[:-1], u[1:])):
        assert abs(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]) < 0.01


def test_mix_is_a_64_bit_hash() -> None:
    seen = {mix(a, b) for a in range(100) for b in range(100)}
    assert len(seen) == 10_000
    assert all(0 <= value < 2**63 for value in seen)
    assert mix(2**64 + 5) != mix(6)
