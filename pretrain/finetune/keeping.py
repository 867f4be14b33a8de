"""A fine-tuned network as a Hugging Face model that transformers' pipelines load."""

from collections.abc import Callable
from pathlib import Path

from convbert.models.architecture import EncoderConfig
from convbert.models.errors import UserError
from convbert.models.interop.hf_config import refusal
from convbert.models.interop.hf_tasks import TaskHead, classification_tensors, save_task_model
from convbert.pretrain.finetune.answer_head import SimpleSpanHead
from convbert.pretrain.finetune.data import TaskData
from convbert.pretrain.finetune.model import SentenceHead, TaskModel, TokenHead


def require_keepable(config: EncoderConfig, data: TaskData) -> None:
    """Raise ``UserError`` unless transformers has a class for this encoder with the task's head."""
    task, reason = data.task, refusal(config)
    if reason is not None:
        raise UserError(f"task {task.name}: the model cannot be kept: {reason}")
    fault = None
    if task.kind == "qa" and task.recipe.qa.head != "simple":
        fault = f"recipe.qa.head={task.recipe.qa.head}, only simple: set recipe.qa.head=simple"
    elif task.kind in ("classification", "regression"):
        outputs = max(1, len(data.class_names))
        if task.recipe.pooling != "cls":
            fault = f"recipe.pooling={task.recipe.pooling}, only cls: set recipe.pooling=cls"
        elif task.recipe.head == "linear" and 2 * outputs > config.hidden_size:
            fault = f"a linear head of {outputs} labels on so few states: set recipe.head=mlp"
    if fault is not None:
        raise UserError(
            f"task {task.name}: the model cannot be kept, transformers has no {fault}, or leave "
            "out --keep-model"
        )


def write_task_model(model: TaskModel, data: TaskData, directory: Path) -> None:
    """Write a fine-tuned model; the labels have the task's names, numbers the task's units."""
    save_task_model(model.encoder, _HEADS[type(model.head)](model, data), directory)


def _sentences(model: TaskModel, data: TaskData) -> TaskHead:
    head, task = model.head, data.task
    assert isinstance(head, SentenceHead)
    numbers = task.kind == "regression"
    return TaskHead(
        "SequenceClassification",
        classification_tensors(head.dense, head.output, task.label_scale if numbers else 1.0),
        [task.label] if numbers else data.class_names,
        task.recipe.dropout,
        "regression" if numbers else "single_label_classification",
    )


def _tokens(model: TaskModel, data: TaskData) -> TaskHead:
    head = model.head
    assert isinstance(head, TokenHead)
    tensors = {f"classifier.{name}": t for name, t in head.output.state_dict().items()}
    return TaskHead("TokenClassification", tensors, data.class_names, data.task.recipe.dropout)


def _spans(model: TaskModel, data: TaskData) -> TaskHead:
    head = model.head
    assert isinstance(head, SimpleSpanHead)
    tensors = {f"qa_outputs.{name}": t for name, t in head.output.state_dict().items()}
    return TaskHead("QuestionAnswering", tensors, ["start", "end"], data.task.recipe.dropout)


_HEADS: dict[type, Callable[[TaskModel, TaskData], TaskHead]] = {
    SentenceHead: _sentences,
    TokenHead: _tokens,
    SimpleSpanHead: _spans,
}
