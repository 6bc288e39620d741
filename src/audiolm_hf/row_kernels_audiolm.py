# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Steps of a Llama-type decoder for one row on a CPU, with its head and sampling, as functions that Numba compiles.

In: weights, keys, values and the last id, as arrays; out: hidden states, scores or chosen ids. Without these
functions, a step of a small decoder calls torch about 60 times, and the overhead of the calls exceeds their
computation.

numpy has no bfloat16, so arrays hold its bits as integers. Loops are used instead of numpy's functions, because these
take longer to compile.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

try:
    from numba import config, njit, types
    from numba.extending import overload

    IS_COMPILED = not config.DISABLE_JIT  # type: ignore[attr-defined]
except Exception:  # missing or broken, which raises many kinds of errors: torch then computes the steps
    IS_COMPILED = False

# Sums may be reordered, but NaN and infinity must be preserved.
_OPTIONS: dict[str, Any] = {"fastmath": {"reassoc", "contract", "nsz", "arcp"}, "nogil": True}
_SMALLEST, _LARGEST = np.float32(-87), np.float32(88)  # the range in which exp is a normal float32
_LOG2_E, _LN2_HIGH, _LN2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
# Coefficients of (exp(r) - 1 - r) / r**2 for |r| <= ln(2) / 2, from Cephes, highest power first.
_EXP = tuple(np.float32(each) for each in (1.98756915e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2))
_EXP += (np.float32(1.6666665459e-1), np.float32(0.5))
_ONE, _HALF = np.float32(1), np.float32(0.5)


def _compiled(function: Callable[..., Any]) -> Any:
    if not IS_COMPILED:
        return function
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no cache folder is writable, so it is compiled in every process
        return njit(**_OPTIONS)(function)


# Placeholders: Numba compiles their overloads below, which depend on the dtype. Without it, they are not called.


def _as_float(value: Any) -> Any:
    """Return a float32 as it is, or a bfloat16, given as its bits (uint16), as float32."""


def _like(value: Any, stored: Any) -> Any:
    """Convert a float32 to the dtype of `stored`: unchanged, or to the bits of the nearest bfloat16 (uint16)."""


def _add_products(weights: Any, inputs: Any, outputs: Any) -> Any:
    """Add the dot product of `inputs (inputs,)` with each row of `weights` to `outputs (outputs,)`.

    Weights are float32, `(outputs, inputs)`, or pairs of bfloat16 as uint32, `(outputs, inputs / 2)`. Rows are read
    one after the other, because processors prefetch consecutive memory.
    """


if IS_COMPILED:

    @overload(_as_float, inline="always", strict=False)
    def _as_float_of(value: Any) -> Callable[..., Any]:
        if value == types.uint16:
            return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
        return lambda value: value

    @overload(_like, inline="always", strict=False)
    def _like_of(value: Any, stored: Any) -> Callable[..., Any]:
        if stored == types.uint16:
            return lambda value, stored: _rounded(np.float32(value).view(np.uint32))
        return lambda value, stored: value

    @overload(_add_products, inline="always", strict=False)
    def _add_products_of(weights: Any, inputs: Any, outputs: Any) -> Callable[..., Any]:
        if weights.dtype == types.uint32:
            return lambda weights, inputs, outputs: _add_pairs(weights, inputs, outputs)
        return lambda weights, inputs, outputs: _add_floats(weights, inputs, outputs)


@_compiled
def _add_floats(weights: np.ndarray, inputs: np.ndarray, outputs: np.ndarray) -> None:
    for output in range(len(outputs)):
        row, total = weights[output], np.float32(0)
        for place in range(len(row)):
            total += row[place] * inputs[place]
        outputs[output] += total


