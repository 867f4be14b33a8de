"""GPU kernels of attention that keeps to documents: their ids are read, no [L, L] bias is.

A block of queries goes over the blocks of keys that its documents reach into, with an online
softmax (FlashAttention-2, Dao 2023); two backward kernels work the weights out again from the
log-sum-exp. Which probabilities are dropped is hashed from seed and index, in all three alike.
Softmax and sums are float32 (float64 for float64 inputs), powers are of 2. Importing this module
needs Triton.

Shape suffixes: T queries of a block, S keys of a block, H head width, L positions of a row.
"""

import triton
import triton.language as tl

from convbert.models.ops.triton_kernels import _product


@triton.jit
def _ids(documents: tl.tensor, at: tl.tensor, length: tl.tensor, PACKED: tl.constexpr) -> tl.tensor:
    """Return the document of each position: 0 at padding, -1 outside the row, 1 without any."""
    if PACKED:
        return tl.load(documents + at, mask=at < length, other=-1).to(tl.int32)
    return tl.where(at < length, 1, -1)


@triton.jit
def _seen(query_id_T: tl.tensor, key_id_S: tl.tensor) -> tl.tensor:
    """Return which keys which queries see, [T, S]: their document's, and padding all that is real.

    As in ``masking.document_bias``.
    """
    own_TS = (query_id_T[:, None] == key_id_S[None, :]) | (query_id_T == 0)[:, None]
    return own_TS & (key_id_S > 0)[None, :] & (query_id_T >= 0)[:, None]


