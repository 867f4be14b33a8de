"""The same work done by transformers, shaped by one of our configurations."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ConvBertConfig, ConvBertModel, ElectraConfig, ElectraModel
from transformers.models.convbert.modeling_convbert import ConvBertLayer

from convbert.models.config import EncoderConfig


def transformers_config(config: EncoderConfig) -> ConvBertConfig | ElectraConfig:
    """Return the configuration in transformers' terms: ELECTRA's for plain attention."""
    shared = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "embedding_size": config.embedding_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "hidden_dropout_prob": config.hidden_dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "max_position_embeddings": config.max_positions,
    }
    if config.local_op == "attention":
        return ElectraConfig(**shared)
    return ConvBertConfig(
        **shared,
        head_ratio=config.head_ratio,
        conv_kernel_size=config.conv_kernel_size,
        num_groups=config.num_groups,
    )


class TransformersEncoder(nn.Module):
    """transformers' encoder behind our signature."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        model = ElectraModel if config.local_op == "attention" else ConvBertModel
        self.model = model(transformers_config(config))

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the last hidden states."""
        return self.model(input_ids).last_hidden_state


def transformers_layer(config: EncoderConfig) -> nn.Module:
    """Return one ConvBERT block of transformers."""
    return ConvBertLayer(transformers_config(config))


def unfolded_conv(value_BLNH: Tensor, logits_BLNK: Tensor) -> Tensor:
    """Span-based dynamic convolution by storing every window, the way transformers does it."""
    batch, length, heads, width = value_BLNH.shape
    taps = logits_BLNK.shape[-1]
    channels_BCL1 = value_BLNH.flatten(2).transpose(1, 2).contiguous()[..., None]
    columns = F.unfold(channels_BCL1, kernel_size=[taps, 1], padding=[taps // 2, 0])
    windows = columns.transpose(1, 2).reshape(batch * length * heads, width, taps)
    weights = logits_BLNK.reshape(-1, taps, 1).softmax(dim=1)
    return torch.matmul(windows, weights).reshape(batch, length, heads, width)
