"""Our configuration as a transformers ``config.json``, and back.

Three of transformers' families are these models: ConvBERT, ELECTRA (no reduction of heads) and
BERT (ELECTRA without a map from the embedding to the hidden size).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convbert.models.architecture import EncoderConfig, LocalOp
from convbert.models.errors import UserError
from convbert.models.interop.naming import MaskedLMNames
from convbert.models.schema import read_json, validate

GENERATOR_DIRECTORY = "generator"
CONFIG_FILE = "config.json"
# Fields that transformers does not know; it keeps unknown keys and writes them again.
_OWN_KEY = "convbert_pretrain"
_OWN_FIELDS = ("head_rule", "init", "mask_conv_padding")


@dataclass(frozen=True)
class Family:
    """One of transformers' model families, as far as its files show it."""

    model_type: str
    local_op: LocalOp
    encoder_class: str
    masked_lm_class: str
    masked_lm_head: MaskedLMNames


_ELECTRA_HEAD = MaskedLMNames(
    "generator_predictions", "generator_lm_head/bias", "generator_lm_head/weight"
)

CONVBERT = Family("convbert", "sdconv", "ConvBertModel", "ConvBertForMaskedLM", _ELECTRA_HEAD)
ELECTRA = Family("electra", "attention", "ElectraModel", "ElectraForMaskedLM", _ELECTRA_HEAD)
BERT = Family(
    "bert",
    "attention",
    "BertModel",
    "BertForMaskedLM",
    MaskedLMNames(
        "cls/predictions/transform", "cls/predictions/bias", "cls/predictions/decoder/weight"
    ),
)
FAMILIES = {family.model_type: family for family in (CONVBERT, ELECTRA, BERT)}

# Our field and theirs, for every family.
_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
}
_KEYS_WITH_DEFAULTS = {
    "max_positions": ("max_position_embeddings", 512),
    "type_vocab_size": ("type_vocab_size", 2),
    "hidden_dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
    "layer_norm_eps": ("layer_norm_eps", 1e-12),
    "initializer_range": ("initializer_range", 0.02),
}
_CONVBERT_KEYS = {
    "head_ratio": ("head_ratio", 2),
    "conv_kernel_size": ("conv_kernel_size", 9),
    "num_groups": ("num_groups", 1),
}
# Behavior that these models do not have and that would change every hidden state.
_REQUIRED_VALUES = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
}


def refusal(config: EncoderConfig) -> str | None:
    """Return why transformers cannot hold this encoder, or None when it can."""
    if config.local_op not in ("sdconv", "attention"):
        return f"transformers has no local_op={config.local_op}: only sdconv and attention exist"
    if config.local_op == "attention":
        if config.num_groups > 1:
            return f"transformers' ELECTRA has no num_groups={config.num_groups}: only 1 group"
        return None
    if config.head_rule == "original" and config.num_heads != 2 * config.local_heads:
        return (
            f"transformers splits hidden_size={config.hidden_size} over its "
            f"{2 * config.local_heads} heads where num_heads={config.num_heads} with "
            f"head_ratio={config.head_ratio} gives heads of {config.head_dim}: only "
            "num_heads equal to twice the reduced number, or head_rule=hf, can be exported"
        )
    return None


def to_transformers(config: EncoderConfig, family: Family, architecture: str) -> dict[str, Any]:
    """Return the contents of ``config.json``; the encoder must have no ``refusal``."""
    fields = {theirs: getattr(config, ours) for ours, theirs in _KEYS.items()}
    defaulted = dict(_KEYS_WITH_DEFAULTS)
    if family is CONVBERT:
        defaulted |= _CONVBERT_KEYS
    fields |= {theirs: getattr(config, ours) for ours, (theirs, _) in defaulted.items()}
    if family is not BERT:
        fields["embedding_size"] = config.embedding_size
    return {
        "architectures": [architecture],
        "model_type": family.model_type,
        **fields,
        "hidden_act": "gelu",
        # transformers' ConvBERT would otherwise take 1 for padding, which is not [PAD] here.
        "pad_token_id": config.pad_token_id,
        "bos_token_id": None,
        "eos_token_id": None,
        "tie_word_embeddings": True,
        "dtype": "float32",
        _OWN_KEY: {field: getattr(config, field) for field in _OWN_FIELDS},
    }


