"""model.init_from: what computes otherwise is refused by name, and adapted by name."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.models.interop.hf import load_pretrained, save_pretrained
from convbert.models.presets import preset
from convbert.models.pretraining import MaskedLanguageModel, PretrainingModel, build_model
from convbert.pretrain.cli import slurm, training
from convbert.pretrain.exchange.export import save_tokenizer
from convbert.pretrain.exchange.initializing import initialize_from, require_start
from convbert.pretrain.settings.recipes import resolve

SHAPE = {"num_layers": 2, "hidden_size": 32, "embedding_size": 32, "num_heads": 4}
SHAPE |= {"max_positions": 16, "vocab_size": 10}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def networks(seed: int, **overrides: Any) -> Any:
    torch.manual_seed(seed)
    return build_model(preset("tiny", **(SHAPE | overrides))).eval()


def saved(model: PretrainingModel, folder: Path) -> Path:
    save_pretrained(model, folder)
    return folder


IDS = torch.arange(20).view(2, 10) % 10


def logits(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        found = model.discriminator_head(model.discriminator(IDS))
        return found, model.generator_head(model.generator(IDS))


# Shapes of all tensors are equal, and every one of them changes what is computed.
EQUAL_SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "epsilon": ({}, {"layer_norm_eps": 0.1}, r"layer_norm_eps=1e-12 \(here 0\.1\)"),
    "padding": (
        {"mask_conv_padding": False},
        {},
        r"mask_conv_padding=False \(here True\).*'model.overrides=\{mask_conv_padding: false\}'; "
        r"or adapt it: model\.adapt=\[padding\]",
    ),
    "padding id": ({}, {"pad_token_id": 3}, r"pad_token_id=0 \(here 3\)"),
    "plain heads": (
        {"local_op": "attention"},
        {"local_op": "attention", "num_heads": 8},
        r"num_heads=4 \(here 8\): set 'model.overrides=\{num_heads: 4\}'",
    ),
}
OTHER_SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "heads": ({}, {"num_heads": 8, "head_ratio": 4}, r"head_ratio=2 \(here 4\)"),
    "kernel": ({}, {"conv_kernel_size": 5}, r"conv_kernel_size=9 \(here 5\)"),
    "groups": ({}, {"num_groups": 2}, r"num_groups=1 \(here 2\)"),
    "operator": ({}, {"local_op": "attention"}, r"local_op='sdconv' \(here 'attention'\)"),
    "width": ({}, {"hidden_size": 64}, r"hidden_size=32 \(here 64\)"),
    "embedding": ({"embedding_size": 16}, {}, r"embedding_size=16 \(here 32\)"),
    "types": ({}, {"type_vocab_size": 3}, r"type_vocab_size=2 \(here 3\)"),
    "words": (
        {},
        {"vocab_size": 12},
        r"vocab_size=10 \(here 12\): use the tokenizer .*: model\.adapt=\[vocabulary\]",
    ),
    "fewer layers": ({}, {"num_layers": 1}, r"num_layers=2 \(here 1\).*model\.adapt=\[layers\]"),
    "more layers": ({}, {"num_layers": 3}, r"num_layers=2 \(here 3\): .*num_layers: 2\}'$"),
    "positions": ({}, {"max_positions": 32}, r"max_positions=16 \(here 32\).*adapt=\[positions\]"),
    "generator": (
        {},
        {"generator_depth": 0.5},
        r"generator has num_layers=2 \(here 1\): .*model\.adapt=\[generator\]",
    ),
}


@pytest.mark.parametrize(
    ("theirs", "ours", "reason"),
    [*EQUAL_SHAPES.values(), *OTHER_SHAPES.values()],
    ids=[*EQUAL_SHAPES, *OTHER_SHAPES],
)
def test_what_computes_otherwise_is_refused(
    theirs: dict[str, Any], ours: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    folder = saved(networks(0, **theirs), tmp_path / "hf")
    target, fresh = networks(1, **ours), networks(1, **ours)
    with pytest.raises(UserError, match=f"{folder}: its .*{reason}") as said:
        initialize_from(target, folder)
    assert "\n" not in str(said.value)
    for name, tensor in fresh.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor), name


def test_what_has_no_effect_is_no_difference(tmp_path: Path) -> None:
    plain = {"local_op": "attention"}
    source = networks(0, **plain)
    folder = saved(source, tmp_path / "hf")
    unused = {"head_ratio": 4, "conv_kernel_size": 5, "mask_conv_padding": False}
    target = networks(1, **plain, **unused, hidden_dropout=0.3, init="hf", head_rule="hf")
    initialize_from(target, folder)
    for ours, theirs in zip(logits(target), logits(source), strict=True):
        assert torch.equal(ours, theirs)


def test_upper_layers_are_dropped(tmp_path: Path) -> None:
    source = networks(0, num_layers=3)
    target = networks(1, num_layers=1)
    initialize_from(target, saved(source, tmp_path / "hf"), ["layers"])
    del source.discriminator.layers[1:], source.generator.layers[1:]
    for ours, theirs in zip(logits(target), logits(source), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("positions", [40, 12])
def test_positions_repeat_or_are_cut(positions: int, tmp_path: Path) -> None:
    source, target = networks(0), networks(1, max_positions=positions)
    initialize_from(target, saved(source, tmp_path / "hf"), ["positions"])
    for ours, theirs in zip(logits(target), logits(source), strict=True):
        assert torch.equal(ours, theirs)
    table = target.discriminator.embeddings.position.weight
    before = source.discriminator.embeddings.position.weight
    assert torch.equal(table[-1], before[(positions - 1) % 16])


@pytest.mark.parametrize("tied", [True, False, "gdes"])
@pytest.mark.parametrize("words", [14, 10, 9])
def test_rows_of_more_tokens_are_fresh(tied: Any, words: int, tmp_path: Path) -> None:
    source = networks(0, tie_embeddings=tied)
    target, fresh = (networks(1, vocab_size=words, tie_embeddings=tied) for _ in range(2))
    initialize_from(target, saved(source, tmp_path / "hf"), ["vocabulary"])
    ids = IDS.clamp(max=min(words, 10) - 1)
    with torch.no_grad():
        ours, theirs = (m.discriminator(ids) for m in (target, source))
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-6)
        ours, theirs = (m.generator_head(m.generator(ids)) for m in (target, source))
        common = min(words, 10)
        assert torch.allclose(ours[..., :common], theirs[..., :common], rtol=0, atol=1e-6)
    table, before = (m.generator.embeddings.word.weight for m in (target, fresh))
    assert torch.equal(table[10:], before[10:])
    if tied == "gdes":
        assert not target.discriminator.embeddings.word.weight[10:].any()


def test_padding_is_hidden_from_then_on(tmp_path: Path) -> None:
    source, target = networks(0, mask_conv_padding=False), networks(1)
    initialize_from(target, saved(source, tmp_path / "hf"), ["padding"])
    for ours, theirs in zip(logits(target), logits(source), strict=True):
        assert torch.equal(ours, theirs)  # without padding


@pytest.mark.parametrize("tied", [True, "gdes"])
def test_a_generator_of_another_size_is_left_out_by_name(
    tied: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = networks(0, generator_depth=0.5)
    target = networks(1, tie_embeddings=tied)
    with caplog.at_level(logging.WARNING):
        initialize_from(target, saved(source, tmp_path / "hf"), ["generator"])
    assert "the generator starts fresh" in caplog.text
    assert "objective.generator_warmup=N" in caplog.text
    assert torch.equal(logits(target)[0], logits(source)[0])
    table = target.generator.embeddings.word.weight
    assert torch.equal(table, source.discriminator.embeddings.word.weight)


def test_a_masked_language_model_starts_from_either(tmp_path: Path) -> None:
    source, target = networks(0), networks(1, objective="mlm")
    assert isinstance(target, MaskedLanguageModel)
    initialize_from(target, saved(source, tmp_path / "rtd"))
    assert torch.equal(target.encoder(IDS), source.discriminator(IDS))
    longer = networks(2, objective="mlm", vocab_size=12, num_layers=1)
    initialize_from(longer, saved(target, tmp_path / "mlm"), ["vocabulary", "layers"])
    assert torch.equal(longer.head.bias[:10], target.head.bias)


def words(folder: Path, *pieces: str, cased: bool = False) -> Tokenizer:
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *pieces]) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": not cased}))
    return Tokenizer.load(folder)


def test_ids_mean_what_they_meant(tmp_path: Path) -> None:
    folder = saved(networks(0), tmp_path / "hf")
    pieces = ["a", "b", "c", "##d", "e"]
    own = words(tmp_path / "own", *pieces)
    other = words(tmp_path / "other", "a", "c", "b", "##d", "e")
    cased = words(tmp_path / "cased", *pieces, cased=True)
    more = words(tmp_path / "more", *pieces, "f", "g")
    initialize_from(networks(1), folder, tokenizer=other)  # nothing is known about it there
    save_tokenizer(own, folder, 16)
    initialize_from(networks(1), folder, tokenizer=own)
    with pytest.raises(UserError, match="and 2 ids mean other tokens: train with its own"):
        initialize_from(networks(1), folder, tokenizer=other)
    with pytest.raises(UserError, match="cuts texts differently"):
        initialize_from(networks(1), folder, tokenizer=cased)
    longer = networks(1, vocab_size=12)
    with pytest.raises(UserError, match=r"10 tokens, that of the run .* 12, and 0 ids"):
        initialize_from(longer, folder, tokenizer=more)
    initialize_from(longer, folder, ["vocabulary"], more)
    assert load_pretrained(folder).config.vocab_size == 10


def test_a_start_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    source = networks(0, max_positions=512)
    folder = saved(source, tmp_path / "hf")
    own = words(tmp_path / "own", "a", "b", "c", "##d", "e")
    save_tokenizer(own, folder, 16)
    shape = "num_layers: 2, hidden_size: 32, embedding_size: 32, num_heads: 4"

    def start(overrides: str, *settings: str) -> None:
        named = [f"model.init_from={folder}", f"data.tokenizer={own.folder}"]
        require_start(resolve("tiny", [*named, f"model.overrides={{{overrides}}}", *settings]))

    start(shape)
    with pytest.raises(UserError, match=r"its discriminator has layer_norm_eps=1e-12 \(here 0.1\)"):
        start(f"{shape}, layer_norm_eps: 0.1")
    with pytest.raises(UserError, match=r"its generator has num_layers=2 \(here 1\)"):
        start(f"{shape}, generator_depth: 0.5")
    start(f"{shape}, generator_depth: 0.5", "model.adapt=[generator]")
    other = words(tmp_path / "other", "a", "c", "b", "##d", "e")
    with pytest.raises(UserError, match="2 ids mean other tokens"):
        start(shape, f"data.tokenizer={other.folder}")


def test_nothing_to_adapt_is_refused() -> None:
    with pytest.raises(UserError, match=r"model: adapt=\['layers'\] without init_from"):
        resolve("tiny", ["model.adapt=[layers]"])
    config = resolve("tiny", ["model.init_from=weights", "model.adapt=[layers, padding]"])
    assert config.model.adapt == ("layers", "padding")


def test_the_commands_write_nothing_for_a_start_that_is_refused(
    shards_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.load(tokenizer_dir)
    folder = saved(networks(0, vocab_size=tokenizer.vocab_size, max_positions=512), tmp_path / "hf")
    settings = [
        f"data.manifest={shards_dir / 'manifest.json'}", f"data.tokenizer={tokenizer_dir}",
        f"model.init_from={folder}", "steps=2", "schedule.warmup_steps=0", "global_batch=8",
        "model.overrides={num_layers: 1, hidden_size: 32, embedding_size: 32, num_heads: 4}",
    ]  # fmt: skip
    for command in (
        lambda: training.pretrain("tiny", settings, run_dir=tmp_path / "run", processes=1),
        lambda: slurm._prepare("tiny", settings, tmp_path / "run", 1),
    ):
        with pytest.raises(UserError, match=r"its discriminator has num_layers=2 \(here 1\)"):
            command()
    assert not (tmp_path / "run").exists()
