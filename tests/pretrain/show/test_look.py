"""Fillings and verdicts are those of transformers on the exported model."""

import json

import pytest
import tokenizers
import torch
import transformers
from safetensors.torch import load_file
from small_networks import SMALL, network
from torch.nn.functional import gelu

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import DamagedError, UserError
from convbert.models.interop.hf import load_pretraining_model, save_pretrained
from convbert.models.presets import preset
from convbert.models.pretraining import build_model
from convbert.pretrain.exchange.export import save_tokenizer
from convbert.pretrain.objective.counter_rng import uniform
from convbert.pretrain.show.look import Options, look, replace
from convbert.pretrain.show.reader import Reader

TEXT = "A name can [MASK] to various [MASK]s in  other contexts, é 你好 and the name is bound."


@pytest.fixture(scope="module")
def tokenizer(tokenizer_dir):
    return Tokenizer.load(tokenizer_dir)


@pytest.fixture(scope="module", params=["sdconv", "attention"])
def exported(request, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "model"
    save_pretrained(network(tokenizer, spread=0.1, local_op=request.param), folder)
    save_tokenizer(tokenizer, folder, 64)
    return folder


def theirs_replaced(folder, ids):
    """Return P(replaced) by transformers alone."""
    with torch.no_grad():
        if not (folder / "discriminator_head.safetensors").is_file():
            model = transformers.ElectraForPreTraining.from_pretrained(folder).eval()
            return model(ids).logits[0].double().sigmoid()
        hidden = transformers.ConvBertModel.from_pretrained(folder).eval()(ids).last_hidden_state
        head = load_file(folder / "discriminator_head.safetensors")
        named = {key.split(".", 1)[1]: value for key, value in head.items()}
        inner = gelu(hidden[0] @ named["dense.weight"].T + named["dense.bias"])
        last = inner @ named["dense_prediction.weight"].T + named["dense_prediction.bias"]
        return last.squeeze(-1).double().sigmoid()


def test_fillings_are_those_of_the_pipeline(exported):
    model, reader = load_pretraining_model(exported), Reader.open(exported)
    ours = look(model, reader, TEXT, 64, Options(top=7)).fillings
    fill = transformers.pipeline("fill-mask", model=str(exported / "generator"))
    theirs = fill(TEXT, top_k=7)
    assert [len(fillings) for fillings in ours] == [7, 7]
    for mine, yours in zip(ours, theirs, strict=True):
        assert [f.piece for f in mine] == fill.tokenizer.convert_ids_to_tokens(
            [answer["token"] for answer in yours]
        )
        read = [(f.word, y["token_str"].strip()) for f, y in zip(mine, yours, strict=True)]
        assert all(word == spelled for word, spelled in read if not word.startswith("<0x"))
        assert [f.probability for f in mine] == pytest.approx(
            [answer["score"] for answer in yours], abs=1e-6
        )


def test_verdicts_are_those_of_transformers_on_draws_from_its_generator(exported):
    model, reader, options = (
        load_pretraining_model(exported).eval(),
        Reader.open(exported),
        Options(),
    )
    theirs = transformers.AutoTokenizer.from_pretrained(exported)
    ids = theirs(TEXT, return_tensors="pt").input_ids
    assert ids[0].tolist() == reader.row(TEXT)
    with torch.no_grad():
        drawn, masked = replace(model, reader, ids, options)
    own = ids.shape[1] - 2 - 2
    assert masked.sum() == 2 + round(0.15 * own)
    assert masked[ids == theirs.mask_token_id].all()
    assert torch.equal(drawn[~masked], ids[~masked])

    # Each draw is where its random number falls in transformers' cumulative distribution.
    generator = transformers.AutoModelForMaskedLM.from_pretrained(exported / "generator").eval()
    with torch.no_grad():
        logits = generator(ids.masked_fill(masked, theirs.mask_token_id)).logits[masked]
    reached = logits.double().softmax(-1).cumsum(-1)
    numbers = uniform(options.seed, 2, torch.zeros(1, dtype=torch.int64), ids.shape[1])[masked]
    for row, number, token in zip(reached, numbers.tolist(), drawn[masked].tolist(), strict=True):
        assert (row[token - 1] if token else 0) - 1e-6 <= number <= row[token] + 1e-6

    found = look(model, reader, TEXT, 64, options)
    expected = theirs_replaced(exported, drawn)[1:-1].tolist()
    assert [v.replaced for v in found.verdicts] == pytest.approx(expected, abs=1e-6)
    pieces = theirs.convert_ids_to_tokens(drawn[0, 1:-1].tolist())
    assert [v.piece for v in found.verdicts] == pieces
    assert [v.masked for v in found.verdicts] == masked[0, 1:-1].tolist()
    same = (drawn == ids)[0, 1:-1].tolist()
    for verdict, equal, before in zip(found.verdicts, same, ids[0, 1:-1].tolist(), strict=True):
        assert verdict.changed is (None if before == theirs.mask_token_id else not equal)


def test_without_a_share_a_text_is_judged_as_it_stands(tokenizer, exported):
    model, reader = load_pretraining_model(exported), Reader.of(tokenizer)
    found = look(model, reader, "A name is bound.", 64, Options(share=0.0))
    assert found.fillings == []
    assert not any(v.masked for v in found.verdicts)
    expected = theirs_replaced(exported, torch.tensor([reader.row("A name is bound.")]))[1:-1]
    assert [v.replaced for v in found.verdicts] == pytest.approx(expected.tolist(), abs=1e-6)


def test_the_seed_decides_what_is_replaced_and_all_can_be(tokenizer):
    model, reader = network(tokenizer, spread=0.1), Reader.of(tokenizer)

    def places(**options):
        verdicts = look(model, reader, TEXT, 64, Options(**options)).verdicts
        return [(v.masked, v.piece) for v in verdicts]

    assert places(seed=1) == places(seed=1) != places(seed=2)
    assert all(masked for masked, _ in places(share=1.0))


def test_what_is_too_long_is_cut_and_counted(tokenizer):
    model, reader = network(tokenizer, spread=0.1), Reader.of(tokenizer)
    long = "The name is bound and [MASK] again. " * 20
    found = look(model, reader, long, 32, Options())
    assert found.tokens == len(found.verdicts) == 30
    assert found.tokens + found.left_out == len(reader.row(long)) - 2
    assert len(found.fillings) == sum(i == reader.mask_id for i in reader.row(long)[:31])


def test_a_masked_language_model_fills_only(tokenizer):
    found = look(
        network(tokenizer, spread=0.1, objective="mlm"), Reader.of(tokenizer), TEXT, 64, Options()
    )
    assert found.verdicts == []
    assert len(found.fillings) == 2


def test_what_cannot_be_read_is_refused(tokenizer, tmp_path):
    reader = Reader.of(tokenizer)
    with pytest.raises(UserError, match=r"text 'a \\udcff': is not UTF-8"):
        reader.row("a \udcff")
    with pytest.raises(UserError, match="holds no token"):
        look(network(tokenizer, spread=0.1), reader, " \n", 64, Options())
    other = build_model(preset("tiny", vocab_size=20, **SMALL))
    with pytest.raises(UserError, match=r"tokenizer.model: gives the id \d+, the model knows 20"):
        look(other, reader, TEXT, 64, Options())
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(DamagedError, match=r"tokenizer\.json"):
        Reader.open(tmp_path)


def test_a_mask_token_of_another_name_may_be_written_in_both_ways(tmp_path):
    names = ["<pad>", "<unk>", "<s>", "</s>", "<mask>", "name"]
    fast = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({name: n for n, name in enumerate(names)}, unk_token="<unk>")
    )
    fast.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast.add_special_tokens(names[:5])
    fast.enable_padding(length=9)
    fast.save(str(tmp_path / "tokenizer.json"))
    settings = {"cls_token": "<s>", "sep_token": {"content": "</s>"}, "mask_token": "<mask>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    reader = Reader.open(tmp_path)
    assert reader.row("name [MASK] name") == reader.row("name <mask> name") == [2, 5, 4, 5, 3]
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer.json: has no token \[CLS\]"):
        Reader.open(tmp_path)
