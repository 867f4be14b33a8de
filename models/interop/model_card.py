"""The README.md of an exported model: what it is, how to use it, where transformers differs."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from convbert.models.architecture import EncoderConfig
from convbert.models.counts import encoder_counts

_FRONT_MATTER = """\
---
library_name: transformers
pipeline_tag: {task}
license: {license}
{languages}tags:
- convbert-pretrain
---
"""

_USE = """\
## Use

```python
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({place})
model = AutoModel.from_pretrained({place})
hidden = model(**tokenizer("A sentence.", return_tensors="pt")).last_hidden_state
```
"""

_FILL = """\
## Fill masks

```python
from transformers import pipeline

fill = pipeline("fill-mask", model={place})
for answer in fill("A sentence with a [MASK] in it.", top_k=3):
    print(answer["token_str"], answer["score"])
```
"""

_FINE_TUNE = """\
## Fine-tune

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({place})
classifier = AutoModelForSequenceClassification.from_pretrained({place}, num_labels=2)
scores = classifier(**tokenizer("A sentence.", return_tensors="pt")).logits  # to be trained
```

or with the package that trained it, on one of its tasks or on a file of your own:

```bash
convbert finetune {shell_place} --task rotten_tomatoes --data-dir corpus
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


@dataclass(frozen=True)
class CardFacts:
    """What the card says beside the architecture.

    ``place`` is where the reader finds the model, ``license`` and ``languages`` are codes as on the
    Hugging Face hub. ``training`` and ``scores`` are tables, the latter of measure, value, spread.
    """

    place: str
    license: str = "unknown"
    languages: Sequence[str] = ()
    training: Mapping[str, object] = field(default_factory=dict)
    scores: Sequence[tuple[str, str, str]] = ()


def render_card(
    config: EncoderConfig,
    architecture: str,
    facts: CardFacts,
    *,
    generator: str | None,
    generator_refusal: str | None,
) -> str:
    """Return the model card of an exported encoder.

    ``generator`` is the class of the generator beside it, ``generator_refusal`` why there is none.
    """
    convolutional = config.local_op == "sdconv"
    task = "fill-mask" if architecture.endswith("ForMaskedLM") else "feature-extraction"
    place = facts.place.rstrip("/")
    sections = [
        _front_matter(task, facts),
        _shape(config, architecture),
        _USE.format(place=json.dumps(place, ensure_ascii=False)),
    ]
    filler = place if task == "fill-mask" else f"{place}/generator"
    if task == "fill-mask" or generator:
        sections.append(_FILL.format(place=json.dumps(filler, ensure_ascii=False)))
    sections.append(
        _FINE_TUNE.format(
            place=json.dumps(place, ensure_ascii=False), shell_place=shlex.quote(place)
        )
    )
    if convolutional:
        ours = _TRAINED_WITHOUT_LEAK if config.mask_conv_padding else _TRAINED_WITH_LEAK
        sections.append(_PADDING.format(reach=config.conv_kernel_size // 2, ours=ours))
    if convolutional and (generator or generator_refusal):
        sections.append(_DISCRIMINATOR_HEAD)
    if generator:
        sections.append(_GENERATOR.format(architecture=generator))
    if generator_refusal:
        sections.append(_NO_GENERATOR.format(reason=generator_refusal))
    if facts.training:
        rows = {key.replace("_", " "): str(value) for key, value in facts.training.items()}
        sections.append("## Training\n\n" + _table(rows))
    if facts.scores:
        sections.append("## Scores\n\n" + _scores(facts.scores))
    return "\n".join(sections)


def _front_matter(task: str, facts: CardFacts) -> str:
    """Return the YAML that the hub reads; JSON strings are YAML, so nothing in them is special."""
    codes = "".join(f"- {json.dumps(code)}\n" for code in facts.languages)
    return _FRONT_MATTER.format(
        task=task,
        license=json.dumps(facts.license),
        languages=f"language:\n{codes}" if codes else "",
    )


def _scores(scores: Sequence[tuple[str, str, str]]) -> str:
    lines = [
        "| measure | value | |",
        "| --- | --- | --- |",
        *(f"| {' | '.join(s)} |" for s in scores),
    ]
    return "\n".join(lines) + "\n"


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
