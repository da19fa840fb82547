"""The transformer: what may and may not influence a prediction."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.shape import Shape
from scaling.training import attention, model

SHAPE = Shape(2, 32, 2, vocab=17, context=12)
OPTIONS = {
    "default": {},
    "dense": {"tied": True, "positions": "learned", "mlp": "relu2", "kv_heads": 1},
    "experts": {"mlp": "swiglu", "experts": 4, "experts_per_token": 2},
}
SHAPES = {name: replace(SHAPE, **options) for name, options in OPTIONS.items()}
every_option = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def alive(shape):
    """Parameters with nothing left at its initial zero, so that every path carries signal."""
    fresh = model.init(shape, jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), len(fresh)))
    return {name: leaf + 0.1 * jax.random.normal(next(keys), leaf.shape) for name, leaf in fresh.items()}


@pytest.fixture(scope="module")
def params():
    return alive(SHAPE)


@every_option
def test_no_token_sees_its_future(shape):
    """The gradient of the prediction at time t by the embedding at time s is 0 exactly where s > t."""
    params, token_T = alive(shape), jnp.arange(shape.context)

    def predictions(embedded_TM):
        x_XM = model.hidden({**params, "embed": embedded_TM}, token_T[None], shape)
        return (x_XM @ model.head(params, shape)).sum(-1)

    embedded_TM = params["embed"][token_T % shape.vocab]
    each = jax.grad(lambda embedded_TM, t: predictions(embedded_TM)[t])
    influence_TS = jnp.abs(jax.jit(lambda t_T: jax.lax.map(lambda t: each(embedded_TM, t), t_T))(token_T)).sum(-1)
    seen = np.asarray(influence_TS > 0)
    assert np.array_equal(seen, np.tril(np.ones_like(seen)))


@every_option
def test_rows_and_padding_do_not_see_each_other(shape):
    """By gradient: a row's predictions depend on no other row, and by value, on how many rows there are."""
    params = alive(shape)
    tokens = np.random.default_rng(0).integers(0, shape.vocab, (3, shape.context))
    own = jnp.arange(3 * shape.context).reshape(3, shape.context)

    def row(embedded_XM, at):
        x_XM = model.hidden({**params, "embed": embedded_XM}, own, shape).reshape(3, shape.context, -1)
        return jnp.sin(x_XM[at]).sum()

    by_row = jax.jit(jax.grad(row))
    for at in range(2):
        influence = by_row(params["embed"][tokens.reshape(-1)], at).reshape(3, -1)
        assert [bool(jnp.abs(each).max() > 0) for each in influence] == [other == at for other in range(3)]
    logits = jax.jit(lambda tokens: model.logits(params, tokens, shape))
    np.testing.assert_allclose(logits(tokens)[: shape.context], logits(tokens[:1]), atol=1e-5)


@every_option
def test_remat_pieces_and_the_loop_over_blocks_change_nothing(shape, monkeypatch):
    params = alive(shape)
    tokens = np.random.default_rng(0).integers(0, shape.vocab, (2, shape.context + 1))

    def loss(params, remat):
        loss_X, log_z_X, balance = model.losses(params, tokens[:, :-1], tokens[:, 1:], shape, remat)
        return loss_X.mean() + 0.1 * jnp.square(log_z_X).mean() + 0.01 * balance

    whole = jax.jit(jax.value_and_grad(loss), static_argnums=1)(params, False)
    monkeypatch.setattr(model, "MOST_UNROLLED", 1)
    monkeypatch.setattr(model, "MOST_LOGITS", 5 * shape.vocab)
    other = jax.jit(jax.value_and_grad(loss), static_argnums=1)(params, True)
    for one, two in zip(jax.tree.leaves(whole), jax.tree.leaves(other)):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def test_a_shift_in_time_changes_nothing():
    """Rotary positions are relative: the same tokens after a longer blank give the same scores."""
    q, k = jax.random.normal(jax.random.key(2), (2, 1, SHAPE.context, 1, 16))
    blank = jnp.zeros((1, 5, 1, 16))
    scores = []
    for before in (blank, blank[:, :0]):
        late = [jnp.concatenate([before, x, blank[:, before.shape[1] :]], axis=1) for x in (q, k)]
        turned = [attention.turned(x, 1)[:, before.shape[1] :][:, : SHAPE.context] for x in late]
        scores.append(jnp.einsum("bthk,bshk->ts", *turned))
    np.testing.assert_allclose(*scores, atol=1e-4)


def said_attention(qkv_XC, gain_H, T):
    """What `model.attention` is, in as few lines as it can be said."""
    q, k, v = (x[:, :, 0] for x in jnp.split(qkv_XC.reshape(-1, T, 3, len(gain_H), 16), 3, axis=2))
    q, k = (attention.turned(model._unit_rms(x), 1) for x in (q, k))
    score = jnp.einsum("bthk,bshk->bhts", q * gain_H[None, None, :, None] / 16, k)
    weight = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((T, T), bool))[None, None], score, -jnp.inf))
    return jnp.einsum("bhts,bshk->bthk", weight, v).reshape(len(qkv_XC), -1)


