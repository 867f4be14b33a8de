"""GPU kernels of the local operators, forward and hand-written backward.

Each program owns a block of T positions and reads the K shifted blocks around it, which overlap
and therefore come from the cache: every operand crosses the memory bus about once. Softmax and
sums are float32 (float64 for float64 inputs). Importing this module needs Triton.

Shape suffixes: T positions of a block, K taps, H head width, D channels of a block.
"""

import torch
import triton
import triton.language as tl


def wide_type(dtype: torch.dtype) -> tl.dtype:
    """Return Triton's name of the type in which inputs of this dtype are summed."""
    return tl.float64 if dtype == torch.float64 else tl.float32


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
def span_forward(
    value: tl.tensor,
    logits: tl.tensor,
    documents: tl.tensor,
    out: tl.tensor,
    normaliser: tl.tensor,
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
    BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PACKED: tl.constexpr,
    WIDE: tl.constexpr,
) -> None:
    """Mix one head of one block of positions; keep log-sum-exp of its logits for the backward."""
    blocks = tl.cdiv(length, BLOCK_T)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    head = tl.program_id(1)
    t = (tl.program_id(0) % blocks) * BLOCK_T + tl.arange(0, BLOCK_T)
    h = tl.arange(0, BLOCK_H)
    k = tl.arange(0, BLOCK_K)
    value += row * value_row + head * value_head
    logits += row * logits_row + head * logits_head
    documents += row * length
    own_id_T = _own_documents(documents, t, length) if PACKED else t

    known_TK = (t < length)[:, None] & (k < TAPS)[None, :]
    logit_TK = tl.load(logits + t[:, None] * logits_position + k[None, :], mask=known_TK, other=0.0)
    logit_TK = tl.where((k < TAPS)[None, :], logit_TK.to(WIDE), float("-inf"))
    top_T = tl.max(logit_TK, axis=1)
    normaliser_T = top_T + tl.log(tl.sum(tl.exp(logit_TK - top_T[:, None]), axis=1))
    tl.store(normaliser + (row * length + t) * heads + head, normaliser_T, mask=t < length)

    out_TH = tl.zeros((BLOCK_T, BLOCK_H), dtype=WIDE)
    for tap in tl.static_range(TAPS):
        seen = t + tap - TAPS // 2
        inside_T = _inside(documents, own_id_T, seen, length, PACKED)
        logit_T = tl.load(logits + t * logits_position + tap, mask=t < length, other=0.0).to(WIDE)
        weight_T = tl.where(inside_T, tl.exp(logit_T - normaliser_T), 0.0)
        load_TH = inside_T[:, None] & (h < WIDTH)[None, :]
        value_TH = tl.load(
            value + seen[:, None] * value_position + h[None, :], mask=load_TH, other=0.0
        )
        out_TH += weight_T[:, None] * value_TH.to(WIDE)
    position = ((row * length + t) * heads + head) * WIDTH
    store_TH = (t < length)[:, None] & (h < WIDTH)[None, :]
    tl.store(out + position[:, None] + h[None, :], out_TH, mask=store_TH)


