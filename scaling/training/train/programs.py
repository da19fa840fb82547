"""Programs: the compiled step, evaluation and beginning of one shape, batch and optimiser, for one run or many at once.

Learning rates, tokens and the number of steps are data: one program serves every budget, rate and seed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from scaling.recipe import Recipe
from scaling.shape import Shape
from scaling.training import model
from scaling.training.train import devices
from scaling.training.train.feed import Ids, abstract, batch
from scaling.training.train.schedule import chunk_steps

#: Held-out tokens in one call of the model.
EVAL_BATCH_TOKENS = 4096

#: Begin and evaluation are compiled with less optimisation on CPU: it halves their compiling, and is not felt in a run.
_LIGHT = {"xla_backend_optimization_level": 1}

How = Literal["vmap", "map"]


@dataclass(frozen=True)
class Programs:
    """What was compiled. With P > 1 runs, states and losses have a leading axis P.

    advance(state, data, rates [S], count) -> (state, loss [S]), the state given is used up; evaluate(params, tokens
    [B, T + 1]) -> loss of each window [B]; fresh(seeds [P]) -> state. `mesh` is what they are laid out over.
    """

    fresh: Callable[..., Any]
    advance: Callable[..., Any]
    evaluate: Callable[..., Any]
    mesh: Mesh | None = None


def compiled_in(recipe: Recipe) -> Recipe:
    """The recipe with all that is data set to one value: recipes that are alike in this share a program."""
    return replace(recipe, learning_rate=1.0, warmup_tokens=0, schedule="constant", decay_share=1.0, cooldown="linear")


def programs(shape: Shape, recipe: Recipe, ids: Ids, runs: int = 1, how: How = "vmap") -> Programs:
    """The programs of this shape and recipe for so many runs at once, compiled once in a process."""
    return _programs(shape, compiled_in(recipe), ids, runs, how)


@functools.lru_cache(maxsize=64)
def _programs(shape: Shape, recipe: Recipe, ids: Ids, runs: int, how: How) -> Programs:
    optimiser = optax.chain(
        optax.clip_by_global_norm(recipe.clip),
        optax.scale_by_adam(recipe.beta1, recipe.beta2),
        optax.add_decayed_weights(recipe.weight_decay),
    )

    mesh = devices.mesh_for(recipe.batch_tokens // shape.context) if runs == 1 else None

    def objective(params, token_BT):
        loss_BT, log_z_X, balance = window_losses(params, token_BT, shape, recipe, mesh)
        loss = loss_BT.mean()
        total = loss + recipe.z_loss * jnp.square(log_z_X).mean() if recipe.z_loss else loss
        return total + recipe.balance_loss * balance if shape.experts else total, loss

    def advance(state, data, rate_S, count):
        def step(i, carry):
            params, optimiser_state, loss_S = carry
            gradient, loss = jax.grad(objective, has_aux=True)(params, batch(data, i, shape.context))
            update, optimiser_state = optimiser.update(gradient, optimiser_state, params)
            params = jax.tree.map(lambda p, u: p - rate_S[i] * u, params, update)
            return params, optimiser_state, loss_S.at[i].set(loss)

        carry = (state["params"], state["optimiser"], jnp.zeros_like(rate_S))
        params, optimiser_state, loss_S = jax.lax.fori_loop(0, count, step, carry)
        return {"params": params, "optimiser": optimiser_state}, loss_S

    def fresh(seed):
        params = model.init(shape, jax.random.key(seed))
        return {"params": params, "optimiser": optimiser.init(params)}

    def evaluate(params, token_BT):
        return window_losses(params, token_BT, shape, recipe, mesh)[0].mean(-1)

    if runs > 1:
        many = functools.partial(_many, how=how)
        own = {"tokens": 0} if not ids.resident else {"ids": None, "starts": 0}
        advance, fresh, evaluate = many(advance, (0, own, 0, None)), many(fresh, (0,)), many(evaluate, (0, None))
    return _compiled(shape, recipe, ids, runs, mesh, fresh, advance, evaluate)


def _compiled(shape, recipe, ids, runs, mesh, fresh, advance, evaluate) -> Programs:
    lead = (runs,) if runs > 1 else ()
    steps, rows = chunk_steps(shape, recipe.batch_tokens), recipe.batch_tokens // shape.context
    seeds = jax.ShapeDtypeStruct(lead, np.int32)
    state = jax.eval_shape(fresh, seeds)
    data = abstract(ids, steps, rows, shape.context, runs)
    rates, count = jax.ShapeDtypeStruct((*lead, steps), np.float32), jax.ShapeDtypeStruct((), np.int32)
    windows = jax.ShapeDtypeStruct((max(1, EVAL_BATCH_TOKENS // shape.context), shape.context + 1), ids.dtype)
    placed: dict[str, dict[str, Any]] = {"advance": {}, "fresh": {}, "evaluate": {}}
    if mesh:
        everywhere = devices.whole(mesh)
        where = jax.tree.map(functools.partial(devices.state_sharding, mesh), state)
        split = {name: everywhere if name == "ids" else devices.split(mesh, 1, rows) for name in data}
        placed["advance"] = {
            "in_shardings": (where, split, everywhere, everywhere),
            "out_shardings": (where, everywhere),
        }
        placed["fresh"] = {"in_shardings": everywhere, "out_shardings": where}
        placed["evaluate"] = {
            "in_shardings": (where["params"], devices.split(mesh, 0, windows.shape[0])),
            "out_shardings": everywhere,
        }
    light = _LIGHT if jax.default_backend() == "cpu" else None
    compiled_advance = (
        jax.jit(advance, donate_argnums=0, **placed["advance"]).lower(state, data, rates, count).compile()
    )
    compiled_evaluate = jax.jit(evaluate, **placed["evaluate"]).lower(state["params"], windows).compile(light)
    compiled_fresh = jax.jit(fresh, **placed["fresh"]).lower(seeds).compile(light)
    return Programs(
        fresh=lambda seeds: compiled_fresh(np.asarray(seeds, np.int32).reshape(lead)),
        advance=lambda state, data, rates, count: compiled_advance(
            state, data, np.asarray(rates, np.float32).reshape((*lead, steps)), np.int32(count)
        ),
        evaluate=lambda params, tokens: compiled_evaluate(
            params, devices.place(tokens, placed["evaluate"]["in_shardings"][1]) if mesh else tokens
        ),
        mesh=mesh,
    )


def window_losses(
    params: model.Params, token_BT: jax.Array, shape: Shape, recipe: Recipe, mesh: Mesh | None = None
) -> tuple[Any, Any, Any]:
    """Loss of every token, nats, [B, T], the log-normalisers of its logits, [X], and the balance of the experts."""
    token_BT = token_BT.astype(jnp.int32)
    cast = jax.tree.map(lambda leaf: leaf.astype(recipe.precision), params)
    rows = devices.rows(mesh, len(token_BT))
    loss_X, log_z_X, balance = model.losses(cast, token_BT[:, :-1], token_BT[:, 1:], shape, recipe.remat, rows)
    return loss_X.reshape(-1, shape.context), log_z_X, balance


def _many(function: Callable[..., Any], axes: tuple[Any, ...], how: How) -> Callable[..., Any]:
    """The function over many runs: `axes` are None for the arguments that they share.

    "vmap" makes each product a batch of products; "map" takes the runs one after another inside one dispatch.
    """
    if how == "vmap":
        return jax.vmap(function, in_axes=axes)

    def mapped(*arguments):
        flat, tree = jax.tree.flatten(arguments)
        along = jax.tree.leaves(_spread(axes, arguments), is_leaf=lambda axis: axis is None)
        varying = [leaf for leaf, axis in zip(flat, along) if axis is not None]

        def one(own):
            own = iter(own)
            return function(*tree.unflatten([leaf if axis is None else next(own) for leaf, axis in zip(flat, along)]))

        return jax.lax.map(one, varying)

    return mapped


def _spread(axes: Any, tree: Any) -> Any:
    """The axis of each leaf, from axes given for whole branches, as vmap reads them."""
    if isinstance(axes, tuple):
        return tuple(_spread(axis, branch) for axis, branch in zip(axes, tree))
    if isinstance(axes, dict):
        return {name: _spread(axes[name], branch) for name, branch in tree.items()}
    return jax.tree.map(lambda _: axes, tree)