def test_attention_and_its_derivative_are_those_of_the_plain_one():
    qkv, weights = jax.random.normal(jax.random.key(4), (2, 3 * SHAPE.context, 96))
    gain = jnp.array([4.0, -1.5])

    def loss(attention, qkv, gain):
        return (attention(qkv, gain, SHAPE.context) * weights[:, :32]).sum()

    ways = (
        lambda *of: attention.attention(*of, kv_heads=2),
        lambda *of: attention.fused(*of, kv_heads=2, rotary=True, kernel="xla"),
        said_attention,
    )
    *found, said = (jax.jit(jax.value_and_grad(loss, (1, 2)), static_argnums=0)(way, qkv, gain) for way in ways)
    for each in found:
        for one, other in zip(jax.tree.leaves(each), jax.tree.leaves(said)):
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("rotary", [True, False])
def test_grouped_queries_agree_with_the_fused_ones(rotary):
    qkv = jax.random.normal(jax.random.key(4), (2 * SHAPE.context, 6 * 8))
    gain = jnp.array([4.0, -1.5, 2.0, 1.0])
    ways = (
        lambda *of: attention.attention(*of, SHAPE.context, 1, rotary),
        lambda *of: attention.fused(*of, SHAPE.context, 1, rotary, "xla"),
    )
    one, other = (
        jax.jit(jax.value_and_grad(lambda *of, way=way: jnp.sin(way(*of)).sum(), (0, 1)))(qkv, gain) for way in ways
    )
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
        np.testing.assert_allclose(left, right, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("dtype", "capability", "width", "kernel"),
    [
        (jnp.bfloat16, "9.0", 16, "cudnn"),
        (jnp.float32, "9.0", 16, "xla"),
        (jnp.bfloat16, "9.0", 256, "cudnn"),
        (jnp.bfloat16, "10.0", 192, "cudnn"),
        (jnp.bfloat16, "9.0", 264, "xla"),
        (jnp.bfloat16, "8.0", 128, "cudnn"),
        (jnp.bfloat16, "8.0", 136, "xla"),
        (jnp.bfloat16, "7.5", 16, "xla"),
        (jnp.bfloat16, "gfx942", 16, "xla"),  # AMD
    ],
)
def test_a_gpu_is_given_a_kernel(monkeypatch, dtype, capability, width, kernel):
    """By a device that says it is one; the kernel itself runs only there."""
    device = SimpleNamespace(compute_capability=capability)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    monkeypatch.setattr(attention, "fused", lambda *of: of[-1])
    assert attention.attention(jnp.zeros((24, 6 * width), dtype), jnp.ones(2), 12, 2) == kernel


def test_bf16_is_close_to_float32_in_loss_and_gradient(params):
    tokens = np.random.default_rng(1).integers(0, SHAPE.vocab, (8, SHAPE.context + 1))

    def loss(params, dtype):
        cast = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
        loss_X, log_z_X, _ = model.losses(cast, tokens[:, :-1], tokens[:, 1:], SHAPE)
        assert loss_X.dtype == log_z_X.dtype == jnp.float32
        return loss_X.mean()

    (wide, g), (narrow, h) = (
        jax.jit(jax.value_and_grad(loss), static_argnums=1)(params, dtype) for dtype in (jnp.float32, jnp.bfloat16)
    )
    assert float(narrow) == pytest.approx(float(wide), abs=0.03)
    for name in params:
        assert h[name].dtype == jnp.float32
        assert float(jnp.linalg.norm(g[name] - h[name])) < 0.05 * float(jnp.linalg.norm(g[name]))


def test_the_balance_is_one_where_every_expert_is_used_alike():
    """And it falls along its own gradient where they are not."""
    shape = SHAPES["experts"]
    params = alive(shape)
    tokens = np.random.default_rng(1).integers(0, shape.vocab, (8, shape.context))

    @jax.jit
    def balance(router):
        return model.logits_and_balance({**params, "router": router}, tokens, shape)[1]

    assert float(balance(0 * params["router"])) == pytest.approx(1.0)
    tilted = params["router"] * 3
    assert float(balance(tilted - 0.5 * jax.grad(balance)(tilted))) < float(balance(tilted))


def test_attention_stays_a_number_under_any_gain():
    qkv = jax.random.normal(jax.random.key(4), (SHAPE.context, 96))
    value, gradient = jax.value_and_grad(lambda gain: attention.attention(qkv, gain, SHAPE.context, 2).sum())(
        jnp.array([1e4, -1e4])
    )
    assert np.isfinite([value, *gradient]).all()


@every_option
def test_a_fresh_model_guesses(shape):
    fresh = model.init(shape, jax.random.key(0))
    tokens = np.random.default_rng(0).integers(0, SHAPE.vocab, (64, SHAPE.context + 1))
    loss, log_z, _ = jax.jit(lambda *of: model.losses(fresh, *of, shape))(tokens[:, :-1], tokens[:, 1:])
    assert loss.mean() == pytest.approx(np.log(SHAPE.vocab), abs=0.05)
    assert loss.shape == log_z.shape == (64 * SHAPE.context,)


def test_the_gradient_agrees_with_finite_differences(params):
    tokens = np.random.default_rng(1).integers(0, SHAPE.vocab, (2, SHAPE.context + 1))

    @jax.jit
    def loss(p):
        return model.cross_entropy(model.logits(p, tokens[:, :-1], SHAPE), tokens[:, 1:].reshape(-1))[0].mean()

    gradient = jax.jit(jax.grad(loss))(params)
    for name in params:
        direction = np.asarray(jax.random.normal(jax.random.key(3), params[name].shape))
        step = 1e-2 / np.linalg.norm(direction)
        ahead, behind = (loss({**params, name: params[name] + sign * step * direction}) for sign in (1, -1))
        exact = float(np.vdot(gradient[name], direction))
        assert float((ahead - behind) / (2 * step)) == pytest.approx(exact, rel=0.05, abs=0.02)
