"""The weights of heads are those that the block and transformers compute with."""

import base64
import json
import math

import pytest
import torch
import transformers
from small_networks import network
from typer.testing import CliRunner

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.models.interop.hf import load_pretrained, save_pretrained
from convbert.models.masking import document_bias
from convbert.models.pretraining import kept_encoder
from convbert.pretrain.cli import app
from convbert.pretrain.exchange.export import save_tokenizer
from convbert.pretrain.show.heads import (
    HeadMeasures,
    layer_weights,
    look_at_heads,
    mean_measures,
    measure,
)
from convbert.pretrain.show.heads_page import packed, write_heads
from convbert.pretrain.show.reader import Reader

TEXT = "A name can refer to various objects in other contexts, é 你好."


@pytest.fixture(scope="module")
def tokenizer(tokenizer_dir):
    return Tokenizer.load(tokenizer_dir)


@pytest.fixture(scope="module")
def exported(tokenizer, tmp_path_factory):
    """A checkpoint as transformers writes it: the encoder alone, in its own words."""
    ours = tmp_path_factory.mktemp("export") / "ours"
    save_pretrained(network(tokenizer, spread=0.1), ours)
    folder = ours.with_name("theirs")
    transformers.ConvBertModel.from_pretrained(ours).save_pretrained(folder)
    save_tokenizer(tokenizer, folder, 64)
    return folder


