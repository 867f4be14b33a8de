"""Hugging Face directories: exact round trips, equality inside transformers, and refusals."""

import json
import os
import pickle
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from convbert.models.architecture import EncoderConfig, PretrainingConfig
from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.models.interop.hf import (
    load_pretrained,
    load_pretraining_model,
    save_pretrained,
)
from convbert.models.presets import generator_of
from convbert.models.pretraining import build_model

VOCABULARY = 60
ENCODERS = {
    "sdconv": {},
    "sdconv grouped": {"num_groups": 2},
    "sdconv wide embeddings": {"embedding_size": 32},
    "sdconv hf rule": {"head_ratio": 4, "head_rule": "hf"},
    "sdconv leaking": {"mask_conv_padding": False},
    "sdconv short kernel": {"conv_kernel_size": 3, "init": "hf"},
    "sdconv other numbers": {
        "hidden_dropout": 0.2,
        "attention_dropout": 0.05,
        "layer_norm_eps": 1e-6,
        "initializer_range": 0.03,
        "pad_token_id": 3,
        "type_vocab_size": 4,
    },
    "attention": {"local_op": "attention"},
    "attention wide embeddings": {"local_op": "attention", "embedding_size": 32},
}
INEXPRESSIBLE = {
    "dynamic": ({"local_op": "dynamic"}, "local_op=dynamic"),
    "lightweight": ({"local_op": "lightweight"}, "local_op=lightweight"),
    "conv": ({"local_op": "conv"}, "local_op=conv"),
    "none": ({"local_op": "none"}, "local_op=none"),
    "ratio 1": ({"head_ratio": 1}, "num_heads=4 with head_ratio=1"),
    "ratio 4": ({"head_ratio": 4}, "num_heads=4 with head_ratio=4"),
    "one head": ({"num_heads": 1}, "num_heads=1 with head_ratio=2"),
    "grouped attention": ({"local_op": "attention", "num_groups": 2}, "num_groups=2"),
}
MLM = {
    "BertForMaskedLM": {"local_op": "attention", "embedding_size": 32},
    "ElectraForMaskedLM": {"local_op": "attention"},
    "ConvBertForMaskedLM": {},
}


def encoder_config(**overrides) -> EncoderConfig:
    fields = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "embedding_size": 16,
        "num_layers": 2,
        "num_heads": 4,
        "intermediate_size": 64,
        "max_positions": 24,
    }
    return EncoderConfig(**(fields | overrides))


def pair(**overrides) -> PretrainingConfig:
    tied = overrides.pop("tie_embeddings", True)
    encoder = encoder_config(**overrides)
    generator = generator_of(encoder, Fraction(1, 2), tie_embeddings=tied)
    return PretrainingConfig(discriminator=encoder, generator=generator, tie_embeddings=tied)