@triton.jit
def span_backward(
    grad: tl.tensor,
    value: tl.tensor,
    logits: tl.tensor,
    normaliser: tl.tensor,
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
    BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PACKED: tl.constexpr,
    WIDE: tl.constexpr,
) -> None:
    """Write both gradients of one head of one block of positions, without atomics."""
    blocks = tl.cdiv(length, BLOCK_T)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    head = tl.program_id(1)
    t = (tl.program_id(0) % blocks) * BLOCK_T + tl.arange(0, BLOCK_T)
    h = tl.arange(0, BLOCK_H)
    k = tl.arange(0, BLOCK_K)
    grad += row * grad_row + head * grad_head
    value += row * value_row + head * value_head
    logits += row * logits_row + head * logits_head
    documents += row * length
    own_id_T = _own_documents(documents, t, length) if PACKED else t
    normaliser += row * length * heads + head

    real_TH = (t < length)[:, None] & (h < WIDTH)[None, :]
    grad_TH = tl.load(grad + t[:, None] * grad_position + h[None, :], mask=real_TH, other=0.0)
    grad_TH = grad_TH.to(WIDE)
    grad_value_TH = tl.zeros((BLOCK_T, BLOCK_H), dtype=WIDE)
    grad_weight_TK = tl.zeros((BLOCK_T, BLOCK_K), dtype=WIDE)
    for tap in tl.static_range(TAPS):
        seen = t + tap - TAPS // 2
        inside_T = _inside(documents, own_id_T, seen, length, PACKED)
        load_TH = inside_T[:, None] & (h < WIDTH)[None, :]
        value_TH = tl.load(
            value + seen[:, None] * value_position + h[None, :], mask=load_TH, other=0.0
        )
        grad_tap_T = tl.sum(grad_TH * value_TH.to(WIDE), axis=1)
        grad_weight_TK = tl.where(k[None, :] == tap, grad_tap_T[:, None], grad_weight_TK)

        # The position that reads this one through this tap.
        reader = t - tap + TAPS // 2
        inside_T = _inside(documents, own_id_T, reader, length, PACKED)
        logit_T = tl.load(logits + reader * logits_position + tap, mask=inside_T, other=0.0)
        normaliser_T = tl.load(normaliser + reader * heads, mask=inside_T, other=0.0)
        weight_T = tl.where(inside_T, tl.exp(logit_T.to(WIDE) - normaliser_T), 0.0)
        load_TH = inside_T[:, None] & (h < WIDTH)[None, :]
        reader_TH = tl.load(
            grad + reader[:, None] * grad_position + h[None, :], mask=load_TH, other=0.0
        )
        grad_value_TH += weight_T[:, None] * reader_TH.to(WIDE)

    real_TK = (t < length)[:, None] & (k < TAPS)[None, :]
    logit_TK = tl.load(logits + t[:, None] * logits_position + k[None, :], mask=real_TK, other=0.0)
    normaliser_T = tl.load(normaliser + t * heads, mask=t < length, other=0.0)
    weight_TK = tl.where(real_TK, tl.exp(logit_TK.to(WIDE) - normaliser_T[:, None]), 0.0)
    mean_T = tl.sum(weight_TK * grad_weight_TK, axis=1)
    grad_logit_TK = weight_TK * (grad_weight_TK - mean_T[:, None])
    position = (row * length + t) * heads + head
    tl.store(grad_logits + position[:, None] * TAPS + k[None, :], grad_logit_TK, mask=real_TK)
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
    """Filter one block of positions and channels."""
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
        weight_D = tl.load(weight + d * TAPS + tap, mask=d < channels, other=0.0).to(WIDE)
        out_TD += weight_D[None, :] * x_TD.to(WIDE)
    store_TD = (t < length)[:, None] & (d < channels)[None, :]
    position = (row * length + t) * channels
    tl.store(out + position[:, None] + d[None, :], out_TD, mask=store_TD)


@triton.jit
def depthwise_backward(
    grad: tl.tensor,
    x: tl.tensor,
    weight: tl.tensor,
    documents: tl.tensor,
    grad_x: tl.tensor,
    partial_weight: tl.tensor,
    length: tl.tensor,
    channels: tl.tensor,
    grad_row: tl.tensor,
    grad_position: tl.tensor,
    x_row: tl.tensor,
    x_position: tl.tensor,
    TAPS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PACKED: tl.constexpr,
    WIDE: tl.constexpr,
) -> None:
    """Write the input's gradient and this block's share of the filter's, [K, D] per block.

    Both are sums over the positions that read a position, so one set of shifted loads serves both.
    """
    blocks = tl.cdiv(length, BLOCK_T)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    t = (tl.program_id(0) % blocks) * BLOCK_T + tl.arange(0, BLOCK_T)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    grad += row * grad_row
    documents += row * length
    own_id_T = _own_documents(documents, t, length) if PACKED else t
    partial_weight += tl.program_id(0).to(tl.int64) * TAPS * channels

    real_TD = (t < length)[:, None] & (d < channels)[None, :]
    x_TD = tl.load(x + row * x_row + t[:, None] * x_position + d[None, :], mask=real_TD, other=0.0)
    x_TD = x_TD.to(WIDE)
    grad_x_TD = tl.zeros((BLOCK_T, BLOCK_D), dtype=WIDE)
    for tap in tl.static_range(TAPS):
        reader = t - tap + TAPS // 2
        inside_T = _inside(documents, own_id_T, reader, length, PACKED)
        load_TD = inside_T[:, None] & (d < channels)[None, :]
        grad_TD = tl.load(
            grad + reader[:, None] * grad_position + d[None, :], mask=load_TD, other=0.0
        ).to(WIDE)
        weight_D = tl.load(weight + d * TAPS + tap, mask=d < channels, other=0.0).to(WIDE)
        grad_x_TD += weight_D[None, :] * grad_TD
        share_D = tl.sum(x_TD * grad_TD, axis=0)
        tl.store(partial_weight + tap * channels + d, share_D, mask=d < channels)
    position = (row * length + t) * channels
    tl.store(grad_x + position[:, None] + d[None, :], grad_x_TD, mask=real_TD)
