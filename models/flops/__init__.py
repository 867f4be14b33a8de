"""Training cost of every model here, in the papers' convention and as work really done.

``electra`` is the accounting behind the figures of the ELECTRA and ConvBERT papers: embedding
lookups count as dense one-hot products, elementwise operations have constants, and the backward
pass is taken to cost as much as the forward pass. ``hardware`` is what an accelerator's peak rate
should be compared with: multiply-adds only, lookups free, the backward pass twice the forward.
"""

from convbert.models.flops.accounting import (
    Convention,
    forward_flops,
    training_flops_per_sequence,
)

__all__ = ["Convention", "forward_flops", "training_flops_per_sequence"]
