"""Fine-tuned models as transformers' task classes: encoder, head, and the names of the labels."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.models.interop.hf_config import (
    CONFIG_FILE,
    CONVBERT,
    ELECTRA,
    refusal,
    to_transformers,
)
from convbert.models.interop.hf_files import SAFETENSORS_FILE, write_safetensors, write_text
from convbert.models.interop.links import export_tensors
from convbert.models.interop.naming import TRANSFORMERS, encoder_links

TaskClass = Literal["SequenceClassification", "TokenClassification", "QuestionAnswering"]
ProblemType = Literal["single_label_classification", "regression"]


@dataclass(frozen=True)
class TaskHead:
    """A head of transformers: its class behind the family's name, tensors, and labels in order.

    The tensors' names are those of the class; ``classification_tensors`` makes them of a head.
    """

    kind: TaskClass
    tensors: Mapping[str, Tensor]
    labels: Sequence[str]
    dropout: float
    problem_type: ProblemType | None = None


def classification_tensors(
    dense: nn.Linear | None, output: nn.Linear, scale: float = 1.0
) -> dict[str, Tensor]:
    """Return the tensors of ``ConvBertForSequenceClassification``'s head and ELECTRA's.

    Both have a hidden layer with GELU before the last one. A head without it is written so that
    the two layers together are its one: ``gelu(x) - gelu(-x) = x``, for ``gelu(x)`` is x times the
    normal distribution function at x. Needs half as many labels as the hidden size at most.
    ``scale`` multiplies the scores. Raises ``UserError`` for more labels.
    """
    weight, bias = scale * output.weight.detach(), scale * output.bias.detach()
    if dense is not None:
        first_weight, first_bias = dense.weight.detach(), dense.bias.detach()
        last = weight
    else:
        labels, width = weight.shape
        if 2 * labels > width:
            raise UserError(
                f"{labels} labels: transformers holds a linear head with {width // 2} labels at "
                f"most on states of {width} numbers; use recipe.head=mlp"
            )
        first_weight, first_bias = weight.new_zeros(width, width), bias.new_zeros(width)
        first_weight[: 2 * labels] = torch.cat([weight, -weight])
        first_bias[: 2 * labels] = torch.cat([bias, -bias])
        last = weight.new_zeros(labels, width)
        last[:, : 2 * labels] = torch.cat([torch.eye(labels), -torch.eye(labels)], dim=1)
        bias = torch.zeros_like(bias)
    return {
        "classifier.dense.weight": first_weight,
        "classifier.dense.bias": first_bias,
        "classifier.out_proj.weight": last,
        "classifier.out_proj.bias": bias,
    }


def save_task_model(encoder: Encoder, head: TaskHead, directory: Path) -> str:
    """Write a fine-tuned model as transformers' class for the task; return the class's name.

    Raises ``UserError`` when transformers cannot hold the encoder.
    """
    reason = refusal(encoder.config)
    if reason is not None:
        raise UserError(f"cannot be kept in Hugging Face format: {reason}")
    family = CONVBERT if encoder.config.local_op == "sdconv" else ELECTRA
    architecture = family.encoder_class.removesuffix("Model") + f"For{head.kind}"
    links = encoder_links(TRANSFORMERS, encoder.config, family.model_type)
    own = {name: t.to("cpu", torch.float32).contiguous() for name, t in head.tensors.items()}
    fields = to_transformers(encoder.config, family, architecture) | {
        "id2label": {str(number): label for number, label in enumerate(head.labels)},
        "label2id": {label: number for number, label in enumerate(head.labels)},
        "problem_type": head.problem_type,
        "classifier_dropout": head.dropout,
    }
    write_safetensors(directory / SAFETENSORS_FILE, export_tensors(links, encoder) | own)
    text = json.dumps(fields, indent=2, ensure_ascii=False)
    write_text(directory / CONFIG_FILE, text + "\n")
    return architecture
