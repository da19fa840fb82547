"""Causal attention over queries and keys of unit rms: products of matrices on CPU, the fused kernel on a GPU.

Axes: B batch, T and S time, X = B x T tokens, H heads of queries, G of keys and values, K head width, C = (H + 2G) K.
"""

from __future__ import annotations

import functools
import math
import re

import jax
import jax.numpy as jnp

#: The longest rotary wavelength, in contexts. Su et al. 2021's base of 10,000 leaves most of a small head's
#: frequencies without a full turn in 64 tokens; at width 16 that costs .04 nats (runs/LOG.md).
ROTARY_CONTEXTS = 10.0

#: Scores are kept within this, so that their exponentials need no maximum subtracted and their sum is a number.
#: Those of unit vectors are within the gain, which begins at sqrt(K).
MOST_SCORE = 75.0


def attention(qkv_XC: jax.Array, gain_H: jax.Array, T: int, kv_heads: int, rotary: bool = True) -> jax.Array:
    """What each head gathers from the past, [X, H K], from the projections of its queries, keys and values.

    Queries and keys are divided by their rms, turned by their position where `rotary`, and a head's scores multiplied
    by gain / K. Each of the `kv_heads` keys and values serves as many heads of queries as there are to one.
    """
    kernel = _kernel(qkv_XC, T, len(gain_H), kv_heads)
    if kernel:
        return fused(qkv_XC, gain_H, T, kv_heads, rotary, kernel)
    if kv_heads < len(gain_H):
        query, key, value = _split(qkv_XC, len(gain_H), kv_heads, T)
        key, value = (jnp.repeat(x, len(gain_H) // kv_heads, axis=2) for x in (key, value))
        qkv_XC = jnp.concatenate([query, key, value], axis=2).reshape(len(qkv_XC), -1)
    return plain(qkv_XC, gain_H, T, rotary)


def _kernel(qkv_XC, T, H, G) -> str | None:
    """The implementation of `jax.nn.dot_product_attention` for what is compiled here, None for `plain`.

    cuDNN's takes bf16, heads of a multiple of 8 up to 128 wide on compute capability 8.0 on and 256 on 9.0 on, and an even T.
    """
    if jax.default_backend() != "gpu":
        return None
    K, widest = qkv_XC.shape[-1] // (H + 2 * G), _widest_head(jax.local_devices()[0])
    return "cudnn" if qkv_XC.dtype == jnp.bfloat16 and K % 8 == 0 and widest >= K and T % 2 == 0 else "xla"


def _widest_head(device) -> int:
    """The widest head that cuDNN's attention takes on a device; 0 where it has none (AMD names a capability "gfx942")."""
    said = str(getattr(device, "compute_capability", ""))
    capability = float(said) if re.fullmatch(r"\d+\.\d+", said) else 0.0
    return 256 if capability >= 9.0 else 128 if capability >= 8.0 else 0


def fused(qkv_XC: jax.Array, gain_H: jax.Array, T: int, kv_heads: int, rotary: bool, kernel: str) -> jax.Array:
    """What `attention` says, by an implementation of jax: "cudnn" never writes the scores to memory."""
    query, key, value = _split(qkv_XC, len(gain_H), kv_heads, T)
    (q, _), (k, _) = (_unit_turned(x, rotary) for x in (query, key))
    q = (q * (gain_H / q.shape[-1])[None, None, :, None]).astype(qkv_XC.dtype)
    a_BTHK = jax.nn.dot_product_attention(q, k, value, scale=1.0, is_causal=True, implementation=kernel)
    return a_BTHK.reshape(len(qkv_XC), -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def plain(qkv_XC: jax.Array, gain_H: jax.Array, T: int, rotary: bool) -> jax.Array:
    """What `attention` says, where every head has keys and values of its own: in products of matrices, for CPU.

    The derivative is written out, which is worth a tenth of a step on CPU: it keeps the exponentials and divides by
    their sums in the narrow products, so that a matrix of T x T is passed over twice instead of seven times.
    """
    return _plain_forward(qkv_XC, gain_H, T, rotary)[0]


def _plain_forward(qkv_XC, gain_H, T, rotary):
    H = len(gain_H)
    query_BTHK, key_BTHK, v_BTHK = _split(qkv_XC, H, H, T)
    (q_BHTK, q_rms), (k_BHTK, k_rms) = (_unit_turned(x, rotary) for x in (query_BTHK, key_BTHK))
    q_BHTK, k_BHTK = q_BHTK.swapaxes(1, 2), k_BHTK.swapaxes(1, 2)
    v_BHTK = v_BTHK.swapaxes(1, 2)
    score_BHTS = _wide("bhtk,bhsk->bhts", q_BHTK, k_BHTK) * _scale(gain_H, q_BHTK.shape[-1])
    causal_TS = jnp.tril(jnp.ones((T, T), bool))[None, None]
    weight_BHTS = jnp.where(causal_TS, jnp.exp(jnp.clip(score_BHTS, -MOST_SCORE, MOST_SCORE)), 0)
    share_BHT1 = 1 / weight_BHTS.sum(-1, keepdims=True)
    weight_BHTS = weight_BHTS.astype(v_BHTK.dtype)
    a_BHTK = _wide("bhts,bhsk->bhtk", weight_BHTS, v_BHTK) * share_BHT1
    kept = (qkv_XC, gain_H, q_rms, k_rms, q_BHTK, k_BHTK, v_BHTK, weight_BHTS, share_BHT1, a_BHTK)
    return a_BHTK.swapaxes(1, 2).reshape(len(qkv_XC), -1).astype(qkv_XC.dtype), kept


def _plain_backward(T, rotary, kept, da_XM):
    qkv_XC, gain_H, q_rms, k_rms, q_BHTK, k_BHTK, v_BHTK, weight_BHTS, share_BHT1, a_BHTK = kept
    H, dtype = len(gain_H), qkv_XC.dtype
    da_BHTK = da_XM.reshape(-1, T, H, v_BHTK.shape[-1]).swapaxes(1, 2) * share_BHT1
    through_BHT1 = (da_BHTK * a_BHTK).sum(-1, keepdims=True)
    da_BHTK = da_BHTK.astype(dtype)
    dscore_BHTS = (weight_BHTS * (_wide("bhtk,bhsk->bhts", da_BHTK, v_BHTK) - through_BHT1)).astype(dtype)
    dv_BHTK = _wide("bhts,bhtk->bhsk", weight_BHTS, da_BHTK)
    dq_BHTK = _wide("bhts,bhsk->bhtk", dscore_BHTS, k_BHTK)
    dk_BHTK = _wide("bhts,bhtk->bhsk", dscore_BHTS, q_BHTK)
    dgain_H = (dq_BHTK * q_BHTK).sum((0, 2, 3)) / q_BHTK.shape[-1]

    def before(dy_BHTK, y_BHTK, x_BTHK, rms_BTH1):
        """The derivative by x of y = turned(x rms) under that by y over the scale of the scores."""
        radial_BTH1 = jnp.mean(dy_BHTK * y_BHTK, -1, keepdims=True).swapaxes(1, 2)
        dy_BTHK = dy_BHTK.swapaxes(1, 2)
        tangent_BTHK = (turned(dy_BTHK, -1) if rotary else dy_BTHK) - x_BTHK * (rms_BTH1 * radial_BTH1)
        return tangent_BTHK * (rms_BTH1 * _scale(gain_H, q_BHTK.shape[-1]).swapaxes(1, 2))

    query_BTHK, key_BTHK, _ = _split(qkv_XC, H, H, T)
    dquery_BTHK = before(dq_BHTK, q_BHTK, query_BTHK, q_rms)
    dkey_BTHK = before(dk_BHTK, k_BHTK, key_BTHK, k_rms)
    dqkv = jnp.stack([dquery_BTHK, dkey_BTHK, dv_BHTK.swapaxes(1, 2)], axis=2)
    return dqkv.reshape(qkv_XC.shape).astype(dtype), dgain_H.astype(gain_H.dtype)


plain.defvjp(_plain_forward, _plain_backward)


def _wide(product, left, right):
    """An einsum that adds up in float32."""
    return jnp.einsum(product, left, right, preferred_element_type=jnp.float32)


def _split(qkv_XC, H, G, T):
    """Queries [B, T, H, K], keys and values [B, T, G, K]."""
    K = qkv_XC.shape[-1] // (H + 2 * G)
    heads = qkv_XC.reshape(-1, T, H + 2 * G, K)
    return heads[:, :, :H], heads[:, :, H : H + G], heads[:, :, H + G :]


def _scale(gain_H, K):
    """What a score of unit vectors is multiplied by, [1, H, 1, 1]."""
    return (gain_H / K)[None, :, None, None]


def _unit_turned(x_BTHK, rotary):
    """x over its rms, turned by its position where asked, of the type of x, and 1 / rms, [B, T, H, 1]."""
    rms_BTH1 = jax.lax.rsqrt(jnp.mean(jnp.square(x_BTHK.astype(jnp.float32)), axis=-1, keepdims=True) + 1e-6)
    unit_BTHK = x_BTHK * rms_BTH1
    return (turned(unit_BTHK, 1) if rotary else unit_BTHK).astype(x_BTHK.dtype), rms_BTH1


def turned(x_BTHK, sign):
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
