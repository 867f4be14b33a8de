"""Original TensorFlow checkpoints: every tensor lands where the original code had it."""

from fractions import Fraction

import pytest
import torch
import transformers
from torch import Tensor

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.architecture import EncoderConfig, PretrainingConfig
from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.models.interop.hf import load_pretrained, load_pretraining_model, save_pretrained
from convbert.models.interop.tf import load_checkpoint, load_encoder, load_networks
from convbert.models.interop.tf_bundle import TensorBundle
from convbert.models.presets import generator_of, preset
from convbert.models.pretraining import build_model
from convbert.pretrain.exchange.importing import import_weights
from convbert.pretrain.exchange.tokenizer_import import TokenizerChoice

VARIANTS = {
    "convbert": {},
    "convbert grouped": {"num_groups": 2},
    "convbert wide embeddings": {"embedding_size": 32},
    "convbert one-headed generator": {"generator_size": Fraction(1, 4)},
    "convbert untied": {"tie_embeddings": False},
    "bottleneck only": {"local_op": "none"},
    "electra": {"local_op": "attention"},
}


def encoder_config(**overrides) -> EncoderConfig:
    fields = {
        "vocab_size": 40,
        "hidden_size": 32,
        "embedding_size": 16,
        "num_layers": 2,
        "num_heads": 4,
        "intermediate_size": 48,
        "max_positions": 24,
        "conv_kernel_size": 5,
    }
    return EncoderConfig(**(fields | overrides))


def pair(generator_size=Fraction(1, 2), tie_embeddings=True, **overrides) -> PretrainingConfig:
    encoder = encoder_config(**overrides)
    generator = generator_of(encoder, generator_size, tie_embeddings=tie_embeddings)
    return PretrainingConfig(
        discriminator=encoder, generator=generator, tie_embeddings=tie_embeddings
    )