@_compiled
def _add_pairs(weights: np.ndarray, inputs: np.ndarray, outputs: np.ndarray) -> None:
    even, odd = inputs[0::2].copy(), inputs[1::2].copy()  # of the lower and upper halves of each pair
    for output in range(len(outputs)):
        row, lower, upper = weights[output], np.float32(0), np.float32(0)
        for place in range(len(row)):
            pair = row[place]
            lower += np.uint32(pair << np.uint32(16)).view(np.float32) * even[place]
            upper += np.uint32(pair & np.uint32(0xFFFF0000)).view(np.float32) * odd[place]
        outputs[output] += lower + upper


@_compiled
def _rounded(bits: np.uint32) -> np.uint16:
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@_compiled
def _exp(value: np.float32) -> np.float32:
    """Return exp(value), with `value` clamped to the range of normal floats; loops of it can be vectorized."""
    value = min(max(value, _SMALLEST), _LARGEST)
    power = math.floor(value * _LOG2_E + _HALF)
    rest = value - power * _LN2_HIGH - power * _LN2_LOW
    series = _EXP[0]
    for factor in _EXP[1:]:
        series = series * rest + factor
    scale = np.int32((np.int32(power) + np.int32(127)) << np.int32(23)).view(np.float32)
    return (series * rest * rest + rest + _ONE) * scale


@_compiled
def _add_rows(rows: np.ndarray, inputs: np.ndarray, outputs: np.ndarray) -> None:
    """Add the sum of the rows, each multiplied by its input, to `outputs`.

    Rows and columns beyond the lengths of `inputs` and `outputs` are ignored. These are rows of keys or values, not of
    weights: eight are added at once, so that outputs are read and written less often.
    """
    count, size = len(inputs), len(outputs)
    whole = count - count % 8
    for row in range(0, whole, 8):
        a, b, c, d = inputs[row], inputs[row + 1], inputs[row + 2], inputs[row + 3]
        e, f, g, h = inputs[row + 4], inputs[row + 5], inputs[row + 6], inputs[row + 7]
        row_a, row_b = rows[row][:size], rows[row + 1][:size]
        row_c, row_d = rows[row + 2][:size], rows[row + 3][:size]
        row_e, row_f = rows[row + 4][:size], rows[row + 5][:size]
        row_g, row_h = rows[row + 6][:size], rows[row + 7][:size]
        for column in range(size):
            first = a * _as_float(row_a[column]) + b * _as_float(row_b[column])
            second = c * _as_float(row_c[column]) + d * _as_float(row_d[column])
            third = e * _as_float(row_e[column]) + f * _as_float(row_f[column])
            fourth = g * _as_float(row_g[column]) + h * _as_float(row_h[column])
            outputs[column] += (first + second) + (third + fourth)
    for row in range(whole, count):
        factor, last = inputs[row], rows[row][:size]
        for column in range(size):
            outputs[column] += factor * _as_float(last[column])


@_compiled
def _normalize(hidden: np.ndarray, weights: np.ndarray, epsilon: np.float32, outputs: np.ndarray) -> None:
    squares = np.float32(0)
    for value in hidden:
        squares += value * value
    scale = np.float32(1 / math.sqrt(squares / len(hidden) + epsilon))
    for place in range(len(hidden)):
        outputs[place] = hidden[place] * scale * weights[place]


@_compiled
def _added(hidden: np.ndarray, biases: np.ndarray) -> np.ndarray:
    """Add biases to the hidden states in place, and return them."""
    for place in range(len(hidden)):
        hidden[place] += biases[place]
    return hidden


