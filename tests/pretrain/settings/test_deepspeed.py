"""A DeepSpeed file of the user's own: completed from the run, or refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from convbert.models.errors import UserError
from convbert.pretrain.settings.deepspeed import (
    load_deepspeed_config,
    resolve_deepspeed_config,
)


def resolved(folder: Path, content: object, **more: Any) -> dict[str, Any]:
    path = folder / "own.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    settings: dict[str, Any] = {"precision": "bf16", "micro_batch": 4, "accumulation": 2}
    settings |= {"clip": 1.0, "world": 2, "place": str(path), **more}
    return resolve_deepspeed_config(load_deepspeed_config(str(path)), **settings)


def test_what_a_file_leaves_out_is_what_the_shipped_one_says(tmp_path: Path) -> None:
    shipped = load_deepspeed_config("zero2")
    expected = resolve_deepspeed_config(
        shipped, precision="bf16", micro_batch=4, accumulation=2, clip=1.0
    )
    for content in (
        {"zero_optimization": shipped["zero_optimization"]},
        {
            "zero_optimization": shipped["zero_optimization"],
            "gradient_accumulation_steps": "auto",
            "gradient_clipping": 1,
            "bf16": {"enabled": True},
            "fp16": {"enabled": False},
        },
    ):
        assert resolved(tmp_path, content) == expected
    assert resolved(tmp_path, {})["zero_optimization"] == {"stage": 0}
    assert resolved(tmp_path, {"train_batch_size": 16})["train_batch_size"] == 16
    buckets = {"zero_optimization": {"stage": 1, "reduce_bucket_size": 5e8}}  # as in its pages
    assert resolved(tmp_path, buckets)["zero_optimization"]["reduce_bucket_size"] == 500_000_000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"gradient_accumulation_steps": 4}, r"gradient_accumulation_steps=4, .* decides 2 \(glob"),
        ({"train_micro_batch_size_per_gpu": 8}, r"per_gpu=8, .*decides 4 \(micro_batch\)"),
        ({"train_batch_size": 32}, r"train_batch_size=32, .* decides 16 \(global_batch\)"),
        ({"gradient_clipping": 0.5}, r"gradient_clipping=0.5, .* decides 1.0 \(optimizer.clip\)"),
        ({"fp16": {"enabled": True}}, r"fp16.enabled=True, .* decides False \(precision\)"),
        ({"fp16": {"loss_scale": 128}}, r"fp16.loss_scale: .* \(got 128\)"),
        ({"data_types": {"grad_accum_dtype": "bf16"}}, "grad_accum_dtype: choose one of fp32"),
        ({"optimizer": {"type": "Adam"}}, r"'optimizer' is decided by the run \(optimizer\)"),
        ({"scheduler": {}}, r"'scheduler' is decided by the run \(schedule\)"),
        ({"zero_allow_untested_optimizer": False}, "zero_allow_untested_optimizer: .*True"),
        ({"zero_optimization": {"stage": 4}}, "stage: choose one of 0, 1, 2, 3"),
        ({"zero_optimization": {"stage": "auto"}}, "'zero_optimization.stage' cannot be 'auto'"),
        ({"zero_optimization": {"offload_param": {"device": "cpu"}}}, "offload_param needs stage"),
        (
            {"gradient_cliping": 1.0},
            "gradient_cliping: unknown key; did you mean gradient_clipping",
        ),
        ([1], "holds no JSON object"),
        ('{"bf16": {}, "bf16": {}}', "the key 'bf16' is there twice"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_what_would_train_something_else_is_refused(
    tmp_path: Path, content: object, reason: str
) -> None:
    with pytest.raises(UserError, match=reason) as refusal:
        resolved(tmp_path, content)
    assert str(tmp_path / "own.json") in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_precision_is_compared_once_it_is_settled(tmp_path: Path) -> None:
    content = {"bf16": {"enabled": True}}
    assert resolved(tmp_path, content, precision=None)["bf16"] == {"enabled": True}
    with pytest.raises(UserError, match=r"bf16\.enabled=True, but the run decides False"):
        resolved(tmp_path, content, precision="fp32")