def randomized(module):
    """Leave nothing at a value, such as a zero bias, that could hide a mistake."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return module.eval()


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    return {
        "input_ids": torch.randint(5, VOCABULARY, (2, 20)),
        "token_type_ids": torch.randint(0, 2, (2, 20)),
    }


def load_in_transformers(kind, directory: Path):
    """Load a directory and insist that every tensor found its place."""
    model, report = kind.from_pretrained(directory, output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not report[problem], (problem, report[problem])
    return model.eval()


@pytest.mark.parametrize("overrides", ENCODERS.values(), ids=ENCODERS.keys())
def test_encoder_round_trips_bit_for_bit(tmp_path, overrides):
    encoder = randomized(Encoder(encoder_config(**overrides)))
    save_pretrained(encoder, tmp_path)
    loaded = load_pretrained(tmp_path)
    assert loaded.config == encoder.config
    assert same(loaded, encoder)
    assert not loaded.training


@pytest.mark.parametrize("overrides", ENCODERS.values(), ids=ENCODERS.keys())
def test_transformers_computes_the_same_hidden_states(tmp_path, batch, overrides):
    encoder = randomized(Encoder(encoder_config(**overrides)))
    save_pretrained(encoder, tmp_path)
    theirs = load_in_transformers(transformers.AutoModel, tmp_path)
    with torch.no_grad():
        expected = theirs(**batch).last_hidden_state
        assert torch.allclose(encoder(**batch), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("overrides", ENCODERS.values(), ids=ENCODERS.keys())
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_pretraining_pair_round_trips_bit_for_bit(tmp_path, overrides, tied):
    overrides = {k: v for k, v in overrides.items() if k != "head_ratio"}
    model = randomized(build_model(pair(**overrides, tie_embeddings=tied)))
    export = save_pretrained(model, tmp_path)
    assert export.generator in ("ConvBertForMaskedLM", "ElectraForMaskedLM")
    loaded = load_pretraining_model(tmp_path)
    assert loaded.config == model.config
    assert same(loaded, model)
    assert same(load_pretrained(tmp_path), model.discriminator)
    assert (loaded.generator.embeddings is loaded.discriminator.embeddings) == tied


@pytest.mark.parametrize("local_op", ["sdconv", "attention"])
def test_disentangled_embeddings_are_added_up(tmp_path, batch, local_op):
    model = randomized(build_model(pair(local_op=local_op, tie_embeddings="gdes")))
    save_pretrained(model, tmp_path)
    loaded = load_pretraining_model(tmp_path).eval()
    theirs = load_in_transformers(transformers.AutoModelForMaskedLM, tmp_path / "generator")
    with torch.no_grad():
        hidden = model.discriminator(**batch)
        expected = transformers.AutoModel.from_pretrained(tmp_path).eval()(**batch)
        assert torch.allclose(hidden, expected.last_hidden_state, atol=1e-5, rtol=0)
        assert torch.equal(hidden, loaded.discriminator(**batch))
        ours = model.generator_head(model.generator(**batch))
        assert torch.allclose(ours, theirs(**batch).logits, atol=1e-5, rtol=0)
        assert torch.equal(ours, loaded.generator_head(loaded.generator(**batch)))


@pytest.mark.parametrize("local_op", ["sdconv", "attention"])
def test_transformers_generator_fills_masks_alike(tmp_path, batch, local_op):
    model = randomized(build_model(pair(local_op=local_op)))
    save_pretrained(model, tmp_path)
    theirs = load_in_transformers(transformers.AutoModelForMaskedLM, tmp_path / "generator")
    with torch.no_grad():
        ours = model.generator_head(model.generator(**batch))
        assert torch.allclose(ours, theirs(**batch).logits, atol=1e-5, rtol=0)


def test_transformers_electra_detects_replacements_alike(tmp_path, batch):
    model = randomized(build_model(pair(local_op="attention")))
    assert save_pretrained(model, tmp_path).architecture == "ElectraForPreTraining"
    theirs = load_in_transformers(transformers.ElectraForPreTraining, tmp_path)
    body = transformers.AutoModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        hidden = model.discriminator(**batch)
        ours = model.discriminator_head(hidden)
        assert torch.allclose(hidden, body(**batch).last_hidden_state, atol=1e-5, rtol=0)
        assert torch.allclose(ours, theirs(**batch).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("architecture", "overrides"), MLM.items(), ids=MLM.keys())
def test_masked_language_model_round_trips_and_agrees(tmp_path, batch, architecture, overrides):
    config = PretrainingConfig(objective="mlm", discriminator=encoder_config(**overrides))
    model = randomized(build_model(config))
    assert save_pretrained(model, tmp_path).architecture == architecture
    loaded = load_pretraining_model(tmp_path)
    assert loaded.config == config
    assert same(loaded, model)
    theirs = load_in_transformers(transformers.AutoModelForMaskedLM, tmp_path)
    assert type(theirs).__name__ == architecture
    with torch.no_grad():
        ours = model.head(model.encoder(**batch))
        assert torch.allclose(ours, theirs(**batch).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("overrides", "named"), INEXPRESSIBLE.values(), ids=INEXPRESSIBLE.keys())
def test_what_transformers_cannot_hold_is_refused_and_nothing_written(tmp_path, overrides, named):
    with pytest.raises(UserError, match=named):
        save_pretrained(Encoder(encoder_config(**overrides)), tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_generator_that_transformers_cannot_hold_is_left_out_and_reported(tmp_path):
    """The generator of ConvBERT-small has one head, which transformers would make half as wide."""
    encoder = encoder_config()
    config = PretrainingConfig(
        discriminator=encoder, generator=generator_of(encoder, Fraction(1, 4))
    )
    export = save_pretrained(build_model(config), tmp_path)
    assert export.generator is None
    assert "num_heads=1" in export.generator_refusal
    assert "The generator is not included" in (tmp_path / "README.md").read_text()
    with pytest.raises(UserError, match="no generator there"):
        load_pretraining_model(tmp_path)
    assert isinstance(load_pretrained(tmp_path), Encoder)


def test_configuration_has_every_key_that_transformers_reads(tmp_path):
    save_pretrained(Encoder(encoder_config()), tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    expected = {
        "model_type": "convbert",
        "architectures": ["ConvBertModel"],
        "hidden_size": 32,
        "embedding_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "head_ratio": 2,
        "conv_kernel_size": 9,
        "num_groups": 1,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 24,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }
    assert written.items() >= expected.items()
    read = transformers.AutoConfig.from_pretrained(tmp_path)
    assert {key: getattr(read, key) for key in expected} == expected


def test_export_leaves_only_finished_files(tmp_path):
    save_pretrained(build_model(pair()), tmp_path)
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert files == [
        "README.md",
        "config.json",
        "discriminator_head.safetensors",
        "generator/config.json",
        "generator/model.safetensors",
        "model.safetensors",
    ]


def convbert_config(**overrides) -> transformers.ConvBertConfig:
    return transformers.ConvBertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        embedding_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=24,
        **({"pad_token_id": 0} | overrides),
    )


def their_models() -> dict[str, transformers.PreTrainedModel]:
    electra = transformers.ElectraConfig(
        **{k: getattr(convbert_config(), k) for k in ("vocab_size", "hidden_size")},
        embedding_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=24,
    )
    bert = transformers.BertConfig(
        **{k: v for k, v in electra.to_dict().items() if k not in ("model_type", "embedding_size")}
    )
    return {
        "ConvBertModel": transformers.ConvBertModel(convbert_config()),
        "ConvBertModel grouped": transformers.ConvBertModel(convbert_config(num_groups=2)),
        "ConvBertModel ratio 4": transformers.ConvBertModel(convbert_config(head_ratio=4)),
        "ConvBertModel ratio 1": transformers.ConvBertModel(convbert_config(head_ratio=1)),
        "ConvBertForMaskedLM": transformers.ConvBertForMaskedLM(convbert_config()),
        "ConvBertForSequenceClassification": transformers.ConvBertForSequenceClassification(
            convbert_config()
        ),
        "ElectraModel": transformers.ElectraModel(electra),
        "ElectraForPreTraining": transformers.ElectraForPreTraining(electra),
        "BertModel": transformers.BertModel(bert),
        "BertForMaskedLM": transformers.BertForMaskedLM(bert),
    }


THEIR_MODELS = {name: randomized(model) for name, model in their_models().items()}


@pytest.mark.parametrize("name", THEIR_MODELS)
@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "bin"])
def test_what_transformers_wrote_is_read_exactly(tmp_path, batch, name, pickled):
    theirs = THEIR_MODELS[name]
    theirs.save_pretrained(tmp_path)
    if pickled:
        pickle_weights(tmp_path)
    encoder = load_pretrained(tmp_path)
    assert not encoder.config.mask_conv_padding
    mask = torch.ones(2, 20, dtype=torch.long)
    mask[1, 12:] = 0
    with torch.no_grad():
        expected = theirs.base_model(**batch, attention_mask=mask).last_hidden_state
        ours = encoder(**batch, attention_mask=mask)
    assert torch.allclose(ours[mask.bool()], expected[mask.bool()], atol=1e-5, rtol=0)


def pickle_weights(directory: Path) -> None:
    """Turn a directory into one of the older kind, derived tables included."""
    weights = load_file(directory / "model.safetensors")
    table = next(name for name in weights if name.endswith("word_embeddings.weight"))
    derived = table.replace("word_embeddings.weight", "position_ids")
    torch.save(weights | {derived: torch.arange(24)[None]}, directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "bin"])
def test_layer_norms_of_the_oldest_files_are_recognized(tmp_path, pickled):
    encoder = randomized(Encoder(encoder_config(local_op="attention")))
    save_pretrained(encoder, tmp_path)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    if pickled:
        torch.save(old, tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    else:  # as bert-base-uncased has them
        save_file(old, tmp_path / "model.safetensors")
    assert same(load_pretrained(tmp_path), encoder)


class Payload:
    """Leaves a trace when unpickling runs what the file asks for."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "plain pickle"])
