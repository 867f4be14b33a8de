"""Which learning rate suits another batch or width than the recipe's (docs/learning-rates.md)."""

import math

from convbert.pretrain.settings.run import RunConfig

_VOCABULARY = 30_522  # the width does not depend on it


def _width(config: RunConfig) -> int:
    return config.model.build(_VOCABULARY).discriminator.hidden_size


def suggested_rate(recipe: RunConfig, config: RunConfig) -> float:
    """Return ``recipe``'s peak learning rate, carried over to the batch and width of ``config``.

    With the square root of the batch (Malladi et al. 2022, arXiv 2205.10287), and for AdamW in
    inverse proportion to the width (Yang et al. 2022, arXiv 2203.03466). LAMB and Muon scale their
    updates by the size of each matrix, so their rates are not changed with the width.
    """
    rate = recipe.optimizer.learning_rate
    rate *= math.sqrt(config.global_batch / recipe.global_batch)
    if config.optimizer.name == "adamw":
        rate *= _width(recipe) / _width(config)
    return rate


def rate_note(recipe: RunConfig, config: RunConfig) -> str:
    """Return what to do with the learning rate, or nothing where the recipe's fits."""
    if recipe.optimizer.name != config.optimizer.name:
        return (
            f"optimizer.name={config.optimizer.name} instead of the recipe's "
            f"{recipe.optimizer.name}: its learning rate says nothing here; try several"
        )
    changes = []
    if config.global_batch != recipe.global_batch:
        ratio = config.global_batch / recipe.global_batch
        changes.append(
            f"global_batch={config.global_batch:,} is {ratio:g} times the recipe's "
            f"{recipe.global_batch:,}"
        )
    if config.optimizer.name == "adamw" and _width(config) != _width(recipe):
        changes.append(f"hidden_size={_width(config)} instead of the recipe's {_width(recipe)}")
    if not changes:
        return ""
    found = suggested_rate(recipe, config)
    given = config.optimizer.learning_rate
    peaks = f"optimizer.learning_rate={found:.1e}"
    if config.optimizer.name == "muon":
        scale = found / recipe.optimizer.learning_rate
        peaks += f" optimizer.muon.learning_rate={recipe.optimizer.muon.learning_rate * scale:.1e}"
    return f"{', '.join(changes)}: start from {peaks} (this run has {given:g})"
