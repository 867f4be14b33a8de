import pytest

from convbert.pretrain.cli.plan import plan
from convbert.pretrain.planning.learning_rates import rate_note, suggested_rate
from convbert.pretrain.settings.recipes import resolve


def test_rate_follows_the_root_of_the_batch_and_the_width() -> None:
    small = resolve("small")  # 3e-4 at 128 sequences and width 256
    assert suggested_rate(small, resolve("small", ["global_batch=2048"])) == pytest.approx(1.2e-3)
    wide = resolve("small", ["model.overrides={hidden_size: 512, num_heads: 8}"])
    assert suggested_rate(small, wide) == pytest.approx(1.5e-4)


def test_lamb_and_muon_keep_their_rate_at_another_width() -> None:
    wide = "model.overrides={hidden_size: 512, num_heads: 8}"
    for name in ("lamb", "muon"):
        recipe = resolve("small", [f"optimizer.name={name}"])
        config = resolve("small", [f"optimizer.name={name}", wide])
        assert suggested_rate(recipe, config) == recipe.optimizer.learning_rate
        assert rate_note(recipe, config) == ""


def test_a_recipe_as_it_is_gets_no_advice() -> None:
    assert rate_note(resolve("base"), resolve("base", ["seed=3"])) == ""


def test_plan_prints_the_rate_for_another_batch(capsys: pytest.CaptureFixture[str]) -> None:
    plan("small", ["global_batch=512"], 1, "a100", 0.4, 0.0)
    said = " ".join(capsys.readouterr().out.split())
    assert "global_batch=512 is 4 times the recipe's 128: start from" in said
    assert "optimizer.learning_rate=6.0e-04 (this run has 0.0003)" in said


def test_rates_of_another_optimizer_are_not_carried_over() -> None:
    note = rate_note(resolve("small"), resolve("small", ["optimizer.name=muon", "global_batch=8"]))
    assert "says nothing here" in note
