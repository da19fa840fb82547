"""The transformer: `init(shape, key)` and `logits(params, tokens, shape)`, on plain pytrees.

Axes: B batch, T time, X = B x T tokens, M width, H heads, K head width, F MLP width, V vocab, L depth.
Activations are [X, M] matrices and blocks are unrolled: on CPU, XLA's products over three-dimensional
activations are several times slower (benchmarks/README.md).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from scaling.shape import Shape

Params = dict[str, Any]

#: The longest rotary wavelength, in contexts. Su et al. 2021's base of 10,000 leaves most of a small head's
#: frequencies without a full turn in 64 tokens; at width 16 that costs .04 nats (runs/LOG.md).
ROTARY_CONTEXTS = 10.0

#: Scores are kept within this, so that their exponentials need no maximum subtracted and their sum is a number.
#: Those of unit vectors are within the gain, which begins at sqrt(K).
MOST_SCORE = 75.0


def init(shape: Shape, key: jax.Array) -> Params:
    """Fresh parameters, float32: each matrix normal with standard deviation 1/sqrt(its input width).

    The two matrices that write into the residual stream start at zero, so every block starts as the identity.
    """
    L, M, V = shape.depth, shape.width, shape.vocab
    F = shape.mlp_ratio * M
    keys = jax.random.split(key, 4)
    return {
        "embed": jax.random.normal(keys[0], (V, M)),
        "qkv": jax.random.normal(keys[1], (L, M, 3 * M)) * M**-0.5,
        "gain": jnp.full((L, shape.heads), shape.head_width**0.5),
        "out": jnp.zeros((L, M, M)),
        "up": jax.random.normal(keys[2], (L, M, F)) * M**-0.5,
        "down": jnp.zeros((L, F, M)),
        "head": jax.random.normal(keys[3], (M, V)) * M**-0.5 * 0.1,
    }


def logits(params: Params, token_BT: jax.Array, shape: Shape) -> jax.Array:
    """Next-token logits, [B * T, V]: row b * T + t is the prediction after token t of row b."""
    T = token_BT.shape[1]
    x_XM = params["embed"][token_BT.reshape(-1)]
    for layer in range(shape.depth):
        qkv_XC = _unit_rms(x_XM) @ params["qkv"][layer]
        x_XM = x_XM + attention(qkv_XC, params["gain"][layer], T) @ params["out"][layer]
        h_XF = jax.nn.gelu(_unit_rms(x_XM) @ params["up"][layer])
        x_XM = x_XM + _down(h_XF, params["down"][layer])
    return _unit_rms(x_XM) @ params["head"]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def attention(qkv_XC: jax.Array, gain_H: jax.Array, T: int) -> jax.Array:
    """Causal attention with rotary positions over queries and keys of unit rms, [X, M], from their projections [X, 3M].

    The derivative is written out, which is worth a tenth of a step on CPU: it keeps the exponentials and divides by
    their sums in the narrow products, so that a matrix of T x T is passed over twice instead of seven times.
    """
    return _attention_forward(qkv_XC, gain_H, T)[0]


def _attention_forward(qkv_XC, gain_H, T):
    H = len(gain_H)
    query_BTHK, key_BTHK, v_BTHK = _split(qkv_XC, H, T)
    (q_BHTK, q_rms), (k_BHTK, k_rms) = _unit_turned(query_BTHK), _unit_turned(key_BTHK)
    v_BHTK = v_BTHK.swapaxes(1, 2)
    score_BHTS = jnp.einsum("bhtk,bhsk->bhts", q_BHTK, k_BHTK) * _scale(gain_H, q_BHTK)
    causal_TS = jnp.tril(jnp.ones((T, T), bool))[None, None]
    weight_BHTS = jnp.where(causal_TS, jnp.exp(jnp.clip(score_BHTS, -MOST_SCORE, MOST_SCORE)), 0)
    share_BHT1 = 1 / weight_BHTS.sum(-1, keepdims=True)
    a_BHTK = jnp.einsum("bhts,bhsk->bhtk", weight_BHTS, v_BHTK) * share_BHT1
    kept = (qkv_XC, gain_H, q_rms, k_rms, q_BHTK, k_BHTK, v_BHTK, weight_BHTS, share_BHT1, a_BHTK)
    return a_BHTK.swapaxes(1, 2).reshape(len(qkv_XC), -1), kept


def _attention_backward(T, kept, da_XM):
    qkv_XC, gain_H, q_rms, k_rms, q_BHTK, k_BHTK, v_BHTK, weight_BHTS, share_BHT1, a_BHTK = kept
    da_BHTK = da_XM.reshape(-1, T, len(gain_H), v_BHTK.shape[-1]).swapaxes(1, 2) * share_BHT1
    through_BHT1 = (da_BHTK * a_BHTK).sum(-1, keepdims=True)
    dscore_BHTS = weight_BHTS * (jnp.einsum("bhtk,bhsk->bhts", da_BHTK, v_BHTK) - through_BHT1)
    dv_BHTK = jnp.einsum("bhts,bhtk->bhsk", weight_BHTS, da_BHTK)
    dq_BHTK = jnp.einsum("bhts,bhsk->bhtk", dscore_BHTS, k_BHTK)
    dk_BHTK = jnp.einsum("bhts,bhtk->bhsk", dscore_BHTS, q_BHTK)
    dgain_H = (dq_BHTK * q_BHTK).sum((0, 2, 3)) / q_BHTK.shape[-1]

    def before(dy_BHTK, y_BHTK, x_BTHK, rms_BTH1):
        """The derivative by x of y = turned(x rms) under that by y over the scale of the scores."""
        radial_BTH1 = jnp.mean(dy_BHTK * y_BHTK, -1, keepdims=True).swapaxes(1, 2)
        dx_BTHK = _turned(dy_BHTK.swapaxes(1, 2), -1) - x_BTHK * (rms_BTH1 * radial_BTH1)
        return dx_BTHK * (rms_BTH1 * _scale(gain_H, q_BHTK).swapaxes(1, 2))

    query_BTHK, key_BTHK, _ = _split(qkv_XC, len(gain_H), T)
    dquery_BTHK = before(dq_BHTK, q_BHTK, query_BTHK, q_rms)
    dkey_BTHK = before(dk_BHTK, k_BHTK, key_BTHK, k_rms)
    dqkv = jnp.stack([dquery_BTHK, dkey_BTHK, dv_BHTK.swapaxes(1, 2)], axis=2)
    return dqkv.reshape(qkv_XC.shape), dgain_H


attention.defvjp(_attention_forward, _attention_backward)


def _split(qkv_XC, H, T):
    """Queries, keys and values, [B, T, H, K] each."""
    qkv = qkv_XC.reshape(-1, T, 3, H, qkv_XC.shape[-1] // (3 * H))
    return qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]


def _scale(gain_H, q_BHTK):
    """What a score of unit vectors is multiplied by, [1, H, 1, 1]."""
    return (gain_H / q_BHTK.shape[-1])[None, :, None, None]


def _unit_turned(x_BTHK):
    """x over its rms and turned by its position, [B, H, T, K], and 1 / rms, [B, T, H, 1]."""
    rms_BTH1 = jax.lax.rsqrt(jnp.mean(jnp.square(x_BTHK), axis=-1, keepdims=True) + 1e-6)
    return _turned(x_BTHK * rms_BTH1, 1).swapaxes(1, 2), rms_BTH1


def _turned(x_BTHK, sign):
    """x turned by its position (sign 1) or back (-1): each half of K by a cosine, and the other half by a sine."""
    *_, T, H, K = x_BTHK.shape
    cos, sin = (table[None, :, None] for table in _rotary(T, K))  # [1, T, 1, 2, K / 2]
    halves = x_BTHK.reshape(-1, T, H, 2, K // 2)
    return (halves * cos + halves[..., ::-1, :] * (sign * sin)).reshape(x_BTHK.shape)


def _rotary(T: int, K: int):
    """Cosines and signed sines, [T, 2, K / 2]."""
    base = ROTARY_CONTEXTS * T / (2 * math.pi)
    angle_TK = jnp.outer(jnp.arange(T), base ** -(jnp.arange(0, K, 2) / K))
    cos, sin = jnp.cos(angle_TK), jnp.sin(angle_TK)
    return jnp.stack([cos, cos], 1), jnp.stack([-sin, sin], 1)


@jax.custom_vjp
def _down(h_XF, down_FM):
    """h @ down, whose weight gradient is computed as the transpose: on CPU, in two thirds of the time."""
    return h_XF @ down_FM


def _down_backward(kept, dy_XM):
    h_XF, down_FM = kept
    ddown_MF = jax.lax.optimization_barrier(jnp.einsum("xm,xf->mf", dy_XM, h_XF))
    return dy_XM @ down_FM.T, ddown_MF.T


_down.defvjp(lambda h_XF, down_FM: (h_XF @ down_FM, (h_XF, down_FM)), _down_backward)


def _unit_rms(x):
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6)


def cross_entropy(logits_XV: jax.Array, target_X: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Loss of each token, nats, [X], and the log-normaliser of its logits, [X]."""
    log_z_X = jax.nn.logsumexp(logits_XV, axis=-1)
    return log_z_X - jnp.take_along_axis(logits_XV, target_X[:, None], axis=-1)[:, 0], log_z_X
