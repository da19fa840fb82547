"""The transformer on plain pytrees: `init`, `logits`, and `losses` without the logits of all tokens at once.

Axes: B batch, T time, X = B x T tokens, M width, H heads, K head width, C queries, keys and values together, F MLP
width, E experts, V vocab, L depth. Activations are [X, M] matrices: on CPU, XLA's products over three-dimensional
activations are several times slower (benchmarks/README.md). What is normalised, weighed by a softmax or summed to a
loss is float32 whatever the type of the parameters. Where tokens are split over devices, `rows` says how: it keeps every
activation where its tokens are, so that it is the matrices that travel.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from scaling.shape import Shape
from scaling.training.attention import attention

Params = dict[str, Any]

#: Standard deviation of a fresh embedding that is the head too. Tokens enter divided by it, and logits are made by the
#: embedding over sqrt(M): a fresh model then guesses, and both uses learn at about their own rate.
TIED_SCALE = 0.1

#: Blocks are compiled one by one up to this depth, and once, in a loop, beyond it.
MOST_UNROLLED = 12

#: Logits, in numbers, that a loss is computed from at once on a device: 256 MiB of float32.
MOST_LOGITS = 2**26


def init(shape: Shape, key: jax.Array) -> Params:
    """Fresh parameters, float32: each matrix normal with standard deviation 1/sqrt(its input width).

    The two matrices that write into the residual stream start at zero, so every block starts as the identity.
    """
    L, M, V, F = shape.depth, shape.width, shape.vocab, shape.mlp_width
    keys = jax.random.split(key, 4)
    into = 2 * F if shape.mlp == "swiglu" else F
    experts = (shape.experts,) if shape.experts else ()
    params = {
        "embed": jax.random.normal(keys[0], (V, M)) * (TIED_SCALE if shape.tied else 1.0),
        "qkv": jax.random.normal(keys[1], (L, M, M + 2 * shape.kv_width)) * M**-0.5,
        "gain": jnp.full((L, shape.heads), shape.head_width**0.5),
        "out": jnp.zeros((L, M, M)),
        "up": jax.random.normal(keys[2], (L, *experts, M, into)) * M**-0.5,
        "down": jnp.zeros((L, *experts, F, M)),
    }
    if not shape.tied:
        params["head"] = jax.random.normal(keys[3], (M, V)) * M**-0.5 * 0.1
    if shape.experts:
        params["router"] = jax.random.normal(jax.random.fold_in(key, 4), (L, M, shape.experts)) * M**-0.5
    if shape.positions == "learned":
        params["positions"] = jax.random.normal(jax.random.fold_in(key, 5), (shape.context, M)) * 0.5
    return params


def logits(params: Params, token_BT: jax.Array, shape: Shape, remat: bool = False) -> jax.Array:
    """Next-token logits, [B * T, V]: row b * T + t is the prediction after token t of row b."""
    return logits_and_balance(params, token_BT, shape, remat)[0]


def logits_and_balance(
    params: Params, token_BT: jax.Array, shape: Shape, remat: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Next-token logits, [B * T, V], and the balance of the experts: see `hidden_and_balance`."""
    x_XM, balance = hidden_and_balance(params, token_BT, shape, remat)
    return x_XM @ head(params, shape), balance


