"""GPU kernels of the local operators, forward and hand-written backward.

Each program owns a block of T positions. The span convolution multiplies the S positions that the
block can see with a band matrix of weights, [T, S], on the tensor cores; the depthwise one reads K
shifted blocks, which overlap and therefore come from the cache. Every operand crosses the memory
bus about once. Softmax and sums are float32 (float64 for float64 inputs). Importing this module
needs Triton.

Shape suffixes: T positions of a block, S positions it can see, K taps, H head width, D channels of
a block.
"""

import os

import torch
import triton
import triton.language as tl


def wide_type(dtype: torch.dtype) -> tl.dtype:
    """Return Triton's name of the type in which inputs of this dtype are summed."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def factor_type(dtype: torch.dtype) -> tl.dtype:
    """Return Triton's name of the type in which factors of this dtype are multiplied.

    It is their own, except that Triton's interpreter multiplies the bits of bfloat16 as integers.
    """
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if dtype == torch.bfloat16 and not interpreted:
        return tl.bfloat16
    return {torch.float16: tl.float16, torch.float64: tl.float64}.get(dtype, tl.float32)


@triton.jit
def _own_documents(documents: tl.tensor, t: tl.tensor, length: tl.tensor) -> tl.tensor:
    """Load the block's document ids; padding gets an id that no position has."""
    id_T = tl.load(documents + t, mask=t < length, other=0)
    return tl.where(id_T == 0, -1, id_T)


@triton.jit
def _inside(
    documents: tl.tensor, own_id_T: tl.tensor, t: tl.tensor, length: tl.tensor, PACKED: tl.constexpr
) -> tl.tensor:
    """Tell which positions t lie in the row and in the document of the block's own positions."""
    inside_T = (t >= 0) & (t < length)
    if PACKED:
        inside_T = inside_T & (tl.load(documents + t, mask=inside_T, other=0) == own_id_T)
    return inside_T