@triton.jit
def _span(reached_L: tl.tensor, position_L: tl.tensor, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return where the blocks begin and end that hold the reached positions."""
    first = tl.min(tl.where(reached_L, position_L, 2**30), axis=0)
    last = tl.max(tl.where(reached_L, position_L + 1, 0), axis=0)
    return tl.minimum(first // BLOCK * BLOCK, last), last


@triton.jit
def _keys_reached(  # type: ignore[no-untyped-def]
    documents: tl.tensor,
    query_id_T: tl.tensor,
    length: tl.tensor,
    PACKED: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_L: tl.constexpr,
):
    """Return the range of keys that a block of queries may see."""
    position_L = tl.arange(0, BLOCK_L)
    id_L = _ids(documents, position_L, length, PACKED)
    low = tl.min(tl.where(query_id_T >= 0, query_id_T, 2**30), axis=0)
    high = tl.where(low == 0, 2**30, tl.max(query_id_T, axis=0))
    return _span((id_L > 0) & (id_L >= low) & (id_L <= high), position_L, BLOCK_S)


@triton.jit
def _queries_reached(  # type: ignore[no-untyped-def]
    documents: tl.tensor,
    key_id_S: tl.tensor,
    length: tl.tensor,
    PACKED: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_L: tl.constexpr,
):
    """Return the range of queries that may see a block of keys; padding alone is seen by none."""
    position_L = tl.arange(0, BLOCK_L)
    id_L = _ids(documents, position_L, length, PACKED)
    low = tl.min(tl.where(key_id_S > 0, key_id_S, 2**30), axis=0)
    high = tl.max(key_id_S, axis=0)
    reached_L = (id_L == 0) | ((id_L >= low) & (id_L <= high))
    return _span(reached_L & (high > 0) & (id_L >= 0), position_L, BLOCK_T)


@triton.jit
def _kept(
    start: tl.tensor,
    pair: tl.tensor,
    t: tl.tensor,
    s: tl.tensor,
    length: tl.tensor,
    THRESHOLD: tl.constexpr,
) -> tl.tensor:
    """Return which probabilities stay, [T, S]: the hash of ``dropout.py``, indices [B, N, L, L]."""
    index_TS = (pair * length + t)[:, None] * length + s[None, :]
    mixed_TS = start + index_TS.to(tl.uint32, bitcast=True)
    mixed_TS = (mixed_TS ^ (mixed_TS >> 16)) * 0x7FEB352D
    mixed_TS = (mixed_TS ^ (mixed_TS >> 15)) * 0x846CA68B
    mixed_TS = mixed_TS ^ (mixed_TS >> 16)
    return mixed_TS.to(tl.int32, bitcast=True) >= THRESHOLD


@triton.jit
def _start(seed: tl.tensor) -> tl.tensor:
    """Return where the hash begins to count."""
    counted = (tl.load(seed).to(tl.float32) * 16777216.0).to(tl.int32)
    return counted.to(tl.uint32, bitcast=True) * 0x9E3779B1


@triton.jit
def _load(
    x: tl.tensor, at: tl.tensor, stride: tl.tensor, h: tl.tensor, length: tl.tensor,
    WIDTH: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Load positions of one head, zeros outside."""
    inside = (at < length)[:, None] & (h < WIDTH)[None, :]
    return tl.load(x + at[:, None] * stride + h[None, :], mask=inside, other=0.0)


@triton.jit
def _store(
    x: tl.tensor, at: tl.tensor, stride: tl.tensor, h: tl.tensor, length: tl.tensor,
    block: tl.tensor, WIDTH: tl.constexpr,
) -> None:  # fmt: skip
    inside = (at < length)[:, None] & (h < WIDTH)[None, :]
    tl.store(x + at[:, None] * stride + h[None, :], block, mask=inside)


@triton.jit
def attention_forward(
    query: tl.tensor, key: tl.tensor, value: tl.tensor, documents: tl.tensor, seed: tl.tensor,
    out: tl.tensor, normalizer: tl.tensor, length: tl.tensor, heads: tl.tensor,
    input_row: tl.tensor, input_position: tl.tensor, input_head: tl.tensor,
    WIDTH: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_H: tl.constexpr,
    BLOCK_L: tl.constexpr, ROOT: tl.constexpr, LIFT: tl.constexpr, THRESHOLD: tl.constexpr,
    PACKED: tl.constexpr, WIDE: tl.constexpr, FACTOR: tl.constexpr,
) -> None:  # fmt: skip
    """Attend from one block of queries of one head; keep log2 of the sum of powers."""
    blocks = tl.cdiv(length, BLOCK_T)
    block, pair = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    row, head = (pair // heads).to(tl.int64), pair % heads
    t, h = block * BLOCK_T + tl.arange(0, BLOCK_T), tl.arange(0, BLOCK_H)
    source = row * input_row + head * input_head
    query += source
    key += source
    value += source
    documents += row * length
    start = _start(seed) if LIFT != 1.0 else tl.full((), 0, tl.uint32)
    query_id_T = _ids(documents, t, length, PACKED)
    query_TH = _load(query, t, input_position, h, length, WIDTH)
    top_T = tl.full((BLOCK_T,), float("-inf"), WIDE)
    total_T = tl.zeros((BLOCK_T,), WIDE)
    out_TH = tl.zeros((BLOCK_T, BLOCK_H), WIDE)
    first, last = _keys_reached(documents, query_id_T, length, PACKED, BLOCK_S, BLOCK_L)
    for begin in range(first, last, BLOCK_S):
        s = begin + tl.arange(0, BLOCK_S)
        key_SH = _load(key, s, input_position, h, length, WIDTH)
        score_TS = _product(query_TH, tl.trans(key_SH), FACTOR) * (ROOT * 1.4426950408889634)
        seen_TS = _seen(query_id_T, _ids(documents, s, length, PACKED))
        score_TS = tl.where(seen_TS, score_TS, float("-inf"))
        higher_T = tl.maximum(top_T, tl.max(score_TS, axis=1))
        # A query that has seen no key yet has nothing to scale, and minus infinity no difference.
        base_T = tl.where(higher_T == float("-inf"), 0.0, higher_T)
        mass_TS = tl.exp2(score_TS - base_T[:, None])
        shrink_T = tl.exp2(top_T - base_T)
        total_T = total_T * shrink_T + tl.sum(mass_TS, axis=1)
        if LIFT != 1.0:
            kept_TS = _kept(start, pair, t, s, length, THRESHOLD)
            mass_TS = tl.where(kept_TS, mass_TS, 0.0)
        value_SH = _load(value, s, input_position, h, length, WIDTH)
        out_TH = out_TH * shrink_T[:, None] + _product(mass_TS, value_SH, FACTOR)
        top_T = higher_T
    some_T = tl.where(total_T == 0.0, 1.0, total_T)
    out += (row * length * heads + head) * WIDTH
    out_TH = out_TH * (LIFT / some_T)[:, None]
    _store(out, t, heads * WIDTH, h, length, out_TH, WIDTH)
    log_T = tl.where(total_T == 0.0, 0.0, top_T + tl.log2(some_T))
    tl.store(normalizer + (row * heads + head) * length + t, log_T, mask=t < length)


@triton.jit
def _block_gradients(  # type: ignore[no-untyped-def]
    query_TH: tl.tensor, key_SH: tl.tensor, value_SH: tl.tensor, grad_TH: tl.tensor,
    query_id_T: tl.tensor, key_id_S: tl.tensor, log_T: tl.tensor, mean_T: tl.tensor,
    start: tl.tensor, pair: tl.tensor, t: tl.tensor, s: tl.tensor, length: tl.tensor,
    ROOT: tl.constexpr, LIFT: tl.constexpr, THRESHOLD: tl.constexpr, FACTOR: tl.constexpr,
):  # fmt: skip
    """Return a block's weights as the values met them and the gradients of its scores, [T, S]."""
    score_TS = _product(query_TH, tl.trans(key_SH), FACTOR) * (ROOT * 1.4426950408889634)
    weight_TS = tl.where(_seen(query_id_T, key_id_S), tl.exp2(score_TS - log_T[:, None]), 0.0)
    grad_weight_TS = _product(grad_TH, tl.trans(value_SH), FACTOR)
    passed_TS = weight_TS
    if LIFT != 1.0:
        kept_TS = _kept(start, pair, t, s, length, THRESHOLD)
        passed_TS = tl.where(kept_TS, weight_TS * LIFT, 0.0)
        grad_weight_TS = tl.where(kept_TS, grad_weight_TS * LIFT, 0.0)
    return passed_TS, weight_TS * (grad_weight_TS - mean_T[:, None])


@triton.jit
def attention_query_backward(
    grad: tl.tensor, query: tl.tensor, key: tl.tensor, value: tl.tensor, documents: tl.tensor,
    seed: tl.tensor, out: tl.tensor, normalizer: tl.tensor, mean: tl.tensor,
    grad_query: tl.tensor, length: tl.tensor, heads: tl.tensor,
    input_row: tl.tensor, input_position: tl.tensor, input_head: tl.tensor,
    WIDTH: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_H: tl.constexpr,
    BLOCK_L: tl.constexpr, ROOT: tl.constexpr, LIFT: tl.constexpr, THRESHOLD: tl.constexpr,
    PACKED: tl.constexpr, WIDE: tl.constexpr, FACTOR: tl.constexpr,
) -> None:  # fmt: skip
    """Write the gradient of one block of queries and the mean that the softmax subtracts there."""
    blocks = tl.cdiv(length, BLOCK_T)
    block, pair = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    row, head = (pair // heads).to(tl.int64), pair % heads
    t, h = block * BLOCK_T + tl.arange(0, BLOCK_T), tl.arange(0, BLOCK_H)
    source = row * input_row + head * input_head
    query += source
    key += source
    value += source
    documents += row * length
    own = (row * length * heads + head) * WIDTH
    line = (row * heads + head) * length
    start = _start(seed) if LIFT != 1.0 else tl.full((), 0, tl.uint32)
    query_id_T = _ids(documents, t, length, PACKED)
    query_TH = _load(query, t, input_position, h, length, WIDTH)
    grad_TH = _load(grad + own, t, heads * WIDTH, h, length, WIDTH)
    out_TH = _load(out + own, t, heads * WIDTH, h, length, WIDTH)
    # The weights' gradients times the weights, summed: what left the block times its gradient.
    mean_T = tl.sum(grad_TH.to(WIDE) * out_TH.to(WIDE), axis=1)
    tl.store(mean + line + t, mean_T, mask=t < length)
    log_T = tl.load(normalizer + line + t, mask=t < length, other=0.0)
    grad_query_TH = tl.zeros((BLOCK_T, BLOCK_H), WIDE)
    first, last = _keys_reached(documents, query_id_T, length, PACKED, BLOCK_S, BLOCK_L)
    for begin in range(first, last, BLOCK_S):
        s = begin + tl.arange(0, BLOCK_S)
        key_SH = _load(key, s, input_position, h, length, WIDTH)
        value_SH = _load(value, s, input_position, h, length, WIDTH)
        _, grad_score_TS = _block_gradients(
            query_TH, key_SH, value_SH, grad_TH, query_id_T,
            _ids(documents, s, length, PACKED), log_T, mean_T, start, pair, t, s, length,
            ROOT, LIFT, THRESHOLD, FACTOR,
        )  # fmt: skip
        grad_query_TH += _product(grad_score_TS, key_SH, FACTOR)
    _store(grad_query + own, t, heads * WIDTH, h, length, grad_query_TH * ROOT, WIDTH)


@triton.jit
def attention_key_backward(
    grad: tl.tensor, query: tl.tensor, key: tl.tensor, value: tl.tensor, documents: tl.tensor,
    seed: tl.tensor, normalizer: tl.tensor, mean: tl.tensor,
    grad_key: tl.tensor, grad_value: tl.tensor, length: tl.tensor, heads: tl.tensor,
    input_row: tl.tensor, input_position: tl.tensor, input_head: tl.tensor,
    WIDTH: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_H: tl.constexpr,
    BLOCK_L: tl.constexpr, ROOT: tl.constexpr, LIFT: tl.constexpr, THRESHOLD: tl.constexpr,
    PACKED: tl.constexpr, WIDE: tl.constexpr, FACTOR: tl.constexpr,
) -> None:  # fmt: skip
    """Write the gradients of one block of keys and values; runs after the queries' kernel."""
    blocks = tl.cdiv(length, BLOCK_S)
    block, pair = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    row, head = (pair // heads).to(tl.int64), pair % heads
    s, h = block * BLOCK_S + tl.arange(0, BLOCK_S), tl.arange(0, BLOCK_H)
    source = row * input_row + head * input_head
    query += source
    key += source
    value += source
    documents += row * length
    own = (row * length * heads + head) * WIDTH
    line = (row * heads + head) * length
    start = _start(seed) if LIFT != 1.0 else tl.full((), 0, tl.uint32)
    key_id_S = _ids(documents, s, length, PACKED)
    key_SH = _load(key, s, input_position, h, length, WIDTH)
    value_SH = _load(value, s, input_position, h, length, WIDTH)
    grad_key_SH = tl.zeros((BLOCK_S, BLOCK_H), WIDE)
    grad_value_SH = tl.zeros((BLOCK_S, BLOCK_H), WIDE)
    first, last = _queries_reached(documents, key_id_S, length, PACKED, BLOCK_T, BLOCK_L)
    for begin in range(first, last, BLOCK_T):
        t = begin + tl.arange(0, BLOCK_T)
        query_TH = _load(query, t, input_position, h, length, WIDTH)
        grad_TH = _load(grad + own, t, heads * WIDTH, h, length, WIDTH)
        log_T = tl.load(normalizer + line + t, mask=t < length, other=0.0)
        mean_T = tl.load(mean + line + t, mask=t < length, other=0.0)
        passed_TS, grad_score_TS = _block_gradients(
            query_TH, key_SH, value_SH, grad_TH, _ids(documents, t, length, PACKED),
            key_id_S, log_T, mean_T, start, pair, t, s, length, ROOT, LIFT, THRESHOLD, FACTOR,
        )  # fmt: skip
        grad_value_SH += _product(tl.trans(passed_TS), grad_TH, FACTOR)
        grad_key_SH += _product(tl.trans(grad_score_TS), query_TH, FACTOR)
    _store(grad_key + own, s, heads * WIDTH, h, length, grad_key_SH * ROOT, WIDTH)
    _store(grad_value + own, s, heads * WIDTH, h, length, grad_value_SH, WIDTH)
