"""What `convbert plan` prints. Its memory is compared with allocations in the integration tests."""

import pytest

from convbert.pretrain import commands


@pytest.mark.parametrize(("card", "precision"), [("t4", "fp32"), ("a100", "bf16")])
def test_auto_is_planned_as_the_precision_that_the_card_will_train_in(
    capsys: pytest.CaptureFixture[str], card: str, precision: str
) -> None:
    commands.plan("tiny", ["global_batch=8"], 1, card, 0.4, 0.0)
    assert f"GB on one GPU, {precision}, rows of 128" in " ".join(capsys.readouterr().out.split())
