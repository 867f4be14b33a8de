"""Small networks for tests that compare two computations of the same thing."""

import torch

from convbert.models.presets import preset
from convbert.models.pretraining import build_model

SMALL = {"num_layers": 2, "hidden_size": 64, "embedding_size": 64, "num_heads": 8}


def network(tokenizer, *, spread: float, **overrides):
    """Return networks whose weights, with a deviation of ``spread``, are far from fresh ones'."""
    torch.manual_seed(3)
    model = build_model(preset("tiny", vocab_size=tokenizer.vocab_size, **SMALL, **overrides))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=spread)
    return model.eval()
