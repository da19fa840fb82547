"""Counts of a shape against the arrays of a built model, and the ladder."""

import itertools
import math

import jax
import numpy as np
import pytest

from scaling.shape import Aspect, Shape
from scaling.training import model

SHAPES = [
    Shape.of_depth(1),
    Shape.of_depth(3, vocab=300, context=32),
    Shape(2, 48, 4, mlp_ratio=2),
    Shape(2, 48, 4, tied=True, positions="learned", mlp="swiglu"),
    Shape(2, 48, 4, mlp="relu2"),
    Shape(2, 40, 4, mlp="swiglu", mlp_ratio=8 / 3),
    Shape(2, 31, 1, positions="learned"),
]
MORE = [
    Shape(2, 48, 4, kv_heads=2),
    Shape(2, 48, 4, kv_heads=1, mlp="swiglu", experts=4, experts_per_token=2, tied=True),
]


@pytest.mark.parametrize("shape", [*SHAPES, *MORE])
def test_counts_are_those_of_the_arrays(shape):
    params = jax.eval_shape(lambda key: model.init(shape, key), jax.random.key(0))
    size = {name: math.prod(leaf.shape) for name, leaf in params.items()}
    assert sum(size.values()) == shape.N
    assert shape.N_embedding == size["embed"]
    assert shape.N_head == size.get("head", 0)
    met = {name: shape.experts_per_token / shape.experts if shape.experts else 1 for name in ("up", "down")}
    products = sum(met.get(name, 1) * size.get(name, 0) for name in ("qkv", "out", "up", "down", "router"))
    assert shape.N_matmul == products + size["embed"]
    assert shape.N_active == sum(met.get(name, 1) * each for name, each in size.items())
    assert shape.N_nonembedding == shape.N - size["embed"] - size.get("head", 0) - size.get("positions", 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_flops_are_those_of_the_products(shape):
    """XLA's own count of the forward products, full attention where ours is causal, and twice that backward."""
    tokens = np.zeros((1, shape.context), np.int32)
    params = jax.eval_shape(lambda key: model.init(shape, key), jax.random.key(0))
    jaxpr = jax.make_jaxpr(lambda p, t: model.logits(p, t, shape))(params, tokens)
    products = sum(_product_flops(equation) for equation in _equations(jaxpr.jaxpr))
    attention = 4 * shape.depth * shape.context * shape.width * shape.context
    assert 3 * (products - attention / 2) == shape.flops_per_token * shape.context


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in _inner(equation):
            yield from _equations(inner)


def _inner(equation):
    for value in equation.params.values():
        inner = getattr(value, "jaxpr", value)
        if hasattr(inner, "eqns"):
            yield inner


def _product_flops(equation):
    if equation.primitive.name != "dot_general":
        return 0
    (contract, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contract)


def test_gpt2_by_the_same_formula():
    """6N over exact FLOPs, causal: .936 for GPT-2, whose head is its embedding (COST: memory, FLOPs, time)."""
    shape = Shape(12, 768, 12, vocab=50257, context=1024)
    tied = 124_439_808
    assert 6 * tied / shape.flops_per_token == pytest.approx(0.936, abs=1e-3)


def test_near_finds_a_neighbour_all_along_the_ladder():
    targets = np.geomspace(5e3, 1e9, 60)
    found = [Shape.near(N) for N in targets]
    assert max(abs(math.log(shape.N / N)) for shape, N in zip(found, targets)) < math.log(1.2)
    assert all(small.N <= large.N for small, large in itertools.pairwise(found))


def test_near_keeps_the_options():
    shape = Shape.near(2e5, mlp="swiglu", kv_heads=1, tied=True, experts=4, experts_per_token=1)
    assert (shape.mlp, shape.kv_heads, shape.tied, shape.experts) == ("swiglu", 1, True, 4)
    assert abs(math.log(shape.N / 2e5)) < math.log(1.2)


def test_the_dial_rises_in_everything():
    dial = [Shape.of_depth(depth) for depth in range(1, 40)]
    assert all(a.width <= b.width and a.N < b.N for a, b in itertools.pairwise(dial))
    assert all(shape.head_width % 2 == 0 for shape in dial)


@pytest.mark.parametrize("head_width", [16, 24, 32, 64])
def test_a_ladder_keeps_the_head_width_asked_for(head_width):
    least = Shape.of_width(2, head_width, head_width=head_width).N
    ladder = [(N, Shape.near(N, head_width=head_width)) for N in np.geomspace(least, 1e9, 40)]
    assert {shape.head_width for _, shape in ladder} == {head_width}
    assert max(abs(math.log(shape.N / N)) for N, shape in ladder) < math.log(1.5)
    assert Shape.of_depth(5, head_width=head_width).head_width == head_width


def test_a_ladder_follows_the_aspect_asked_for():
    assert Shape.near(1e8, aspect=Aspect(16, 1.3)) == Shape.near(1e8)
    assert Shape.of_depth(12, aspect=Aspect(64, 1)).width == 768  # GPT-2
    for N in np.geomspace(1e6, 1e9, 20):
        assert 40 <= Shape.near(N, aspect=Aspect(64, 1)).width / Shape.near(N, aspect=Aspect(64, 1)).depth <= 102.4


def test_a_ladder_of_one_depth_changes_its_width_alone():
    ladder = [(N, Shape.near(N, depth=6)) for N in np.geomspace(3e4, 1e9, 40)]
    assert {shape.depth for _, shape in ladder} == {6}
    assert max(abs(math.log(shape.N / N)) for N, shape in ladder) < math.log(1.2)


def test_an_mlp_of_a_broken_ratio_has_a_whole_width():
    shape = Shape(2, 64, 4, mlp="swiglu", mlp_ratio=2.6667)
    assert shape.mlp_width == 171
    assert shape.N_blocks == 2 * (4 * 64**2 + 3 * 64 * 171)
    assert repr(Shape(2, 64, 4, mlp_ratio=2.0)) == repr(Shape(2, 64, 4, mlp_ratio=2))


def test_experts_that_a_token_does_not_visit_are_idle():
    assert Shape(2, 48, 4).N_idle == 0
    shape = Shape(2, 48, 4, experts=8, experts_per_token=1)
    assert shape.N_idle == 2 * 7 * 2 * 4 * 48**2 == shape.N - shape.N_active


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Shape(1, 30, 2), "even head width"),
        (lambda: Shape(1, 32, 5), "32 with 5 heads: needed heads that divide the width. Use heads = 2"),
        (lambda: Shape(1, 32, 5, positions="learned"), "divide the width"),
        (lambda: Shape(0, 32, 2), "depth = 0"),
        (lambda: Shape.of_width(2, 0), "width = 0: a shape needs a whole number"),
        (lambda: Shape.of_width(2, -4), "width = -4"),
        (lambda: Shape.of_width(2, "32"), "width = '32'"),
        (lambda: Shape.of_depth("2"), "depth = '2'"),
        (lambda: Shape(2, 32, 2, mlp_ratio=0), "mlp_ratio = 0"),
        (lambda: Shape(2, 32, 2, mlp_ratio="4"), "mlp_ratio = '4'"),
        (lambda: Shape.of_width(2, 40, head_width=32), "Use width = 32"),
        (lambda: Shape.of_width(2, 32, head_width=16, heads=2), "give one of them"),
        (lambda: Shape.near(1e5, head_width=0), "head_width = 0"),
        (lambda: Shape.near(1e5, head_width=15), "even head width"),
        (lambda: Shape.near(1e5, depth=2, aspect=Aspect()), "Give one of them"),
        (lambda: Shape.near(1e5, aspect=Aspect(0.1, 0)), "larger aspect.width"),
        (lambda: Aspect(-1, 1), "aspect.width = -1"),
        (lambda: Aspect(16, 5), "aspect.power = 5"),
        (lambda: Shape(1, 32, 2, vocab=2.5), "vocab = 2.5"),
        (lambda: Shape(2, 32, 2, mlp="silu"), "mlp = 'silu'"),
        (lambda: Shape(2, 32, 2, positions="alibi"), "positions = 'alibi'"),
        (lambda: Shape(2, 32, 4, kv_heads=3), "divisor of the 4 heads"),
        (lambda: Shape(2, 32, 2, experts=4), "experts_per_token = 0"),
        (lambda: Shape(2, 32, 2, experts=4, experts_per_token=5), "experts_per_token = 5"),
        (lambda: Shape.near(3e4, width=32), "chooses it"),
        (lambda: Shape.near(100), "cannot be built"),
        (lambda: Shape.near(float("nan")), "positive number"),
        (lambda: Shape.of_width(2, 7), "an even width"),
        (lambda: Shape.of_depth(0), "depth = 0: a shape needs"),
    ],
)
def test_what_cannot_be_built_says_why(make, says):
    with pytest.raises(ValueError, match=says):
        make()
