"""The transformer: what may and may not influence a prediction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.shape import Shape
from scaling.training import model

SHAPE = Shape(2, 32, 2, vocab=17, context=12)


@pytest.fixture(scope="module")
def params():
    """Parameters with nothing left at its initial zero, so that every path carries signal."""
    fresh = model.init(SHAPE, jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), len(fresh)))
    return {name: leaf + 0.1 * jax.random.normal(next(keys), leaf.shape) for name, leaf in fresh.items()}


def test_no_token_sees_its_future(params):
    """The gradient of the prediction at time t by the embedding at time s is 0 exactly where s > t."""
    token_BT = jnp.arange(SHAPE.context)[None] % SHAPE.vocab

    def predictions(embedded_TM):
        own = {**params, "embed": embedded_TM}
        return model.logits(own, jnp.arange(SHAPE.context)[None], SHAPE).sum(-1)

    influence_TS = jnp.abs(jax.jacobian(predictions)(params["embed"][token_BT[0]])).sum(-1)
    seen = np.asarray(influence_TS > 0)
    assert np.array_equal(seen, np.tril(np.ones_like(seen)))


def test_rows_do_not_see_each_other(params):
    tokens = np.random.default_rng(0).integers(0, SHAPE.vocab, (4, SHAPE.context))
    together = model.logits(params, tokens, SHAPE).reshape(4, SHAPE.context, -1)
    for row in range(4):
        alone = model.logits(params, tokens[row : row + 1], SHAPE)
        np.testing.assert_allclose(together[row], alone, atol=1e-5)


def test_a_shift_in_time_changes_nothing():
    """Rotary positions are relative: the same tokens after a longer blank give the same scores."""
    q, k = jax.random.normal(jax.random.key(2), (2, 1, SHAPE.context, 1, 16))
    blank = jnp.zeros((1, 5, 1, 16))
    scores = []
    for before in (blank, blank[:, :0]):
        late = [jnp.concatenate([before, x, blank[:, before.shape[1] :]], axis=1) for x in (q, k)]
        turned = [model._turned(x, 1)[:, before.shape[1] :][:, : SHAPE.context] for x in late]
        scores.append(jnp.einsum("bthk,bshk->ts", *turned))
    np.testing.assert_allclose(*scores, atol=1e-4)


def plain_attention(qkv_XC, gain_H, T):
    """What `model.attention` is, in as few lines as it can be said."""
    q, k, v = (x[:, :, 0] for x in jnp.split(qkv_XC.reshape(-1, T, 3, len(gain_H), 16), 3, axis=2))
    q, k = (model._turned(model._unit_rms(x), 1) for x in (q, k))
    score = jnp.einsum("bthk,bshk->bhts", q * gain_H[None, None, :, None] / 16, k)
    weight = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((T, T), bool))[None, None], score, -jnp.inf))
    return jnp.einsum("bhts,bshk->bthk", weight, v).reshape(len(qkv_XC), -1)


def test_attention_and_its_derivative_are_those_of_the_plain_one():
    qkv, weights = jax.random.normal(jax.random.key(4), (2, 3 * SHAPE.context, 96))
    gain = jnp.array([4.0, -1.5])

    def loss(attention, qkv, gain):
        return (attention(qkv, gain, SHAPE.context) * weights[:, :32]).sum()

    found, plain = (jax.value_and_grad(loss, (1, 2))(each, qkv, gain) for each in (model.attention, plain_attention))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(plain)):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)


def test_attention_stays_a_number_under_any_gain():
    qkv = jax.random.normal(jax.random.key(4), (SHAPE.context, 96))
    value, gradient = jax.value_and_grad(lambda gain: model.attention(qkv, gain, SHAPE.context).sum())(
        jnp.array([1e4, -1e4])
    )
    assert np.isfinite([value, *gradient]).all()


def test_a_fresh_model_guesses():
    fresh = model.init(SHAPE, jax.random.key(0))
    tokens = np.random.default_rng(0).integers(0, SHAPE.vocab, (64, SHAPE.context + 1))
    loss, log_z = model.cross_entropy(model.logits(fresh, tokens[:, :-1], SHAPE), tokens[:, 1:].reshape(-1))
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
