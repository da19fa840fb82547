"""The transformer: `init(shape, key)` and `logits(params, tokens, shape)`, on plain pytrees.

Axes: B batch, T time, X = B x T tokens, M width, H heads, K head width, F MLP width, V vocab, L depth.
Activations are [X, M] matrices and blocks are unrolled: on CPU, XLA's products over three-dimensional
activations are several times slower (benchmarks/README.md).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from scaling.shape import Shape

Params = dict[str, Any]

#: The longest rotary wavelength, in contexts. Su et al. 2021's base of 10,000 leaves most of a small head's
#: frequencies without a full turn in 64 tokens; at width 16 that costs .04 nats (runs/LOG.md).
ROTARY_CONTEXTS = 10.0


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
    B, T = token_BT.shape
    x_XM = params["embed"][token_BT.reshape(-1)]
    rotary = _rotary(T, shape.head_width)
    for layer in range(shape.depth):
        h_XM = _unit_rms(x_XM)
        q, k, v = jnp.split((h_XM @ params["qkv"][layer]).reshape(B, T, 3 * shape.heads, -1), 3, axis=2)
        a_XM = _attention(q, k, v, params["gain"][layer], rotary).reshape(B * T, -1)
        x_XM = x_XM + a_XM @ params["out"][layer]
        h_XM = _unit_rms(x_XM)
        x_XM = x_XM + jax.nn.gelu(h_XM @ params["up"][layer]) @ params["down"][layer]
    return _unit_rms(x_XM) @ params["head"]


def _attention(q_BTHK, k_BTHK, v_BTHK, gain_H, rotary):
    q_BTHK = _rotate(_unit_rms(q_BTHK), rotary) * (gain_H / q_BTHK.shape[-1])[None, None, :, None]
    k_BTHK = _rotate(_unit_rms(k_BTHK), rotary)
    score_BHTS = jnp.einsum("bthk,bshk->bhts", q_BTHK, k_BTHK)
    T = q_BTHK.shape[1]
    causal_TS = jnp.tril(jnp.ones((T, T), bool))
    weight_BHTS = jax.nn.softmax(jnp.where(causal_TS[None, None], score_BHTS, -1e30), axis=-1)
    return jnp.einsum("bhts,bshk->bthk", weight_BHTS, v_BTHK)


def _unit_rms(x):
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6)


def _rotary(T: int, K: int):
    base = ROTARY_CONTEXTS * T / (2 * math.pi)
    angle_TK = jnp.outer(jnp.arange(T), base ** -(jnp.arange(0, K, 2) / K))
    return jnp.cos(angle_TK), jnp.sin(angle_TK)


def _rotate(x_BTHK, rotary):
    cos_TK, sin_TK = (table[None, :, None, :] for table in rotary)
    left, right = jnp.split(x_BTHK, 2, axis=-1)
    return jnp.concatenate([left * cos_TK - right * sin_TK, right * cos_TK + left * sin_TK], axis=-1)


def cross_entropy(logits_XV: jax.Array, target_X: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Loss of each token, nats, [X], and the log-normaliser of its logits, [X]."""
    log_z_X = jax.nn.logsumexp(logits_XV, axis=-1)
    return log_z_X - jnp.take_along_axis(logits_XV, target_X[:, None], axis=-1)[:, 0], log_z_X
