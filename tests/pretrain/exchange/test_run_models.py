"""Options that do not go with what a path names are refused, not ignored."""

from pathlib import Path
from typing import Any

import pytest

from convbert.models.errors import UserError
from convbert.pretrain.exchange.run_models import require_fitting
from convbert.pretrain.run.directory import RunDirectory

RUN = RunDirectory(Path("run"))


@pytest.mark.parametrize(
    ("found", "options", "message"),
    [
        (None, {"step": [3, 6]}, "--step 3: place is one model; leave it out"),
        (None, {"average": "last:3"}, "--average last:3: place is one model"),
        ((RUN, []), {"tokenizer": Path("t")}, "--tokenizer t: place is a run, which has its own"),
        ((RUN, []), {"output": Path("o")}, "--output o: place is a run, which has its own"),
        ((RUN, [4]), {"step": 6}, "--step 6: place is a checkpoint of a run"),
        ((RUN, [4]), {"output": Path("o")}, "--output o: place is a checkpoint of a run"),
    ],
)
def test_an_option_without_a_meaning_is_refused(
    found: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        require_fitting(Path("place"), found, **options)


def test_options_with_a_meaning_are_taken() -> None:
    require_fitting(Path("place"), None, tokenizer=Path("t"), output=Path("o"), step=None)
    require_fitting(Path("place"), (RUN, []), step=[4], average="last:2", tokenizer=None)
    require_fitting(Path("place"), (RUN, [4]), average="last:2")
