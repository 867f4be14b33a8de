"""Job script templates take exit statuses by name from the one place that has them."""

import re
from importlib import resources

import pytest

from convbert.pretrain.run import exit_codes

TEMPLATES = [
    file
    for file in (resources.files("convbert.cluster") / "templates").iterdir()
    if file.name.endswith(".j2")
]
STATUSES = {v for v in vars(exit_codes).values() if isinstance(v, int) and v > 1}


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.name)
def test_template_has_no_exit_status_as_a_number(file) -> None:
    text = file.read_text()
    numbers = {int(n) for n in re.findall(r"(?<![\w>&.%-])\d+(?![\w>.])", text)}
    assert not numbers & STATUSES
    assert not re.search(r"\b(?:code|status)(?:=| )[1-9]", text)
    assert not re.search(r'"\$(?:code|begun|checked)" -(?:eq|ne) [1-9]', text)


def test_names_in_templates_are_statuses() -> None:
    names = {n for file in TEMPLATES for n in re.findall(r"exit\.(\w+)", file.read_text())}
    assert names == {"FAILED", "NOTHING_LEFT", "STOPPED", "USER_ERROR"}
    assert names <= vars(exit_codes).keys()