def randomized(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return module.eval()


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def dense(scope: str, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    return {f"{scope}/kernel": weight.T, f"{scope}/bias": bias}


def layer_norm(scope: str, norm: torch.nn.LayerNorm) -> dict[str, Tensor]:
    return {f"{scope}/LayerNorm/gamma": norm.weight, f"{scope}/LayerNorm/beta": norm.bias}


def embedding_variables(scope: str, encoder: Encoder) -> dict[str, Tensor]:
    tables = encoder.embeddings
    return {
        f"{scope}/embeddings/word_embeddings": tables.word.weight,
        f"{scope}/embeddings/position_embeddings": tables.position.weight,
        f"{scope}/embeddings/token_type_embeddings": tables.token_type.weight,
        **layer_norm(f"{scope}/embeddings", tables.norm),
    }


def span_variables(scope: str, local: torch.nn.Module) -> dict[str, Tensor]:
    """The depthwise kernel is [K, d, 1], the pointwise one [1, d, a]."""
    return {
        f"{scope}/conv_attn_key/depthwise_kernel": local.span_depthwise[:, 0].T[..., None],
        f"{scope}/conv_attn_key/pointwise_kernel": local.span_pointwise.T[None],
        f"{scope}/conv_attn_key/bias": local.span_bias,
        **dense(f"{scope}/conv_attn_kernel", local.kernel.weight, local.kernel.bias),
    }


def feedforward_variables(scope: str, linear: torch.nn.Module) -> dict[str, Tensor]:
    if isinstance(linear, torch.nn.Linear):
        return dense(f"{scope}/dense", linear.weight, linear.bias)
    return {f"{scope}/g_dense/kernel": linear.weight, f"{scope}/g_dense/bias": linear.bias}


def body_variables(scope: str, encoder: Encoder) -> dict[str, Tensor]:
    variables = {}
    if isinstance(encoder.project, torch.nn.Linear):
        project = encoder.project
        variables |= dense(f"{scope}/embeddings_project", project.weight, project.bias)
    for index, layer in enumerate(encoder.layers):
        here = f"{scope}/encoder/layer_{index}"
        attention, feedforward = layer.attention, layer.feedforward
        names = ("query", "key", "value", "conv_attn_point")[: attention.projections]
        rows = attention.out_proj.in_features // (1 if attention.local is None else 2)
        for part, name in enumerate(names):
            chosen = slice(part * rows, (part + 1) * rows)
            variables |= dense(
                f"{here}/attention/self/{name}",
                attention.in_proj.weight[chosen],
                attention.in_proj.bias[chosen],
            )
        if attention.local is not None:
            variables |= span_variables(f"{here}/attention/self", attention.local)
        output = attention.out_proj
        variables |= dense(f"{here}/attention/output/dense", output.weight, output.bias)
        variables |= layer_norm(f"{here}/attention/output", attention.norm)
        variables |= feedforward_variables(f"{here}/intermediate", feedforward.up)
        variables |= feedforward_variables(f"{here}/output", feedforward.down)
        variables |= layer_norm(f"{here}/output", feedforward.norm)
    return variables


def head_variables(transform: str, bias: str, head: torch.nn.Module) -> dict[str, Tensor]:
    return {
        **dense(f"{transform}/dense", head.dense.weight, head.dense.bias),
        **layer_norm(transform, head.norm),
        bias: head.bias,
    }


def with_optimizer(variables: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add what a training checkpoint holds besides weights."""
    slots = {
        f"{name}/{slot}": torch.zeros_like(tensor)
        for name, tensor in variables.items()
        for slot in ("adam_m", "adam_v")
    }
    return variables | slots | {"global_step": torch.tensor(1_000_000)}


def electra_variables(model) -> dict[str, Tensor]:
    head = model.discriminator_head
    last = head.prediction
    variables = {
        **embedding_variables("electra", model.discriminator),
        **body_variables("electra", model.discriminator),
        **dense("discriminator_predictions/dense", head.dense.weight, head.dense.bias),
        **dense("discriminator_predictions/dense_1", last.weight, last.bias),
        **body_variables("generator", model.generator),
        **head_variables(
            "generator_predictions", "generator_predictions/output_bias", model.generator_head
        ),
    }
    if not model.config.tie_embeddings:
        variables |= embedding_variables("generator", model.generator)
    return with_optimizer(variables)


def bert_variables(model) -> dict[str, Tensor]:
    variables = {
        **embedding_variables("bert", model.encoder),
        **body_variables("bert", model.encoder),
        **head_variables("cls/predictions/transform", "cls/predictions/output_bias", model.head),
        "bert/pooler/dense/kernel": torch.zeros(32, 32),
        "cls/seq_relationship/output_weights": torch.zeros(2, 32),
    }
    return with_optimizer(variables)


@pytest.mark.parametrize("overrides", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_weight_of_a_pretraining_checkpoint_is_read_exactly(
    tmp_path, write_bundle, overrides
):
    model = randomized(build_model(pair(**overrides)))
    prefix = write_bundle(tmp_path / "model.ckpt-1000000", electra_variables(model))
    loaded = load_checkpoint(prefix, model.config)
    assert same(loaded, model)
    assert not loaded.discriminator.config.mask_conv_padding
    assert not loaded.generator.config.mask_conv_padding
    tied = loaded.generator.embeddings is loaded.discriminator.embeddings
    assert tied == model.config.tie_embeddings
    assert same(load_encoder(f"{prefix}.index", model.config.discriminator), model.discriminator)


def test_checkpoint_goes_on_to_transformers_bit_for_bit(tmp_path, write_bundle):
    model = randomized(build_model(pair(num_groups=2)))
    prefix = write_bundle(tmp_path / "model.ckpt-1", electra_variables(model))
    imported = load_checkpoint(prefix, model.config).eval()
    save_pretrained(imported, tmp_path / "export")
    assert same(load_pretraining_model(tmp_path / "export"), model)
    theirs = transformers.AutoModel.from_pretrained(tmp_path / "export").eval()
    ids, mask = torch.randint(0, 40, (2, 20)), torch.ones(2, 20, dtype=torch.long)
    mask[0, 9:] = 0
    with torch.no_grad():
        ours = imported.discriminator(ids, attention_mask=mask)
        expected = theirs(ids, attention_mask=mask).last_hidden_state
    assert torch.allclose(ours[mask.bool()], expected[mask.bool()], atol=1e-5, rtol=0)


def test_bert_checkpoint_is_read_exactly(tmp_path, write_bundle):
    encoder = encoder_config(local_op="attention", embedding_size=32)
    model = randomized(build_model(PretrainingConfig(objective="mlm", discriminator=encoder)))
    prefix = write_bundle(tmp_path / "bert_model.ckpt", bert_variables(model))
    assert same(load_checkpoint(prefix, model.config), model)
    assert same(load_encoder(prefix, encoder), model.encoder)


def test_encoder_is_read_without_generator_and_heads(tmp_path, write_bundle):
    model = randomized(build_model(pair()))
    variables = {
        name: tensor for name, tensor in electra_variables(model).items() if "electra/" in name
    }
    prefix = write_bundle(tmp_path / "model.ckpt-1", variables)
    assert same(load_encoder(prefix, model.config.discriminator), model.discriminator)
    with pytest.raises(UserError, match=r"ckpt-1\.index: tensor 'discriminator_predictions/"):
        load_checkpoint(prefix, model.config)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"hidden_size": 64}, "shape"),
        ({"vocab_size": 41}, r"'electra/embeddings/word_embeddings' has shape \(40, 16\)"),
        ({"num_layers": 3}, "'electra/encoder/layer_2/.*' is missing"),
        ({"num_layers": 1}, "no place in the configured model.*/layer_1/"),
        ({"conv_kernel_size": 7}, r"conv_attn_key/depthwise_kernel' has shape \(5, 32, 1\)"),
        ({"num_groups": 2}, "g_dense/kernel' is missing|no place"),
        ({"local_op": "attention"}, "no place in the configured model"),
        ({"local_op": "dynamic"}, "local_op=dynamic is in no released code"),
    ],
    ids=str,
)
def test_configuration_that_does_not_fit_is_told_by_tensor(
    tmp_path, write_bundle, overrides, named
):
    model = build_model(pair())
    prefix = write_bundle(tmp_path / "model.ckpt-1", electra_variables(model))
    with pytest.raises(UserError, match=named):
        load_checkpoint(prefix, pair(**overrides))


def test_damaged_weight_is_named(tmp_path, write_bundle):
    prefix = write_bundle(tmp_path / "model.ckpt-1", electra_variables(build_model(pair())))
    data = tmp_path / "model.ckpt-1.data-00000-of-00001"
    content = data.read_bytes()
    data.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"model\.ckpt-1\.data.*tensor '.*' is cut short"):
        load_checkpoint(prefix, pair())


def test_checkpoint_of_another_model_is_refused(tmp_path, write_bundle):
    prefix = write_bundle(tmp_path / "model.ckpt-1", {"resnet/conv/kernel": torch.zeros(3)})
    for load in (
        lambda: load_checkpoint(prefix, pair()),
        lambda: load_encoder(prefix, encoder_config()),
    ):
        with pytest.raises(UserError, match="the first is 'resnet/conv/kernel'"):
            load()


def without_generator(model) -> dict[str, Tensor]:
    return {
        name: tensor
        for name, tensor in electra_variables(model).items()
        if not name.startswith("generator")
    }


def test_all_networks_are_read_or_an_encoder_that_is_alone(tmp_path, write_bundle):
    model = randomized(build_model(pair()))
    whole = write_bundle(tmp_path / "whole.ckpt", electra_variables(model))
    assert same(load_networks(whole, model.config), model)
    alone = write_bundle(tmp_path / "alone.ckpt", without_generator(model))
    assert same(load_networks(alone, model.config), model.discriminator)


def test_damaged_generator_is_refused_and_not_left_out(tmp_path, write_bundle):
    """The generator's tensors lie behind the encoder's, so a cut file still holds the encoder."""
    model = build_model(pair())
    prefix = write_bundle(tmp_path / "model.ckpt-1", electra_variables(model))
    entry = TensorBundle(prefix).entries["generator/encoder/layer_0/output/dense/kernel"]
    data = tmp_path / "model.ckpt-1.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[: entry.offset + 3])
    load_encoder(prefix, model.config.discriminator)
    with pytest.raises(UserError, match=r"model\.ckpt-1\.data.*'generator/.*' is cut short"):
        load_networks(prefix, model.config)


def test_incomplete_generator_is_refused_and_not_left_out(tmp_path, write_bundle):
    model = build_model(pair())
    variables = electra_variables(model)
    del variables["generator/encoder/layer_1/output/dense/kernel"]
    prefix = write_bundle(tmp_path / "model.ckpt-1", variables)
    with pytest.raises(UserError, match=r"'generator/encoder/layer_1/output/dense/kernel' is miss"):
        load_networks(prefix, model.config)


def test_a_checkpoint_is_imported_with_a_cased_vocabulary(tmp_path, write_bundle):
    """Beside a checkpoint nothing says whether text is lower-cased."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "The", "House", "##s", "a"]
    model = randomized(build_model(preset("tiny", vocab_size=len(words))))
    prefix = write_bundle(tmp_path / "tf" / "model.ckpt-1", electra_variables(model))
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join(words) + "\n")
    options = {"size": "tiny", "vocab_size": len(words)}
    with pytest.raises(UserError, match=r"vocab\.txt: many of its words have capitals"):
        import_weights(prefix, tmp_path / "no", **options, tokenizer=TokenizerChoice(vocab))
    assert not (tmp_path / "no").exists()
    cased = TokenizerChoice(vocab, cased=True)
    import_weights(prefix, tmp_path / "hf", **options, tokenizer=cased)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    expected = [words.index("The"), words.index("House"), words.index("##s")]
    assert theirs("The Houses", add_special_tokens=False)["input_ids"] == expected
    assert Tokenizer.load(tmp_path / "hf").encode_batch(["The Houses"]) == [expected]
    assert same(load_pretrained(tmp_path / "hf"), model.discriminator)
