"""A linear probe: how well a task can be solved from an encoder that is not trained on it.

Shapes: B rows, D hidden size.
"""

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from convbert.models.architecture import EncoderConfig
from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.pretrain.finetune.data import TaskData, evaluation_batches
from convbert.pretrain.finetune.loop import check_fit, score
from convbert.pretrain.finetune.model import POOLS

Pooling = Literal["cls", "mean"]


def probe(encoder: Encoder, data: TaskData, pooling: Pooling) -> dict[str, dict[str, float]]:
    """Return the task's measures on each labeled held-out split.

    A logistic regression (for numbers: a ridge regression) of strength 1 is fitted on the
    standardized, pooled last states of the training rows. The encoder stays as it is, so a
    checkpoint takes one pass over the rows, and nothing is random (of a list of ``train_rows`` it
    takes seed 0's rows). Raises what ``require_probeable`` raises.
    """
    require_probeable(encoder.config, data)
    data = data.for_seed(0)
    model = _linear_model(data.task.kind)
    model.fit(pooled_states(encoder, data, "train", pooling), data.splits["train"].labels)
    splits = [split for split in data.splits if split != "train" and data.labeled(split)]
    guesses = {
        split: model.predict(pooled_states(encoder, data, split, pooling)) for split in splits
    }
    return {split: score(data, split, guesses[split].tolist()) for split in splits}


def require_probeable(config: EncoderConfig, data: TaskData) -> None:
    """Raise ``UserError`` unless such an encoder reads the task's rows and has a vector for each.

    Tasks about words or answers have no single vector.
    """
    if data.task.kind not in ("classification", "regression"):
        raise UserError(
            f"task {data.task.name}: a probe reads one vector of a text, a {data.task.kind} task "
            "has none; fine-tune on it instead"
        )
    check_fit(config, data)
    labels = data.for_seed(0).splits["train"].labels
    if data.task.kind == "classification" and len(set(labels)) < 2:
        raise UserError(f"task {data.task.name}: all rows to train on have one class; take more")


@torch.no_grad()
def pooled_states(
    encoder: Encoder, data: TaskData, split: str, pooling: Pooling
) -> NDArray[np.float32]:
    """Return one vector for each row of a split, in file order, [B, D]."""
    training = encoder.training
    encoder.eval()
    device = encoder.embeddings.word.weight.device
    found = np.empty((len(data.splits[split]), encoder.config.hidden_size), np.float32)
    for batch in evaluation_batches(data, split):
        moved = batch.to(device)
        hidden_BLD = encoder(
            moved.input_ids_BL,
            token_type_ids=moved.token_type_ids_BL,
            attention_mask=moved.attention_mask_BL,
        )
        pooled_BD = POOLS[pooling](hidden_BLD, moved.attention_mask_BL)
        found[batch.rows] = pooled_BD.float().cpu().numpy()
    encoder.train(training)
    return found


def _linear_model(kind: str) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegression(max_iter=1000) if kind == "classification" else Ridge()
    return make_pipeline(StandardScaler(), model)
