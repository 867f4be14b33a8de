"""What is measured in another way has another name: one name is one curve."""

from convbert.pretrain.run.metric_names import pairs_measure, probe_measure


def test_every_way_of_scoring_pairs_is_a_curve_of_its_own():
    ways = [(score, per_token) for score in ("discriminator", "pll") for per_token in (False, True)]
    names = [pairs_measure("swap", score, per_token=per_token) for score, per_token in ways]
    assert names == [
        *("pairs/swap", "pairs/swap_per_token"),
        *("pairs/swap_pll", "pairs/swap_pll_per_token"),
    ]


def test_every_pooling_of_a_probe_is_a_curve_of_its_own():
    names = [
        probe_measure("t", split, "f1", p) for split in ("dev", "test") for p in ("mean", "cls")
    ]
    assert names == ["probe/t/f1", "probe/t/f1_cls", "probe/t_test/f1", "probe/t_test/f1_cls"]
