"""Scores equal what transformers computes from the exported model, one sentence at a time."""

import json
from itertools import pairwise

import pytest
import torch
import transformers
from pydantic import ValidationError
from safetensors.torch import load_file
from small_networks import network
from torch.nn.functional import gelu, log_softmax, logsigmoid

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import AbsentError, UserError
from convbert.models.interop.hf import save_pretrained
from convbert.pretrain.cli.pairs import ScoreName, pairs
from convbert.pretrain.pairs.measure import EncodedPairs, measure
from convbert.pretrain.pairs.pair import Pair
from convbert.pretrain.pairs.scores import batches, score_rows, scores_of
from convbert.pretrain.settings.evaluation import PairsConfig

SENTENCES = [
    "A name can refer to various objects in other contexts.",
    "Names refer to objects.",
    "The import statement can be used with these names, and the name is then bound.",
    "An expression list containing at least one comma yields a tuple.",
]


@pytest.fixture(scope="module")
def tokenizer(tokenizer_dir):
    return Tokenizer.load(tokenizer_dir)


def rows_of(tokenizer, sentences):
    ids = tokenizer.encode_batch(sentences)
    return [[tokenizer.cls_id, *row, tokenizer.sep_id] for row in ids]


def theirs_discriminator(folder, local_op, rows):
    """Sum log P(original) with transformers alone, without batches and padding."""
    found = []
    if local_op == "attention":
        model = transformers.ElectraForPreTraining.from_pretrained(folder)
        logits_of = lambda ids: model(ids).logits[0]  # noqa: E731
    else:
        model = transformers.ConvBertModel.from_pretrained(folder)
        head = load_file(folder / "discriminator_head.safetensors")

        def logits_of(ids):
            hidden = model(ids).last_hidden_state[0]
            named = {key.split(".", 1)[1]: value for key, value in head.items()}
            inner = gelu(hidden @ named["dense.weight"].T + named["dense.bias"])
            last = inner @ named["dense_prediction.weight"].T + named["dense_prediction.bias"]
            return last.squeeze(-1)

    model.eval()
    for row in rows:
        with torch.no_grad():
            logits = logits_of(torch.tensor([row]))
        found.append(logsigmoid(-logits[1:-1].double()).sum().item())
    return found


def theirs_pll(folder, rows, mask_id):
    """Mask one token after the other with transformers alone."""
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    found = []
    for row in rows:
        total = 0.0
        for place in range(1, len(row) - 1):
            ids = torch.tensor([row])
            ids[0, place] = mask_id
            with torch.no_grad():
                logits = model(ids).logits[0, place]
            total += log_softmax(logits.double(), -1)[row[place]].item()
        found.append(total)
    return found


@pytest.mark.parametrize("local_op", ["sdconv", "attention"])
def test_scores_of_an_exported_model_equal_those_of_transformers(tokenizer, tmp_path, local_op):
    model = network(tokenizer, spread=0.2, local_op=local_op)
    save_pretrained(model, tmp_path)
    rows = rows_of(tokenizer, SENTENCES)
    ours = score_rows(model, "discriminator", rows, tokenizer)
    assert ours == pytest.approx(theirs_discriminator(tmp_path, local_op, rows), rel=1e-6)
    pll = score_rows(model, "pll", rows, tokenizer)
    assert pll == pytest.approx(
        theirs_pll(tmp_path / "generator", rows, tokenizer.mask_id), rel=1e-6
    )


def test_a_masked_language_model_gives_pll_only(tokenizer, tmp_path):
    model = network(tokenizer, spread=0.2, objective="mlm")
    assert scores_of(model.config) == ("pll",)
    save_pretrained(model, tmp_path)
    rows = rows_of(tokenizer, SENTENCES[:2])
    ours = score_rows(model, "pll", rows, tokenizer)
    assert ours == pytest.approx(theirs_pll(tmp_path, rows, tokenizer.mask_id), rel=1e-6)


def test_batches_hold_every_row_once_within_the_budget():
    lengths = [5, 90, 7, 30, 30, 200, 1]
    found = list(batches(lengths, 100))
    assert sorted(n for batch in found for n in batch) == list(range(7))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[n] for n in batch) <= 100


def test_a_score_that_a_model_cannot_give_is_refused_before_the_text_is_read(tokenizer, tmp_path):
    save_pretrained(network(tokenizer, spread=0.2, objective="mlm"), tmp_path / "mlm")
    text = [str(tmp_path / "absent.jsonl")]
    with pytest.raises(UserError, match="--score discriminator: this model gives pll only"):
        pairs(tmp_path / "mlm", text, score=[ScoreName.discriminator], tokenizer=tokenizer.folder)
    (tmp_path / "mlm" / "model.safetensors").unlink()
    with pytest.raises(AbsentError, match="mlm: holds neither"):
        pairs(tmp_path / "mlm", text, tokenizer=tokenizer.folder)


def test_a_corruption_is_named_once():
    with pytest.raises(ValidationError, match="swap, delete, swap name one twice"):
        PairsConfig(inputs=("t.jsonl",), corruptions=("swap", "delete", "swap"))


def test_preferences_count_ties_half_and_name_what_was_left_out(tokenizer, caplog):
    model = network(tokenizer, spread=0.2)
    short = Pair("Names refer to objects.", "Names refer to objects.", "same")
    long = Pair(" ".join(SENTENCES * 3), " ".join(SENTENCES * 3), "same")
    encoded = EncodedPairs([short, short, long], tokenizer, 64)
    assert "pairs: 1 of 3 are left out, longer than 64 tokens" in caplog.text
    (found,) = measure(model, encoded, tokenizer, "discriminator", per_token=False)
    assert (found.accuracy, found.pairs, found.left_out) == (0.5, 2, 1)
    assert found.standard_error == pytest.approx((0.25 / 2) ** 0.5)
    with pytest.raises(UserError, match="all 1 are longer than 64 tokens"):
        EncodedPairs([long], tokenizer, 64)


def test_a_deletion_is_judged_per_token(tokenizer):
    model = network(tokenizer, spread=0.2)
    good = Pair(SENTENCES[2], SENTENCES[1], "delete")
    named = Pair(SENTENCES[2], SENTENCES[1], "other")
    encoded = EncodedPairs([good, named], tokenizer, 64)
    values = score_rows(model, "discriminator", encoded.rows[:2], tokenizer)
    means = [v / (len(row) - 2) for v, row in zip(values, encoded.rows, strict=False)]
    deleted, other = measure(model, encoded, tokenizer, "discriminator", per_token=False)
    assert deleted.accuracy == float(means[0] > means[1])
    assert other.accuracy == float(values[0] > values[1])


def test_preferences_are_those_of_the_scores(tokenizer):
    model = network(tokenizer, spread=0.2)
    pairs = [Pair(a, b, "different") for a, b in pairwise(SENTENCES)]
    encoded = EncodedPairs(pairs, tokenizer, 64)
    for per_token in (False, True):
        values = score_rows(model, "discriminator", rows_of(tokenizer, SENTENCES), tokenizer)
        if per_token:
            lengths = [len(row) - 2 for row in rows_of(tokenizer, SENTENCES)]
            values = [v / n for v, n in zip(values, lengths, strict=True)]
        right = [a > b for a, b in pairwise(values)]
        (found,) = measure(model, encoded, tokenizer, "discriminator", per_token=per_token)
        assert found.accuracy == pytest.approx(sum(right) / len(right))
    assert json.loads(found.model_dump_json())["kind"] == "different"