def read_config(directory: Path) -> tuple[EncoderConfig, Family, str]:
    """Return the encoder, family and architecture that ``directory/config.json`` describes.

    A directory written by other software gets ``mask_conv_padding`` off, which is how
    transformers' ConvBERT computes. Raises ``UserError`` naming the file and key when the file is
    missing, unreadable or describes another model.
    """
    path = directory / CONFIG_FILE
    fields = read_json(path)
    model_type = fields.get("model_type")
    if model_type not in FAMILIES:
        raise UserError(
            f"{path}: model_type={model_type!r} is no model of this family: use one of "
            f"{', '.join(FAMILIES)}"
        )
    for key, value in _REQUIRED_VALUES.items():
        if fields.get(key, value) != value:
            raise UserError(
                f"{path}: {key}={fields[key]!r} is not supported: only {key}={value!r} is"
            )
    family = FAMILIES[model_type]
    stated = fields.get(_OWN_KEY) or {}
    if not isinstance(stated, dict):
        raise UserError(f"{path}: {_OWN_KEY}={stated!r} holds no keys and values: remove it")
    foreign = {"head_rule": "hf", "mask_conv_padding": False}
    content = _own_fields(path, fields, family) | foreign | stated
    config = validate(EncoderConfig, content, path)
    either = family is not CONVBERT or config.num_heads == 2 * config.local_heads
    if either and "head_rule" not in stated:
        # Both rules give heads of the same width, so the model gets the default rule.
        config = config.model_copy(update={"head_rule": "original"})
    return config, family, _architecture(path, fields) or family.encoder_class


def _architecture(path: Path, fields: Mapping[str, Any]) -> str | None:
    names = fields.get("architectures") or [None]
    if not isinstance(names, list):
        raise UserError(f"{path}: architectures={names!r} is no list: write the class in brackets")
    return names[0]


def _own_fields(path: Path, fields: Mapping[str, Any], family: Family) -> dict[str, Any]:
    missing = [key for key in _KEYS.values() if key not in fields]
    if missing:
        raise UserError(f"{path}: key {missing[0]!r} is missing: add it")
    defaulted = dict(_KEYS_WITH_DEFAULTS)
    if family is CONVBERT:
        defaulted |= _CONVBERT_KEYS
    own = {ours: fields[theirs] for ours, theirs in _KEYS.items()}
    own |= {ours: fields.get(theirs, default) for ours, (theirs, default) in defaulted.items()}
    own["local_op"] = family.local_op
    own["embedding_size"] = fields.get("embedding_size", own["hidden_size"])
    own["pad_token_id"] = _pad_token_id(path.parent, fields)
    return own


def _pad_token_id(directory: Path, fields: Mapping[str, Any]) -> Any:
    """Return where [PAD] is, by the tokenizer beside the configuration if there is one.

    A generator has that of the model whose directory it lies in. A ConvBERT configuration made from
    transformers' defaults says 1, although every published vocabulary has [PAD] at 0.
    """
    of_model = directory.parent if directory.name == GENERATOR_DIRECTORY else directory
    for place in dict.fromkeys((directory, of_model)):
        found = _pad_in_tokenizer(place)
        if found is not None:
            return found
    declared = fields.get("pad_token_id")
    return 0 if declared is None else declared


def _pad_in_tokenizer(directory: Path) -> Any:
    """Return the id of [PAD] in the tokenizer in ``directory``, None where there is none."""
    vocabulary = directory / "vocab.txt"
    if vocabulary.is_file():
        tokens = [line.rstrip(b"\r") for line in vocabulary.read_bytes().split(b"\n")]
        if b"[PAD]" in tokens:
            return tokens.index(b"[PAD]")
    fast = directory / "tokenizer.json"
    added = read_json(fast).get("added_tokens") if fast.is_file() else None
    for token in added if isinstance(added, list) else ():
        if isinstance(token, dict) and token.get("content") == "[PAD]":
            return token.get("id")
    return None
