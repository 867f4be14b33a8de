"""What is said of settings that pydantic refuses: plain words, and the key that was meant."""

import pytest
from pydantic import Field

from convbert.models.errors import UserError
from convbert.models.schema import StrictModel, validate


class Part(StrictModel):
    learning_rate: float = Field(1.0, gt=0, le=0.5)
    names: list[str] = Field(["a"], min_length=1)
    count: int = 1
    on: bool = False


class Whole(StrictModel):
    parts: list[Part] | None = None
    optimizer: Part = Part()
    steps: int = 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"stepz": 1}, r"stepz: unknown key; did you mean steps\? \(got 1\)"),
        (
            {"optimizer": {"lr": 1}},
            "optimizer.lr: unknown key; did you mean optimizer.learning_rate",
        ),
        ({"learning_rate": 1}, "learning_rate: unknown key; did you mean optimizer.learning_rate"),
        ({"parts": [{"cout": 1}]}, r"parts.0.cout: unknown key; did you mean parts.0.count\?"),
        ({"nothing": 1}, "nothing: unknown key; check the spelling"),
        ({"steps": "x"}, r"steps: give a whole number \(got 'x'\)"),
        ({"steps": None}, r"steps: give a whole number \(got None\)"),
        ({"optimizer": {"on": 3}}, r"optimizer.on: give true or false \(got 3\)"),
        ({"optimizer": {"learning_rate": -1}}, r"give a number above 0 \(got -1\)"),
        ({"optimizer": {"learning_rate": 1}}, r"give a number of at most 0.5 \(got 1\)"),
        ({"optimizer": {"names": []}}, r"optimizer.names: give 1 or more \(got \[\]\)"),
        ({"optimizer": {"names": [3]}}, "optimizer.names.0: give text, in quotes"),
        ({"optimizer": 3}, "optimizer: give keys and values"),
        ([1], "give keys and values"),
    ],
)
def test_a_refusal_says_what_to_do(content, message):
    with pytest.raises(UserError, match=message) as refusal:
        validate(Whole, content, "here")
    assert "Input should" not in str(refusal.value)
