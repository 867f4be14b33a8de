"""The same work done by transformers, shaped by one of our configurations."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ConvBertConfig, ConvBertModel, ElectraConfig, ElectraModel
from transformers.models.convbert.modeling_convbert import ConvBertLayer

from convbert.models.architecture import EncoderConfig, PretrainingConfig
from convbert.models.heads import DiscriminatorHead, MaskedLMHead
from convbert.pretrain.objective.masking import MaskedBatch


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

    def forward(self, input_ids: Tensor, **inputs: Tensor) -> Tensor:
        """Return the last hidden states."""
        return self.model(input_ids, **inputs).last_hidden_state


class TransformersDetection(nn.Module):
    """Replaced-token detection the way it is written with transformers.

    Two of its encoders with tied embeddings; the masked positions are gathered before the
    vocabulary product, the logits are whole, and samples are drawn with Gumbel noise.
    """

    def __init__(self, config: PretrainingConfig) -> None:
        super().__init__()
        assert config.generator is not None
        self.discriminator = TransformersEncoder(config.discriminator)
        self.generator = TransformersEncoder(config.generator)
        self.generator.model.embeddings = self.discriminator.model.embeddings
        self.discriminator_head = DiscriminatorHead(config.discriminator)
        word = self.discriminator.model.embeddings.word_embeddings
        self.generator_head = MaskedLMHead(config.generator, word)

    def forward(self, batch: MaskedBatch) -> Tensor:
        """Return the weighted sum of both losses."""
        inputs = {
            "token_type_ids": batch.token_type_ids_BL,
            "attention_mask": (batch.document_ids_BL > 0).long(),
        }
        ids_BL, slots_BM, valid_BM = batch.input_ids_BL, batch.slots_BM, batch.valid_BM
        hidden_BLD = self.generator(batch.masked_BL, **inputs)
        index_BMD = slots_BM[..., None].expand(-1, -1, hidden_BLD.shape[-1])
        logits_BMV = self.generator_head(hidden_BLD.gather(1, index_BMD)).float()
        original_BM = ids_BL.gather(1, slots_BM)
        mlm_BM = F.cross_entropy(logits_BMV.transpose(1, 2), original_BM, reduction="none")
        with torch.no_grad():
            noise_BMV = -torch.log(-torch.log(torch.rand_like(logits_BMV) + 1e-9) + 1e-9)
            sampled_BM = (logits_BMV + noise_BMV).argmax(dim=-1)
            written_BM = torch.where(valid_BM, sampled_BM, original_BM)
            corrupted_BL = ids_BL.scatter(1, slots_BM, written_BM)
        found_BL = self.discriminator_head(self.discriminator(corrupted_BL, **inputs)).float()
        rtd = F.binary_cross_entropy_with_logits(
            found_BL, (corrupted_BL != ids_BL).float(), weight=inputs["attention_mask"].float()
        )
        return torch.where(valid_BM, mlm_BM, 0.0).sum() / valid_BM.sum() + 50.0 * rtd


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
