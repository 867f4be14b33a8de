"""GPU kernels of the masked-language-model loss: each logit crosses the memory bus once per pass.

One program owns a row of logits, which stays in its caches while it looks at it three times: for
the largest, for the sums, and for the sample. Sums are float32 (float64 for float64 inputs).
Importing this module needs Triton.

Shape suffixes: X ids of one block of the vocabulary.
"""

import triton
import triton.language as tl


@triton.jit
def _logits(
    product: tl.tensor, bias: tl.tensor, at: tl.tensor, vocabulary: tl.tensor, WIDE: tl.constexpr
) -> tl.tensor:
    """Load a block of a row's logits; ids beyond the vocabulary have no mass."""
    inside = at < vocabulary
    product_X = tl.load(product + at, mask=inside, other=float("-inf")).to(WIDE)
    return product_X + tl.load(bias + at, mask=inside, other=0.0).to(WIDE)


@triton.jit
def row_statistics(
    product: tl.tensor,
    bias: tl.tensor,
    targets: tl.tensor,
    uniform: tl.tensor,
    temperature: tl.tensor,
    normalizer: tl.tensor,
    loss: tl.tensor,
    sampled: tl.tensor,
    best: tl.tensor,
    vocabulary: tl.tensor,
    product_row: tl.tensor,
    TEMPERED: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDE: tl.constexpr,
) -> None:
    """Write log-sum-exp, loss, sample and argmax of one row."""
    row = tl.program_id(0).to(tl.int64)
    product += row * product_row
    x = tl.arange(0, BLOCK)
    cold = 1.0 / tl.load(temperature).to(WIDE) if TEMPERED else tl.full((), 1.0, WIDE)

    top_X = tl.full((BLOCK,), float("-inf"), WIDE)
    place_X = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, vocabulary, BLOCK):
        logit_X = _logits(product, bias, start + x, vocabulary, WIDE)
        place_X = tl.where(logit_X > top_X, start + x, place_X)
        top_X = tl.where(logit_X > top_X, logit_X, top_X)
    top = tl.max(top_X, axis=0)
    tl.store(best + row, tl.min(tl.where(top_X == top, place_X, vocabulary), axis=0))

    total = tl.full((), 0.0, WIDE)
    reached = tl.full((), 0.0, WIDE)
    for start in range(0, vocabulary, BLOCK):
        logit_X = _logits(product, bias, start + x, vocabulary, WIDE)
        total += tl.sum(tl.exp(logit_X - top), axis=0)
        if TEMPERED:
            reached += tl.sum(tl.exp((logit_X - top) * cold), axis=0)
    if not TEMPERED:
        reached = total
    log_sum = top + tl.log(total)
    tl.store(normalizer + row, log_sum)
    target = tl.load(targets + row)
    wanted = tl.load(product + target).to(WIDE) + tl.load(bias + target).to(WIDE)
    tl.store(loss + row, log_sum - wanted)

    # The smallest id whose cumulative mass exceeds the wanted one, or, where rounding put that
    # beyond all, the last id with mass.
    mass = tl.load(uniform + row).to(WIDE) * reached
    before = tl.full((), 0.0, WIDE)
    found = vocabulary
    last = tl.full((), 0, tl.int32)
    for start in range(0, vocabulary, BLOCK):
        logit_X = _logits(product, bias, start + x, vocabulary, WIDE)
        mass_X = tl.exp((logit_X - top) * cold)
        after = before + tl.sum(mass_X, axis=0)
        last = tl.maximum(last, tl.max(tl.where(mass_X > 0, start + x, 0), axis=0))
        if (found == vocabulary) & (after > mass):
            reached_X = before + tl.cumsum(mass_X, axis=0)
            found = tl.min(tl.where(reached_X > mass, start + x, vocabulary), axis=0)
            found = tl.where(found == vocabulary, last, found)
        before = after
    tl.store(sampled + row, tl.where(found == vocabulary, last, found))


@triton.jit
def row_gradients(
    product: tl.tensor,
    bias: tl.tensor,
    targets: tl.tensor,
    normalizer: tl.tensor,
    grad_loss: tl.tensor,
    grad: tl.tensor,
    partial_bias: tl.tensor,
    rows: tl.tensor,
    vocabulary: tl.tensor,
    product_row: tl.tensor,
    BLOCK_R: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDE: tl.constexpr,
) -> None:
    """Write the gradients of some rows' logits and what they add to the bias's, for some ids."""
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    first = tl.program_id(0).to(tl.int64) * BLOCK_R
    share_X = tl.zeros((BLOCK,), WIDE)
    for row in range(first, tl.minimum(first + BLOCK_R, rows)):
        logit_X = _logits(product + row * product_row, bias, at, vocabulary, WIDE)
        # d loss / d logits = softmax - one-hot.
        grad_X = tl.exp(logit_X - tl.load(normalizer + row).to(WIDE))
        grad_X = tl.where(at == tl.load(targets + row), grad_X - 1.0, grad_X)
        grad_X = grad_X * tl.load(grad_loss + row).to(WIDE)
        tl.store(grad + row * vocabulary + at, grad_X, mask=at < vocabulary)
        share_X += grad_X
    partial = partial_bias + tl.program_id(0).to(tl.int64) * vocabulary + at
    tl.store(partial, share_X, mask=at < vocabulary)