@pytest.mark.parametrize("operator", ["sdconv", "dynamic", "lightweight"])
@torch.no_grad()
def test_the_weights_give_the_output_of_the_block(tokenizer, operator):
    block = kept_encoder(network(tokenizer, spread=0.1, local_op=operator)).layers[0].attention
    hidden = torch.randn(1, 9, 64)
    documents = torch.tensor([[1, 1, 1, 1, 2, 2, 2, 0, 0]])
    bias = document_bias(documents, hidden.dtype)
    attention, kernels = block.weights(hidden, bias, documents)
    count, reach = attention.shape[1], kernels.shape[-1] // 2
    _, _, value, local = block.in_proj(hidden)[0].chunk(4, dim=-1)
    heads = []
    for values in (value, local):
        by_head = values.view(9, count, -1)
        mixed = torch.zeros_like(by_head)
        for t in range(9):
            for u in range(9):
                inside = abs(u - t) <= reach and documents[0, t] == documents[0, u] != 0
                for n in range(count):
                    weight = attention[0, n, t, u]
                    if values is local:
                        weight = kernels[0, t, n, u - t + reach] if inside else 0.0
                    mixed[t, n] += weight * by_head[u, n]
        heads.append(mixed.flatten(1))
    expected = block.norm(hidden + block.out_proj(torch.cat(heads, -1)))
    real = documents[0] != 0
    actual = block(hidden, bias, documents)
    torch.testing.assert_close(actual[0, real], expected[0, real], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_attention_and_kernels_are_those_of_transformers(exported):
    theirs = transformers.ConvBertModel.from_pretrained(exported, attn_implementation="eager")
    logits = []
    for layer in theirs.eval().encoder.layer:
        layer.attention.self.conv_kernel_layer.register_forward_hook(
            lambda _module, _given, out: logits.append(out)
        )
    ids = torch.tensor([Reader.open(exported).row(TEXT)])
    attentions = theirs(ids, output_attentions=True).attentions
    ours = layer_weights(load_pretrained(exported), ids)
    assert len(ours) == len(attentions) == len(logits) == 2
    for (attention, kernels), expected, raw in zip(ours, attentions, logits, strict=True):
        torch.testing.assert_close(attention, expected, rtol=0, atol=1e-6)
        taps = raw.reshape(kernels.shape).softmax(-1)
        torch.testing.assert_close(kernels, taps, rtol=0, atol=1e-6)
        assert kernels.std() > 0.01  # the weights differ enough to tell them apart


def test_measures_of_heads_that_can_be_worked_out_by_hand():
    even = torch.full((10, 10), 0.1)
    steady = torch.tensor([0.25, 0.5, 0.25]).expand(10, 3)
    found = measure(even, steady, 1)
    # Of eight inner tokens each sees itself and both neighbors.
    assert found == pytest.approx((0.3, 0.2, 0.5, 0.5, 0.0), abs=1e-6)
    turning = torch.eye(3)[torch.arange(10) % 2 * 2]  # left and right in turn
    assert measure(even, turning, 1)[2:] == pytest.approx((0.0, 1.0, 0.5))
    assert math.isnan(measure(even, None, 1).own)


def test_a_text_counts_by_its_tokens(tokenizer):
    encoder = kept_encoder(network(tokenizer, spread=0.1))
    reader = Reader.of(tokenizer)
    both = look_at_heads("m", encoder, reader, [TEXT, "A name."], 64)
    sizes = [len(text.words) - 2 for text in both.texts]
    first, second = (text.layers[1][0].measures for text in both.texts)
    expected = [
        (a * sizes[0] + b * sizes[1]) / sum(sizes) for a, b in zip(first, second, strict=True)
    ]
    assert mean_measures(both)[1][0] == pytest.approx(expected)
    assert isinstance(mean_measures(both)[1][0], HeadMeasures)


def test_the_page_holds_every_weight(tokenizer, tmp_path):
    encoder = kept_encoder(network(tokenizer, spread=0.1))
    series = look_at_heads("<m>", encoder, Reader.of(tokenizer), ["</script> <b>name", TEXT], 20)
    assert [text.left_out for text in series.texts] == [0, len(Reader.of(tokenizer).row(TEXT)) - 20]
    page = write_heads(series, tmp_path / "new" / "heads.html").read_text()
    assert "&lt;b&gt;" in page
    assert "</script> <b>" not in page
    for head in (h for t in series.texts for heads in t.layers for h in heads):
        for weights in (head.attention_LL, head.kernel_LK):
            assert packed(weights) in page
            levels = torch.tensor(list(base64.b64decode(packed(weights)))).view(weights.shape)
            assert float(((levels / 255) - weights.sqrt()).abs().max()) < 0.002


@pytest.mark.parametrize("operator", ["attention", "conv"])
def test_a_model_without_kernels_shows_its_attention(tokenizer, tmp_path, operator):
    encoder = kept_encoder(network(tokenizer, spread=0.1, local_op=operator))
    series = look_at_heads("m", encoder, Reader.of(tokenizer), [TEXT], 64)
    page = write_heads(series, tmp_path / "heads.html").read_text()
    assert f"local_op={operator}" in page
    assert "data-kernel=" not in page
    assert math.isnan(mean_measures(series)[0][0].change)


def test_the_command_on_a_released_checkpoint(exported, tmp_path):
    page = tmp_path / "heads.html"
    given = ["heads", str(exported), TEXT, "--html", str(page), "--format", "json"]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    table = json.loads(result.stdout)
    assert [(row["layer"], row["head"]) for row in table["rows"]] == [
        (layer, head) for layer in (1, 2) for head in (1, 2, 3, 4)
    ]
    assert all(0 < row["kernel: own"] < 1 for row in table["rows"])
    assert "open it in a browser" in result.stderr
    assert page.is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a TEXT"),
        ([TEXT, "--step", "4"], "is one model; leave it out"),
        ([" "], "holds no token"),
    ],
)
def test_what_cannot_be_shown_is_said(exported, tmp_path, arguments, message):
    page = tmp_path / "heads.html"
    result = CliRunner().invoke(app, ["heads", str(exported), *arguments, "--html", str(page)])
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
    assert not page.exists()


@pytest.mark.parametrize("command", ["show", "heads"])
@pytest.mark.parametrize("name", ["taken/page.html", "."])
def test_a_page_that_cannot_be_written_is_refused_before_the_model_is_read(
    tmp_path, monkeypatch, command, name
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("text")
    result = CliRunner().invoke(app, [command, "no-model", TEXT, "--html", name])
    assert isinstance(result.exception, UserError | OSError)
    assert "no-model" not in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]
