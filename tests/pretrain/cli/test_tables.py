"""Tables in a narrow terminal lose nothing, and other programs get them as CSV or JSON."""

import csv
import io
import json

import pytest
from rich.console import Console

from convbert.pretrain.run import tables
from convbert.pretrain.run.tables import Output

HEADINGS = ("checkpoint", *(f"a measure {n}" for n in range(9)))
ROWS = [[f"step {s:,}", *(f"{s + n / 7:,.4f}" for n in range(9))] for s in (1000, 20_000, 300_000)]
ROWS += [["average", "undefined", *(f"{n}.0000" for n in range(8))]]


@pytest.fixture
def terminal(monkeypatch):
    def narrow(**options):
        return Console(**({"width": 80} | options | {"force_terminal": True, "color_system": None}))

    monkeypatch.setattr(tables, "Console", narrow)


def test_every_number_is_whole_at_80_columns(terminal, capsys):
    Output().table(HEADINGS, ROWS, title="a title", caption="a caption")
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for cell in (*HEADINGS, *(cell for row in ROWS for cell in row), "a title", "a caption"):
        assert cell in shown
    assert "…" not in shown


def test_a_table_that_fits_keeps_its_rows(terminal, capsys):
    Output().table(("run", "loss"), [["a", "1.5"], ["b", "2.5"]])
    assert any("a" in line and "1.5" in line for line in capsys.readouterr().out.splitlines())


def test_a_pipe_gets_every_row_in_one_line(capsys):
    Output().table(HEADINGS, ROWS)
    lines = capsys.readouterr().out.splitlines()
    for row in ROWS:
        assert any(all(cell in line for cell in row) for line in lines)


def test_programs_get_numbers(capsys):
    out = Output("json")
    out.note("a note")
    out.table(HEADINGS, ROWS, title="a title")
    printed = capsys.readouterr()
    assert printed.err == "a note\n"
    found = json.loads(printed.out)
    assert found["title"] == "a title"
    assert found["rows"][1]["checkpoint"] == "step 20,000"
    assert found["rows"][1]["a measure 0"] == 20_000.0
    assert found["rows"][3]["a measure 0"] is None

    Output("csv").table(("run", "updates"), [["nan", "1,000"], ["a,b", "-2"]])
    read = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert read == [["run", "updates"], ["nan", "1000"], ["a,b", "-2"]]


@pytest.mark.parametrize("name", ["6_0", "007", "1,2", "1e3", "²", "٣", "-", "1.", "0x1", "1e+999"])
def test_what_only_looks_like_a_number_stays_text(capsys, name):
    out = Output("json")
    out.table(("job", "step"), [[name, "1,234.5"], [name, "1.64e+05"]])
    first, second = json.loads(capsys.readouterr().out)["rows"]
    assert first == {"job": name, "step": 1234.5}
    assert second == {"job": name, "step": 164000.0}


def test_a_blank_line_lies_between_csv_tables_and_not_behind_them(capsys):
    out = Output("csv")
    out.table(("a",), [["1"]])
    out.table(("b",), [["2"]])
    assert capsys.readouterr().out == "a\n1\n\nb\n2\n"