@triton.jit
def _windows(block: tl.tensor, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, TAPS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return a block's positions [T], those it can see [S] and by which tap each sees each, [T, S].

    Taps outside 0 .. K - 1 are none; seen positions may lie outside the row.
    """
    t = block * BLOCK_T + tl.arange(0, BLOCK_T)
    s = block * BLOCK_T - TAPS // 2 + tl.arange(0, BLOCK_S)
    return t, s, s[None, :] - t[:, None] + TAPS // 2


@triton.jit
def _visible(  # type: ignore[no-untyped-def]
    documents: tl.tensor, t: tl.tensor, s: tl.tensor, length: tl.tensor, PACKED: tl.constexpr
):
    """Tell, [T, S], which seen positions lie in the row and in the document of the one that sees.

    Padding, document 0, sees nothing and is seen by nothing.
    """
    visible_TS = ((s >= 0) & (s < length))[None, :] & (t < length)[:, None]
    if PACKED:
        own_id_T = tl.load(documents + t, mask=t < length, other=0)
        seen_id_S = tl.load(documents + s, mask=(s >= 0) & (s < length), other=0)
        visible_TS = visible_TS & (own_id_T[:, None] == seen_id_S[None, :])
        visible_TS = visible_TS & (own_id_T != 0)[:, None]
    return visible_TS


@triton.jit
def _product(left: tl.tensor, right: tl.tensor, FACTOR: tl.constexpr) -> tl.tensor:
    """Multiply on the tensor cores, the left factor rounded to the type of the right."""
    return tl.dot(left.to(right.dtype).to(FACTOR), right.to(FACTOR), input_precision="ieee")


@triton.jit
def span_forward(
    value: tl.tensor,
    logits: tl.tensor,
    documents: tl.tensor,
    out: tl.tensor,
    normalizer: tl.tensor,
    length: tl.tensor,
    heads: tl.tensor,
    value_row: tl.tensor,
    value_position: tl.tensor,
    value_head: tl.tensor,
    logits_row: tl.tensor,
    logits_position: tl.tensor,
    logits_head: tl.tensor,
    WIDTH: tl.constexpr,
    TAPS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_H: tl.constexpr,
    PACKED: tl.constexpr,
    WIDE: tl.constexpr,
    FACTOR: tl.constexpr,
) -> None:
    """Mix one head of one block of positions; keep log-sum-exp of its logits for the backward."""
    blocks = tl.cdiv(length, BLOCK_T)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    head = tl.program_id(1)
    t, s, tap_TS = _windows(tl.program_id(0) % blocks, BLOCK_T, BLOCK_S, TAPS)
    h = tl.arange(0, BLOCK_H)
    value += row * value_row + head * value_head
    logits += row * logits_row + head * logits_head
    visible_TS = _visible(documents + row * length, t, s, length, PACKED)

    tap_exists_TS = (tap_TS >= 0) & (tap_TS < TAPS)
    load_TS = tap_exists_TS & (t < length)[:, None]
    logit_TS = tl.load(logits + t[:, None] * logits_position + tap_TS, mask=load_TS, other=0.0)
    logit_TS = tl.where(tap_exists_TS, logit_TS.to(WIDE), float("-inf"))
    top_T = tl.max(logit_TS, axis=1)
    mass_TS = tl.exp(logit_TS - top_T[:, None])
    total_T = tl.sum(mass_TS, axis=1)
    position = (row * length + t) * heads + head
    tl.store(normalizer + position, top_T + tl.log(total_T), mask=t < length)

    weight_TS = tl.where(visible_TS, mass_TS / total_T[:, None], 0.0)
    load_SH = ((s >= 0) & (s < length))[:, None] & (h < WIDTH)[None, :]
    value_SH = tl.load(value + s[:, None] * value_position + h[None, :], mask=load_SH, other=0.0)
    out_TH = _product(weight_TS, value_SH, FACTOR)
    store_TH = (t < length)[:, None] & (h < WIDTH)[None, :]
    tl.store(out + position[:, None] * WIDTH + h[None, :], out_TH, mask=store_TH)


@triton.jit
def span_backward(
    grad: tl.tensor,
    value: tl.tensor,
    logits: tl.tensor,
    normalizer: tl.tensor,
    documents: tl.tensor,
    grad_value: tl.tensor,
    grad_logits: tl.tensor,
    length: tl.tensor,
    heads: tl.tensor,
    grad_row: tl.tensor,
    grad_position: tl.tensor,
    grad_head: tl.tensor,
    value_row: tl.tensor,
    value_position: tl.tensor,
    value_head: tl.tensor,
    logits_row: tl.tensor,
    logits_position: tl.tensor,
    logits_head: tl.tensor,
    WIDTH: tl.constexpr,
    TAPS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_H: tl.constexpr,
    PACKED: tl.constexpr,
    WIDE: tl.constexpr,
    FACTOR: tl.constexpr,
) -> None:
    """Write both gradients of one head of one block of positions, without atomics."""
    blocks = tl.cdiv(length, BLOCK_T)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    head = tl.program_id(1)
    t, s, tap_TS = _windows(tl.program_id(0) % blocks, BLOCK_T, BLOCK_S, TAPS)
    h = tl.arange(0, BLOCK_H)
    grad += row * grad_row + head * grad_head
    value += row * value_row + head * value_head
    logits += row * logits_row + head * logits_head
    normalizer += row * length * heads + head
    visible_TS = _visible(documents + row * length, t, s, length, PACKED)
    in_row_S = (s >= 0) & (s < length)
    real_TH = (t < length)[:, None] & (h < WIDTH)[None, :]
    real_SH = in_row_S[:, None] & (h < WIDTH)[None, :]
    position = (row * length + t) * heads + head

    # What the block's positions read: the gradient of a tap's weight is that of the output times
    # the value it saw, and softmax's formula turns it into the logit's.
    grad_TH = tl.load(grad + t[:, None] * grad_position + h[None, :], mask=real_TH, other=0.0)
    value_SH = tl.load(value + s[:, None] * value_position + h[None, :], mask=real_SH, other=0.0)
    grad_weight_TS = _product(grad_TH, tl.trans(value_SH), FACTOR)
    grad_weight_TS = tl.where(visible_TS, grad_weight_TS, 0.0)
    tap_TS_real = (tap_TS >= 0) & (tap_TS < TAPS) & (t < length)[:, None]
    logit_TS = tl.load(logits + t[:, None] * logits_position + tap_TS, mask=tap_TS_real, other=0.0)
    normalizer_T = tl.load(normalizer + t * heads, mask=t < length, other=0.0)
    weight_TS = tl.where(tap_TS_real, tl.exp(logit_TS.to(WIDE) - normalizer_T[:, None]), 0.0)
    mean_T = tl.sum(weight_TS * grad_weight_TS, axis=1)
    grad_logit_TS = weight_TS * (grad_weight_TS - mean_T[:, None])
    tl.store(grad_logits + position[:, None] * TAPS + tap_TS, grad_logit_TS, mask=tap_TS_real)

    # Who reads them: position s does through the mirrored tap, with its own softmax.
    mirrored_TS = TAPS - 1 - tap_TS
    reads_TS = (mirrored_TS >= 0) & (mirrored_TS < TAPS) & visible_TS
    logit_TS = tl.load(
        logits + s[None, :] * logits_position + mirrored_TS, mask=reads_TS, other=0.0
    )
    normalizer_S = tl.load(normalizer + s * heads, mask=in_row_S, other=0.0)
    weight_TS = tl.where(reads_TS, tl.exp(logit_TS.to(WIDE) - normalizer_S[None, :]), 0.0)
    grad_SH = tl.load(grad + s[:, None] * grad_position + h[None, :], mask=real_SH, other=0.0)
    grad_value_TH = _product(weight_TS, grad_SH, FACTOR)
    tl.store(grad_value + position[:, None] * WIDTH + h[None, :], grad_value_TH, mask=real_TH)


@triton.jit
def depthwise_forward(
    x: tl.tensor,
    weight: tl.tensor,
    documents: tl.tensor,
    out: tl.tensor,
    length: tl.tensor,
    channels: tl.tensor,
    x_row: tl.tensor,
    x_position: tl.tensor,
    TAPS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PACKED: tl.constexpr,
    WIDE: tl.constexpr,
) -> None:
    """Filter one block of positions and channels; the filter is [K, D]."""
    blocks = tl.cdiv(length, BLOCK_T)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    t = (tl.program_id(0) % blocks) * BLOCK_T + tl.arange(0, BLOCK_T)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    x += row * x_row
    documents += row * length
    own_id_T = _own_documents(documents, t, length) if PACKED else t
    out_TD = tl.zeros((BLOCK_T, BLOCK_D), dtype=WIDE)
    for tap in tl.static_range(TAPS):
        seen = t + tap - TAPS // 2
        inside_T = _inside(documents, own_id_T, seen, length, PACKED)
        load_TD = inside_T[:, None] & (d < channels)[None, :]
        x_TD = tl.load(x + seen[:, None] * x_position + d[None, :], mask=load_TD, other=0.0)
        weight_D = tl.load(weight + tap * channels + d, mask=d < channels, other=0.0).to(WIDE)
        out_TD += weight_D[None, :] * x_TD.to(WIDE)
    store_TD = (t < length)[:, None] & (d < channels)[None, :]
    position = (row * length + t) * channels
    tl.store(out + position[:, None] + d[None, :], out_TD, mask=store_TD)


@triton.jit
def _tap_share(
    grad: tl.tensor,
    documents: tl.tensor,
    x_TD: tl.tensor,
    own_id_T: tl.tensor,
    t: tl.tensor,
    d: tl.tensor,
    length: tl.tensor,
    channels: tl.tensor,
    grad_position: tl.tensor,
    tap: tl.tensor,
    TAPS: tl.constexpr,
    PACKED: tl.constexpr,
    WIDE: tl.constexpr,
) -> tl.tensor:
    """Return what a block of inputs adds to a tap's gradient, [D]; nothing beyond the last tap."""
    reader = tl.where(tap < TAPS, t - tap + TAPS // 2, -1)
    inside_T = _inside(documents, own_id_T, reader, length, PACKED)
    load_TD = inside_T[:, None] & (d < channels)[None, :]
    at_TD = reader[:, None] * grad_position + d[None, :]
    return tl.sum(x_TD * tl.load(grad + at_TD, mask=load_TD, other=0.0).to(WIDE), axis=0)


@triton.jit
def depthwise_weight_backward(
    grad: tl.tensor,
    x: tl.tensor,
    documents: tl.tensor,
    partial_weight: tl.tensor,
    length: tl.tensor,
    channels: tl.tensor,
    grad_row: tl.tensor,
    grad_position: tl.tensor,
    x_row: tl.tensor,
    x_position: tl.tensor,
    TAPS: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PACKED: tl.constexpr,
    WIDE: tl.constexpr,
) -> None:
    """Write a chunk of positions' share of the filter's gradient for three taps, [K, D] per chunk.

    One warp holds all positions of a block, so sums over positions stay inside its threads.
    """
    chunks = tl.cdiv(length, CHUNK)
    row = (tl.program_id(0) // chunks).to(tl.int64)
    start = (tl.program_id(0) % chunks) * CHUNK
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    first = tl.program_id(2) * 3
    grad += row * grad_row
    x += row * x_row
    documents += row * length
    share_0_D = tl.zeros((BLOCK_D,), dtype=WIDE)
    share_1_D = tl.zeros((BLOCK_D,), dtype=WIDE)
    share_2_D = tl.zeros((BLOCK_D,), dtype=WIDE)
    for block in range(CHUNK // BLOCK_T):
        t = start + block * BLOCK_T + tl.arange(0, BLOCK_T)
        own_id_T = _own_documents(documents, t, length) if PACKED else t
        real_TD = (t < length)[:, None] & (d < channels)[None, :]
        x_TD = tl.load(x + t[:, None] * x_position + d[None, :], mask=real_TD, other=0.0).to(WIDE)
        share_0_D += _tap_share(
            grad, documents, x_TD, own_id_T, t, d, length, channels, grad_position, first,
            TAPS, PACKED, WIDE,
        )  # fmt: skip
        share_1_D += _tap_share(
            grad, documents, x_TD, own_id_T, t, d, length, channels, grad_position, first + 1,
            TAPS, PACKED, WIDE,
        )  # fmt: skip
        share_2_D += _tap_share(
            grad, documents, x_TD, own_id_T, t, d, length, channels, grad_position, first + 2,
            TAPS, PACKED, WIDE,
        )  # fmt: skip
    partial_weight += (tl.program_id(0).to(tl.int64) * TAPS + first) * channels + d
    tl.store(partial_weight, share_0_D, mask=d < channels)
    second = tl.where(first + 1 < TAPS, channels, 0)
    tl.store(partial_weight + channels, share_1_D, mask=d < second)
    third = tl.where(first + 2 < TAPS, channels, 0)
    tl.store(partial_weight + 2 * channels, share_2_D, mask=d < third)
