"""Windows over the context of a question: every answer lies in one of them."""

import pytest

from convbert.data_pipeline.tokenizer.hugging_face import check_identical, fast_tokenizer
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.pretrain.finetune.answering import encode, step, windows
from convbert.pretrain.finetune.reading import Example
from convbert.pretrain.finetune.recipe import AnswerConfig
from convbert.pretrain.finetune.task import TaskSpec


def held(count, room, stride, length):
    """The share of the spans of ``length`` tokens that lie in a window."""
    parts = windows(count, room, stride)
    firsts = range(count - length + 1)
    inside = [any(a <= f and f + length <= a + n for a, n in parts) for f in firsts]
    return sum(inside) / len(inside)


@pytest.mark.parametrize("room", [30, 31, 48, 61, 113, 157, 158, 400])
def test_by_default_every_answer_up_to_the_longest_lies_in_a_window(room):
    config = AnswerConfig()
    stride = step(config, room)
    assert 1 <= stride <= 128
    for count in (room, room + 1, 3 * room + 7):
        assert held(count, room, stride, config.max_answer) == 1.0
    if stride < 128:  # one more would lose some
        assert held(4 * room, room, stride + 1, config.max_answer) < 1.0


def test_the_published_stride_stays_where_windows_are_long_and_a_given_one_everywhere():
    assert step(AnswerConfig(), 512 - 64 - 3) == 128
    assert step(AnswerConfig(stride=200), 50) == 200
    assert 1 <= step(AnswerConfig(), 3) <= 3


def test_answers_in_no_window_are_counted(tokenizer_dir, caplog):
    tokenizer = Tokenizer.load(tokenizer_dir)
    words = [f"word{i}" for i in range(60)]
    context = " ".join(words)
    examples = [Example(("Which?", context), ((word, context.index(word)),)) for word in words]

    def spec(**qa):
        return TaskSpec(
            name="q", kind="qa", train="q.jsonl", text=["question", "context"], label="answers",
            recipe={"max_length": 64, "qa": qa},
        )  # fmt: skip

    features = encode(spec(), tokenizer, examples)
    assert not caplog.records
    answered = {o for o, label in zip(features.owners, features.labels, strict=True) if label[0]}
    assert answered == set(range(60))
    encode(spec(stride=1000), tokenizer, examples)
    assert "answers lie in no window" in caplog.text


def test_a_context_is_read_whole_whatever_its_tokenizer_pads_and_cuts(tokenizer_dir, tmp_path):
    """Many a ``tokenizer.json`` holds how its author cut and padded texts."""
    ours = fast_tokenizer(Tokenizer.load(tokenizer_dir))
    ours.enable_truncation(8)
    ours.enable_padding(length=12)
    (tmp_path / "tokenizer.json").write_text(ours.to_str())
    tokenizer = Tokenizer.load(tmp_path)
    check_identical(tokenizer, fast_tokenizer(tokenizer))
    context = "[SEP] is written behind " + "one word and another " * 5
    task = TaskSpec(name="q", kind="qa", train="q.jsonl", text=["question", "context"])
    (row,) = encode(task, tokenizer, [Example(("Where?", context), None)]).input_ids
    question, text = tokenizer.encode_batch(["Where?", context])
    frame = [tokenizer.cls_id, tokenizer.sep_id]
    assert row == [frame[0], *question, frame[1], *text, frame[1]]