def losses(
    params: Params,
    token_BT: jax.Array,
    target_BT: jax.Array,
    shape: Shape,
    remat: bool = False,
    rows: NamedSharding | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Loss of each token, nats, [X], the log-normaliser of its logits, [X], and the balance of the experts.

    Where the logits of all tokens would be more than MOST_LOGITS, they are made in pieces, again for the gradient.
    """
    x_XM, balance = hidden_and_balance(params, token_BT, shape, remat, rows)
    return *cross_entropy_in_pieces(x_XM, head(params, shape), target_BT.reshape(-1), rows=rows), balance


def hidden(params: Params, token_BT: jax.Array, shape: Shape, remat: bool = False) -> jax.Array:
    """The last activations, normalised, [X, M]: what `head` makes logits of."""
    return hidden_and_balance(params, token_BT, shape, remat)[0]


def head(params: Params, shape: Shape) -> jax.Array:
    """The matrix from the last activations to logits, [M, V]."""
    return params["embed"].T * shape.width**-0.5 if shape.tied else params["head"]


def hidden_and_balance(
    params: Params, token_BT: jax.Array, shape: Shape, remat: bool = False, rows: NamedSharding | None = None
) -> tuple[jax.Array, jax.Array]:
    """The last activations, normalised, [X, M], and the mean over blocks of the experts' balance, 1 where it is perfect.

    The balance is E sum_e f_e p_e, of the share f of the visits and the mean probability p of each expert (Fedus et al.
    2021, equation 4): added to the loss with a small factor it keeps experts in use. 0 without experts. With `remat`
    each block keeps its input alone and is computed again for the gradient.
    """
    T = token_BT.shape[1]
    x_XM = _laid_out(params["embed"][token_BT.reshape(-1)], rows)
    if shape.tied:
        x_XM = x_XM * (1 / TIED_SCALE)
    if shape.positions == "learned":
        x_XM = x_XM + jnp.tile(params["positions"][:T], (len(token_BT), 1))

    def block(x_XM, layer):
        qkv_XC = _laid_out(_unit_rms(x_XM) @ layer["qkv"], rows)
        a_XM = attention(qkv_XC, layer["gain"], T, shape.kv_heads or shape.heads, shape.positions == "rotary")
        x_XM = _laid_out(x_XM + _laid_out(a_XM, rows) @ layer["out"], rows)
        y_XM, balance = (
            _experts(_unit_rms(x_XM), layer, shape, rows) if shape.experts else _mlp(_unit_rms(x_XM), layer, shape)
        )
        return _laid_out(x_XM + y_XM, rows), balance

    block = jax.checkpoint(block) if remat else block
    layers = {name: params[name] for name in ("qkv", "gain", "out", "up", "down", "router") if name in params}
    if shape.depth > MOST_UNROLLED:
        x_XM, balance_L = jax.lax.scan(block, x_XM, layers)
        return _unit_rms(x_XM), balance_L.mean()
    balances = []
    for at in range(shape.depth):
        x_XM, balance = block(x_XM, {name: stack[at] for name, stack in layers.items()})
        balances.append(balance)
    return _unit_rms(x_XM), jnp.stack(balances).mean()


def _laid_out(x, rows, axis=0):
    """The same numbers, and their derivatives, with this axis split as `rows` says; all as it is where that is None."""
    if rows is None:
        return x
    return jax.lax.with_sharding_constraint(x, NamedSharding(rows.mesh, PartitionSpec(*[None] * axis, *rows.spec)))


def _mlp(x_XM, layer, shape):
    return _down(_activated(x_XM @ layer["up"], shape.mlp), layer["down"]), jnp.zeros(())


def _experts(x_XM, layer, shape, rows):
    """The sum of the chosen experts' outputs, each times its probability (Fedus et al. 2021), and their balance.

    The visits are sorted by expert, so that no token is dropped and none depends on another; on a CPU the grouped product
    computes every expert. Where tokens are split over devices, each sorts its own.
    """
    layer = {name: layer[name] for name in ("router", "up", "down")}
    if rows is None:
        return _visit(x_XM, layer, shape)
    (axis,), everywhere = rows.spec, PartitionSpec()
    return jax.shard_map(
        functools.partial(_visit, shape=shape, axis=axis),
        mesh=rows.mesh,
        in_specs=(rows.spec, everywhere),
        out_specs=(rows.spec, everywhere),
    )(x_XM, layer)


def _visit(x_XM, layer, shape, axis=None):
    """What `_experts` says, of one device's tokens; the balance is that of all along the axis of devices."""
    E, k = shape.experts, shape.experts_per_token
    router_XE = jax.nn.softmax(x_XM.astype(jnp.float32) @ layer["router"].astype(jnp.float32))
    share_XJ, chosen_XJ = jax.lax.top_k(router_XE, k)
    order = jnp.argsort(chosen_XJ.reshape(-1))  # [X k] visits, those of one expert together
    visits_E = jnp.zeros(E, jnp.int32).at[chosen_XJ.reshape(-1)].add(1)
    up = jax.lax.ragged_dot(x_XM[order // k], layer["up"], visits_E)
    down = jax.lax.ragged_dot(_activated(up, shape.mlp), layer["down"], visits_E)
    weighed = down * share_XJ.reshape(-1)[order, None].astype(down.dtype)
    visited_E, likely_E = visits_E / len(order), router_XE.mean(0)
    if axis:
        visited_E, likely_E = jax.lax.pmean((visited_E, likely_E), axis)
    balance = E * jnp.vdot(visited_E, likely_E)
    return jnp.zeros_like(x_XM).at[order // k].add(weighed), balance


def _activated(up_XF, mlp):
    if mlp == "swiglu":
        gate_XF, up_XF = jnp.split(up_XF, 2, axis=-1)
        return jax.nn.silu(gate_XF) * up_XF
    return jnp.square(jax.nn.relu(up_XF)) if mlp == "relu2" else jax.nn.gelu(up_XF)


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
    wide = x.astype(jnp.float32)
    return (wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + 1e-6)).astype(x.dtype)


def cross_entropy(logits_XV: jax.Array, target_X: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Loss of each token, nats, [X], and the log-normaliser of its logits, [X], both float32."""
    logits_XV = logits_XV.astype(jnp.float32)
    log_z_X = jax.nn.logsumexp(logits_XV, axis=-1)
    return log_z_X - jnp.take_along_axis(logits_XV, target_X[:, None], axis=-1)[:, 0], log_z_X


def cross_entropy_in_pieces(
    x_XM: jax.Array,
    head_MV: jax.Array,
    target_X: jax.Array,
    most: int = MOST_LOGITS,
    rows: NamedSharding | None = None,
) -> tuple[jax.Array, jax.Array]:
    """`cross_entropy` of x @ head, of no more than `most` logits at once on a device (at least one token's).

    The pieces are the least number of equal ones, each split over the devices; the last is filled up with tokens that count
    for nothing.
    """
    X, V, devices = len(x_XM), head_MV.shape[1], rows.mesh.size if rows else 1
    pieces = min(X, math.ceil(X * V / (most * devices)))
    if pieces <= 1:
        return cross_entropy(_laid_out(x_XM @ head_MV, rows), target_X)
    each = math.ceil(X / (pieces * devices)) * devices
    fill = each * pieces - X
    x_PXM = jnp.pad(x_XM, ((0, fill), (0, 0))).reshape(pieces, each, -1)
    target_PX = jnp.pad(target_X, (0, fill)).reshape(pieces, each)
    one = jax.checkpoint(lambda piece: cross_entropy(_laid_out(piece[0] @ head_MV, rows), piece[1]))
    loss_PX, log_z_PX = jax.lax.map(one, (_laid_out(x_PXM, rows, 1), _laid_out(target_PX, rows, 1)))
    return loss_PX.reshape(-1)[:X], log_z_PX.reshape(-1)[:X]
