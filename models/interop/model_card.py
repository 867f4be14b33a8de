"""The README.md of an exported model: what it is, how to use it, where transformers differs."""

from collections.abc import Mapping

from convbert.models.config import EncoderConfig
from convbert.models.counts import encoder_counts

_FRONT_MATTER = """\
---
library_name: transformers
pipeline_tag: {task}
tags:
- convbert-pretrain
---
"""

_USE = """\
## Use

```python
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH")
model = AutoModel.from_pretrained("PATH")
hidden = model(**tokenizer("A sentence.", return_tensors="pt")).last_hidden_state
```
"""

_PADDING = """\
## Padding

transformers' ConvBERT does not hide padding from the convolution: in a padded batch the last
{reach} tokens of a text see the padding that follows them, more tokens with every layer.
{ours}
Texts of equal length, or one text at a time, have no padding and are exact.
"""
_TRAINED_WITHOUT_LEAK = (
    "This model was pretrained with padding hidden, so in transformers its hidden states in a\n"
    "padded batch differ slightly from those of pretraining."
)
_TRAINED_WITH_LEAK = (
    "This model computes in the same way wherever it comes from: what it gives for a text changes\n"
    "with the length to which its batch is padded."
)

_DISCRIMINATOR_HEAD = """\
## Discriminator

`discriminator_head.safetensors` holds the head that tells replaced tokens from original ones,
named as in `ElectraForPreTraining`; transformers has no such class for ConvBERT.
"""

_GENERATOR = """\
## Generator

`generator/` holds the generator that proposed the replacements, as a `{architecture}`.
"""

_NO_GENERATOR = """\
## Generator

The generator is not included: {reason}.
"""


def render_card(
    config: EncoderConfig,
    architecture: str,
    facts: Mapping[str, object],
    *,
    generator: str | None,
    generator_refusal: str | None,
) -> str:
    """Return the model card of an exported encoder; ``facts`` become its table on training.

    ``generator`` is the class of the generator beside it, ``generator_refusal`` why there is none.
    """
    convolutional = config.local_op == "sdconv"
    task = "fill-mask" if architecture.endswith("ForMaskedLM") else "feature-extraction"
    sections = [_FRONT_MATTER.format(task=task), _shape(config, architecture), _USE]
    if convolutional:
        ours = _TRAINED_WITHOUT_LEAK if config.mask_conv_padding else _TRAINED_WITH_LEAK
        sections.append(_PADDING.format(reach=config.conv_kernel_size // 2, ours=ours))
    if convolutional and (generator or generator_refusal):
        sections.append(_DISCRIMINATOR_HEAD)
    if generator:
        sections.append(_GENERATOR.format(architecture=generator))
    if generator_refusal:
        sections.append(_NO_GENERATOR.format(reason=generator_refusal))
    if facts:
        rows = {key.replace("_", " "): str(value) for key, value in facts.items()}
        sections.append("## Training\n\n" + _table(rows))
    return "\n".join(sections)


def _shape(config: EncoderConfig, architecture: str) -> str:
    block = "span-based dynamic convolution beside self-attention (ConvBERT)"
    if config.local_op == "attention":
        block = "self-attention"
    rows = {
        "class": f"`{architecture}`",
        "block": block,
        "layers": str(config.num_layers),
        "hidden size": str(config.hidden_size),
        "embedding size": str(config.embedding_size),
        "feed-forward size": f"{config.intermediate_size}, groups {config.num_groups}",
        "attention heads": f"{config.local_heads} of width {config.head_dim}",
        "positions": str(config.max_positions),
        "vocabulary": f"{config.vocab_size}, padding id {config.pad_token_id}",
        "parameters of the encoder": f"{encoder_counts(config).total:,}",
    }
    return "# Pretrained encoder\n\n" + _table(rows)


def _table(rows: Mapping[str, str]) -> str:
    lines = ["| | |", "| --- | --- |", *(f"| {key} | {value} |" for key, value in rows.items())]
    return "\n".join(lines) + "\n"