def test_pickle_that_asks_to_run_code_is_refused_and_not_run(tmp_path, legacy):
    save_pretrained(Encoder(encoder_config()), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    path, trace = tmp_path / "pytorch_model.bin", tmp_path / "trace"
    content = {"embeddings.word_embeddings.weight": Payload(trace)}
    if legacy:
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=r"pytorch_model\.bin: refused, it asks to run code"):
        load_pretrained(tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize("size", [0, 7, 100, 5000])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_truncated_weights_are_named(tmp_path, name, size):
    save_pretrained(Encoder(encoder_config()), tmp_path)
    if name == "pytorch_model.bin":
        pickle_weights(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=str(path)):
        load_pretrained(tmp_path)


def test_altered_pickle_file_is_noticed(tmp_path):
    save_pretrained(Encoder(encoder_config()), tmp_path)
    pickle_weights(tmp_path)
    path = tmp_path / "pytorch_model.bin"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{path}: damaged file \(record .* fails its checksum"):
        load_pretrained(tmp_path)


def edit_weights(directory: Path, edit) -> None:
    weights = load_file(directory / "model.safetensors")
    edit(weights)
    save_file(weights, directory / "model.safetensors")


def edit_config(directory: Path, **fields) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


KERNEL = "encoder.layer.1.attention.self.conv_kernel_layer.weight"


def test_missing_and_misshapen_tensors_are_named(tmp_path):
    save_pretrained(Encoder(encoder_config()), tmp_path)
    edit_weights(tmp_path, lambda weights: weights.update({KERNEL: torch.zeros(3, 5)}))
    with pytest.raises(UserError, match=rf"{KERNEL}' has shape \(3, 5\) .* asks for \(18, 16\)"):
        load_pretrained(tmp_path)
    edit_weights(tmp_path, lambda weights: weights.pop(KERNEL))
    with pytest.raises(UserError, match=rf"model\.safetensors: tensor '{KERNEL}' is missing"):
        load_pretrained(tmp_path)


def test_quantized_weights_are_not_taken_for_numbers(tmp_path):
    save_pretrained(Encoder(encoder_config()), tmp_path)
    edit_weights(tmp_path, lambda weights: weights.update({KERNEL: weights[KERNEL].char()}))
    with pytest.raises(UserError, match=rf"model\.safetensors: tensor '{KERNEL}' holds int8"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("overrides", MLM.values(), ids=MLM.keys())
def test_a_head_with_a_matrix_of_its_own_is_not_taken_for_a_tied_one(tmp_path, overrides):
    config = PretrainingConfig(objective="mlm", discriminator=encoder_config(**overrides))
    model = randomized(build_model(config))
    save_pretrained(model, tmp_path)
    bert = "embedding_size" in overrides
    matrix = "cls.predictions.decoder.weight" if bert else "generator_lm_head.weight"

    def store(change: float) -> None:
        table = model.encoder.embeddings.word.weight.detach() + change
        edit_weights(tmp_path, lambda weights: weights.update({matrix: table.clone()}))

    store(1.0)
    assert same(load_pretraining_model(tmp_path), model)  # tied: transformers reads it as little
    edit_config(tmp_path, tie_word_embeddings=False)
    with pytest.raises(UserError, match=rf"'{matrix}' is not '.*word_embeddings.weight'"):
        load_pretraining_model(tmp_path)
    assert same(load_pretrained(tmp_path), model.encoder)
    store(0.0)
    assert same(load_pretraining_model(tmp_path), model)


def test_weights_of_a_deeper_model_are_not_cut_silently(tmp_path):
    save_pretrained(Encoder(encoder_config()), tmp_path)
    edit_config(tmp_path, num_hidden_layers=1)
    with pytest.raises(UserError, match=r"no place in the configured model.*encoder\.layer\.1\."):
        load_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"model_type": "roberta"}, "model_type='roberta'"),
        ({"hidden_act": "relu"}, "hidden_act='relu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"conv_kernel_size": 8}, "conv_kernel_size=8 is even"),
        ({"hidden_size": "wide"}, "hidden_size"),
    ],
)
def test_configuration_of_another_model_is_refused_by_key(tmp_path, fields, named):
    save_pretrained(Encoder(encoder_config()), tmp_path)
    edit_config(tmp_path, **fields)
    with pytest.raises(UserError, match=rf"config\.json: .*{named}"):
        load_pretrained(tmp_path)


def test_missing_pieces_are_named(tmp_path):
    with pytest.raises(UserError, match=r"config\.json: no such file"):
        load_pretrained(tmp_path)
    save_pretrained(Encoder(encoder_config()), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        load_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json: not a JSON file"):
        load_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "convbert", "vocab_size": 5}')
    with pytest.raises(UserError, match="key 'hidden_size' is missing"):
        load_pretrained(tmp_path)
