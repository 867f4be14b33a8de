"""The view for terminals: aligned by cells, 80 columns, plain in a pipe."""

import io
import unicodedata

from rich.console import Console

from convbert.pretrain.show.records import Filling, Look, Point, Sample, Series, Verdict
from convbert.pretrain.show.terminal import interlinear, print_look

WORDS = [
    "映画",
    "は",
    "ひどい",
    "and",
    "प्रति",
    "e\u0301te\u0301",
    "می\u200cx",
    "supercalifragilistic",
] * 6


def cells(text):
    """Count cells by the Unicode database alone."""
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else
        2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )  # fmt: skip


def verdict(word, replaced=0.25, original=None, masked=False):
    changed = masked and original != word
    return Verdict(
        word=word, piece=word, masked=masked, original=original or word, changed=changed,
        replaced=replaced,
    )  # fmt: skip


def test_numbers_stand_under_their_tokens_in_every_script():
    plain = [w for w in WORDS if "\u0947" not in w and "प" not in w]  # no spacing marks
    lines = [t.plain for t in interlinear([verdict(w) for w in plain], 80) if t.plain]
    assert len(lines) % 2 == 0
    tokens = []
    for above, below in zip(lines[::2], lines[1::2], strict=True):
        assert max(cells(above), cells(below)) <= 80
        places = [cells(above[: above.index(part)]) for part in dict.fromkeys(above.split())]
        assert set(places) <= {n for n, c in enumerate(below) if c == "0" and below[n - 1] == " "}
        assert below.split() == ["0.25"] * len(above.split())
        tokens += above.split()
    assert tokens == plain


def test_a_token_wider_than_the_terminal_is_cut_and_no_line_is_wider():
    lines = [t.plain for t in interlinear([verdict("漢" * 70), verdict("b")], 40)]
    assert max(map(cells, lines)) == 40
    assert "0.25" in lines[2]


def test_what_was_drawn_stands_above_what_stood_there():
    row = [verdict("a"), verdict("dog", 0.5, "cat", True), verdict("ran", 0.49, "ran", True)]
    _, words, numbers, below = [t.plain for t in interlinear(row, 80)]
    assert words.split() == ["a", "dog", "ran"]
    assert numbers.split() == ["0.25", "0.50*", "0.49"]
    assert below.split() == ["cat", "="]
    assert below.index("cat") == words.index("dog")
    assert below.index("=") == words.index("ran")


def shown(verdicts, left_out=0, **console):
    fillings = [[Filling(word="[bold]x[/bold]\x1b[2J", piece="x", probability=0.5)]]
    look = Look(fillings=fillings, verdicts=verdicts, tokens=3, left_out=left_out, limit=5)
    series = Series(
        source="run", samples=[Sample(text="A [MASK] [/b] ran.", answer="cat")], share=0.15, seed=0,
        points=[Point(label="step 4", step=4, flops=1.5e9, looks=[look])],
    )  # fmt: skip
    out = io.StringIO()
    print_look(series, series.points[0], Console(file=out, highlight=False, **console))
    return out.getvalue()


def test_in_a_pipe_there_are_no_colors_and_text_stays_text(monkeypatch):
    for name in ("FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    text = shown([verdict("dog", 0.9, "cat", True), verdict("ran", 0.7)], left_out=7)
    assert "\x1b" not in text
    assert "step 4, 1.50e+09 FLOPs" in text
    assert "A [MASK] [/b] ran." in text
    assert "[MASK] (in the text: cat)" in text
    assert "0.5000  [bold]x[/bold]" in text
    assert "10 tokens; the model reads 5 with [CLS] and [SEP]: the last 7 are left out" in text
    assert "replaced tokens found: 1 of 1; others suspected: 1 of 1" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "\x1b[" in shown([verdict("dog")], force_terminal=True)


def test_a_model_without_discriminator_says_so():
    text = shown([])
    assert "no discriminator" in text
    assert "P(replaced)" not in text