@_compiled
def _rotate(head: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> None:
    half = len(cos)
    for place in range(half):
        first, second = head[place], head[half + place]
        head[place] = first * cos[place] - second * sin[place]
        head[half + place] = second * cos[place] + first * sin[place]


@_compiled
def _attend(query: np.ndarray, keys: np.ndarray, values: np.ndarray, scores: np.ndarray, attended: np.ndarray) -> None:
    """Write the attention output of one head to `attended`, from keys `(size, room)` and values `(room, size)`."""
    scores[:] = 0
    _add_rows(keys, query, scores)
    highest, total = scores[0], np.float32(0)
    for each in scores:
        highest = max(highest, each)
    for place in range(len(scores)):
        scores[place] = _exp(scores[place] - highest)
        total += scores[place]
    attended[:] = 0
    _add_rows(values, scores, attended)
    for place in range(len(attended)):
        attended[place] /= total


@_compiled
def _attend_heads(heads: np.ndarray, keys: np.ndarray, values: np.ndarray, position: Any, last: int) -> np.ndarray:
    """Add the new keys and values to those of a layer, and return the attention output of all heads, concatenated.

    `heads` are queries, keys and values, in this order; they are rotated and scaled in place. `position` and `last`
    are as in `step`.
    """
    num_keys, size, _ = keys.shape
    num_queries = len(heads) // size - 2 * num_keys
    cos, sin, scale = position
    for start in range(0, (num_queries + num_keys) * size, size):
        _rotate(heads[start : start + size], cos, sin)
    new = heads[num_queries * size :]
    for key in range(num_keys):
        for place in range(size):
            keys[key, place, last] = _like(new[key * size + place], keys[key, place, last])
            value = new[(num_keys + key) * size + place]
            values[key, last, place] = _like(value, values[key, last, place])
    scores, attended = np.empty(last + 1, np.float32), np.empty(num_queries * size, np.float32)
    for query in range(num_queries):
        key, start = query * num_keys // num_queries, query * size
        head = heads[start : start + size]
        for place in range(size):
            head[place] *= scale
        _attend(head, keys[key], values[key], scores, attended[start : start + size])
    return attended


@_compiled
def step(
    embedding: np.ndarray, layers: Any, norm: Any, cache: Any, position: Any, last: int, states: np.ndarray
) -> None:
    """Write the last hidden state of an id to `states (hidden_size,)`, and its keys and values to the cache.

    Args:
        embedding (`np.ndarray` of shape `(hidden_size,)`): embedding of the id.
        layers (`tuple`): weights of all layers, stacked in the first dimension: first norm, weights and biases of
            queries, keys and values, weights and biases of the output, second norm, weights and biases of gate and up,
            weights and biases of down. Linear weights are laid out as in `_add_products`; the others are float32.
        norm (`tuple`): weights of the last norm, and the epsilon of all norms.
        cache (`tuple`): keys `(layers, heads, size, room)`, and values `(layers, heads, room, size)`.
        position (`tuple`): cosines and sines `(size / 2,)` of the id's position, and the scale of attention scores.
        last (`int`): number of ids in the cache, which is the place of this one.
        states (`np.ndarray` of shape `(hidden_size,)`): where the result is written; also used in between.
    """
    norms, qkv, qkv_biases, outputs, output_biases, mlp_norms, gates, gate_biases, downs, down_biases = layers
    weights, epsilon = norm
    all_keys, all_values = cache
    hidden = np.empty(len(states), np.float32)
    for place in range(len(hidden)):
        hidden[place] = _as_float(embedding[place])
    for layer in range(len(norms)):
        keys, values = all_keys[layer], all_values[layer]
        _normalize(hidden, norms[layer], epsilon, states)
        heads = qkv_biases[layer].copy()
        _add_products(qkv[layer], states, heads)
        attended = _attend_heads(heads, keys, values, position, last)
        _add_products(outputs[layer], attended, hidden)
        _normalize(_added(hidden, output_biases[layer]), mlp_norms[layer], epsilon, states)
        gate_up = gate_biases[layer].copy()
        _add_products(gates[layer], states, gate_up)
        half = len(gate_up) // 2
        gated = gate_up[:half]
        for place in range(half):
            gated[place] *= gate_up[half + place] / (_ONE + _exp(-gated[place]))
        _add_products(downs[layer], gated, _added(hidden, down_biases[layer]))
    _normalize(hidden, weights, epsilon, states)


@_compiled
def score(weights: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Return the scores of a head: the products of its weights, laid out as in `_add_products`, and the states."""
    scores = np.zeros(len(weights), np.float32)
    _add_products(weights, states, scores)
    return scores


@_compiled
def choose(
    weights: np.ndarray, states: np.ndarray, forbidden: Any, temperature: np.float32, noise: float
) -> tuple[int, np.float32]:
    """Choose an output of a head, like `TokenSampler.choose`, and return it together with the highest of all scores.

    Args:
        weights (`np.ndarray`): weights of the head, as in `_add_products`.
        states (`np.ndarray` of shape `(hidden_size,)`): the last hidden state.
        forbidden (`tuple`): two outputs that are not chosen; a negative number excludes none.
        temperature (`np.float32`): divisor of the scores; 0 selects the highest one.
        noise (`float`): uniform number in [0, 1).

    Returns:
        `tuple`: the output, and the highest score; NaN if an allowed score is NaN or infinity, or if all are minus
            infinity.
    """
    scores = score(weights, states)
    for output in forbidden:
        if output >= 0:
            scores[output] = -np.inf
    best, highest = 0, scores[0]
    for output in range(len(scores)):
        if scores[output] > highest:
            best, highest = output, scores[output]
    cumulative, total = np.empty(len(scores), np.float64), 0.0
    scale = temperature if temperature > 0 else _ONE
    for output in range(len(scores)):
        total += math.exp(np.float64(scores[output] / scale) - np.float64(highest / scale))
        cumulative[output] = total
    if not total < np.inf:  # true for NaN; math.isfinite computes total - total, which reordering may turn into 0
        highest = np.float32(np.nan)
    if temperature > 0:
        best = 0
        while best < len(scores) - 1 and cumulative[best] <= noise * total:
            best += 1
    return best, highest


@_compiled
def advance(
    last_id: int,
    embeddings: np.ndarray,
    layers: Any,
    norm: Any,
    cache: Any,
    positions: Any,
    last: int,
    states: np.ndarray,
    head: np.ndarray,
    level_ranges: np.ndarray,
    end: Any,
    temperature: np.float32,
    noise: np.ndarray,
    ids: np.ndarray,
    highest: np.ndarray,
) -> int:
    """Alternate `step` and `choose` until `ids` is full or the end token is chosen; return the number of ids chosen.

    Args:
        last_id (`int`): the id before the first of them.
        embeddings (`np.ndarray` of shape `(vocab_size, hidden_size)`): embeddings of all ids.
        layers (`tuple`): see `step`.
        norm (`tuple`): see `step`.
        cache (`tuple`): see `step`.
        positions (`tuple`): cosines and sines `(ids, size / 2)` of the ids' positions, and the scale of attention
            scores.
        last (`int`): number of ids in the cache before the first of them.
        states (`np.ndarray` of shape `(hidden_size,)`): see `step`.
        head (`np.ndarray`): weights of the head, as in `_add_products`.
        level_ranges (`np.ndarray` of shape `(ids, 3)`): for each id to choose, the first id of its level, one past the
            last, and an id that is never chosen, or -1.
        end (`tuple`): the end token, or -1 for none, and the number of first ids that cannot be it.
        temperature (`np.float32`): see `choose`.
        noise (`np.ndarray` of shape `(ids,)`): uniform numbers in [0, 1).
        ids (`np.ndarray` of shape `(ids,)`): where the ids are written.
        highest (`np.ndarray` of shape `(ids,)`): where the highest scores are written.
    """
    cos, sin, scale = positions
    end_id, forbidden = end
    for place in range(len(ids)):
        step(embeddings[last_id], layers, norm, cache, (cos[place], sin[place], scale), last + place, states)
        first, stop, never = level_ranges[place]
        excluded = never - first, end_id - first if place < forbidden else -1
        chosen, highest[place] = choose(head[first:stop], states, excluded, temperature, noise[place])
        last_id = first + chosen
        ids[place] = last_id
        if last_id == end_id:
            return place + 1
    return len(ids)
