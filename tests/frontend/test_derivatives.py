"""`jvp`, `vjp`, `jacfwd`, `jacrev`, `hessian`: values by hand, nesting, structures, errors."""

from typing import NamedTuple

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import DTypeError, ShapeError, Tensor
from needle_ir.passes import NotDifferentiableError
from tests.frontend.test_autograd import close

X = np.array([0.5, -1.0, 2.0])
V = np.array([1.0, 0.0, -2.0])
W = np.array([[1.0, -2.0, 0.5], [0.5, 3.0, -1.0]])


def cubes(x):
    return (x**3).sum()


# jvp and vjp --------------------------------------------------------------------------------------


def test_jvp_is_the_value_and_the_slope_along_the_tangent():
    value, slope = ndl.jvp(lambda x: ndl.exp(2 * x), (X,), (V,))
    assert close(value, np.exp(2 * X))
    assert close(slope, 2 * np.exp(2 * X) * V)


def test_jvp_of_several_arguments_adds_up():
    value, slope = ndl.jvp(lambda a, b: a * b, (X, 3.0), (V, 10.0))
    assert close(value, 3 * X)
    assert close(slope, 3 * V + 10 * X)


def test_vjp_pulls_a_cotangent_back():
    value, pullback = ndl.vjp(lambda x: W @ x, X)
    assert close(value, W @ X)
    (pulled,) = pullback(np.array([1.0, 10.0]))
    assert close(pulled, W.T @ [1, 10])


def test_a_pullback_can_be_called_again():
    calls = []

    def function(x, y):
        calls.append(1)
        return x * y

    _, pullback = ndl.vjp(function, X, V)
    for scale in (1.0, 5.0):
        by_x, by_y = pullback(np.full(3, scale))
        assert close(by_x, scale * V)
        assert close(by_y, scale * X)
    assert len(calls) == 1


def test_a_pullback_is_linear_in_its_cotangent_and_can_be_differentiated_by_it():
    _, pullback = ndl.vjp(ndl.tanh, X)
    assert close(ndl.jacrev(lambda ct: pullback(ct)[0])(V), np.diag(1 - np.tanh(X) ** 2))


class Pair(NamedTuple):
    a: object
    b: object


def test_nested_arguments_and_results():
    def function(params, scale):
        w, (b, c) = params["w"], params["rest"]
        return {"sum": (w.sum() * scale, b * c.a), "b": [c.b * 2]}

    params = {"w": X, "rest": (2.0, Pair(3.0, 5.0))}
    tangents = {"w": V, "rest": (1.0, Pair(10.0, 100.0))}
    result, slope = ndl.jvp(function, (params, 4.0), (tangents, 7.0))
    assert close(result["sum"][0], 4 * X.sum())
    assert close(slope["sum"][0], 4 * V.sum() + 7 * X.sum())
    assert close(slope["sum"][1], 1 * 3 + 10 * 2)
    assert close(slope["b"][0], 200)

    _, pullback = ndl.vjp(function, params, 4.0)
    by_params, by_scale = pullback({"sum": (1.0, 10.0), "b": [100.0]})
    assert list(by_params) == ["w", "rest"]
    assert isinstance(by_params["rest"][1], Pair)
    assert close(by_params["w"], np.full(3, 4))
    assert close(by_params["rest"][0], 30)
    assert close(by_params["rest"][1].a, 20)
    assert close(by_params["rest"][1].b, 200)
    assert close(by_scale, X.sum())


def test_several_dtypes_side_by_side():
    half = np.array([1.0, 2.0], np.float16)

    def function(x, h):
        return x.sum(), h * 3

    _, slope = ndl.jvp(function, (X, half), (V, half))
    assert [y.dtype for y in slope] == [np.float64, np.float16]
    assert close(slope[0], V.sum())
    assert close(slope[1], 3 * half)
    _, pullback = ndl.vjp(function, X, half)
    by_x, by_h = pullback((2.0, half))
    assert [x.dtype for x in (by_x, by_h)] == [np.float64, np.float16]
    assert close(by_h, 3 * half)


def test_a_number_is_a_tangent_of_the_dtype_beside_it():
    _, slope = ndl.jvp(lambda x: x * x, (np.float64(3.0),), (1,))
    assert slope.dtype == np.float64
    assert close(slope, 6)


def test_nothing_in_and_nothing_out():
    value, slope = ndl.jvp(lambda nothing: Tensor(X), ((),), ((),))
    assert close(value, X)
    assert close(slope, 0 * X)
    assert ndl.jvp(lambda x: (), (X,), (V,)) == ((), ())
    (zero,) = ndl.vjp(lambda x: (), X)[1](())
    assert close(zero, 0 * X)


def test_what_does_not_depend_on_the_argument_has_no_slope():
    value, slope = ndl.jvp(lambda x: (x, Tensor(5.0)), (X,), (V,))
    assert close(value[1], 5)
    assert close(slope[1], 0)


def test_a_tensor_from_outside_is_a_constant():
    outside = Tensor(X)
    _, slope = ndl.jvp(lambda x: x * outside, (X,), (V,))
    assert close(slope, V * X)


# Jacobians and Hessians ---------------------------------------------------------------------------

JACOBIANS = pytest.mark.parametrize("jacobian", [ndl.jacrev, ndl.jacfwd])


@JACOBIANS
def test_the_jacobian_of_a_linear_map_is_its_matrix(jacobian):
    assert close(jacobian(lambda x: W @ x)(X), W)


@JACOBIANS
def test_a_jacobian_has_the_axes_of_the_result_before_those_of_the_argument(jacobian):
    def outer(x, y):
        return x.reshape(3, 1) * y.reshape(1, 2)

    y = np.array([2.0, -1.0])
    by_x, by_y = jacobian(outer, argnums=(0, 1))(X, y)
    assert close(by_x, np.einsum("ik,j->ijk", np.eye(3), y))
    assert close(by_y, np.einsum("i,jk->ijk", X, np.eye(2)))


@JACOBIANS
def test_nested_jacobians(jacobian):
    def function(params, scale):
        return {"y": params["w"] * scale, "s": (params["w"].sum(),)}

    found = jacobian(function)({"w": X}, 3.0)
    assert close(found["y"]["w"], 3 * np.eye(3))
    assert close(found["s"][0]["w"], np.ones(3))
    by_scale = jacobian(function, argnums=1)({"w": Tensor(X)}, 3.0)
    assert close(by_scale["y"], X)
    assert close(by_scale["s"][0], 0)


@JACOBIANS
@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_the_jacobian_of_nothing_is_empty(jacobian, shape):
    x = np.ones(shape)
    assert jacobian(lambda x: x * 2)(x).shape == shape + shape
    assert close(jacobian(lambda x: x.sum())(x), np.zeros(shape))


@JACOBIANS
def test_has_aux(jacobian):
    found, aux = jacobian(lambda x: (x * x, {"seen": 5}), has_aux=True)(X)
    assert close(found, np.diag(2 * X))
    assert aux == {"seen": 5}


def test_has_aux_of_the_others():
    def function(x):
        return cubes(x), "aux"

    value, slope, aux = ndl.jvp(function, (X,), (V,), has_aux=True)
    assert close(value, (X**3).sum())
    assert close(slope, (3 * X**2 * V).sum())
    _, pullback, other = ndl.vjp(function, X, has_aux=True)
    assert close(pullback(1.0)[0], 3 * X**2)
    matrix, third = ndl.hessian(function, has_aux=True)(X)
    assert close(matrix, np.diag(6 * X))
    assert aux == other == third == "aux"


def test_the_hessian_of_a_quadratic_form():
    a = W.T @ W + np.arange(9).reshape(3, 3)
    assert close(ndl.hessian(lambda x: x @ a @ x)(X), a + a.T)


def test_hessian_blocks():
    def function(params, y):
        return (params["w"] * y).sum() ** 2 + params["b"] ** 3

    params = {"w": X, "b": np.float64(2.0)}
    found = ndl.hessian(function)(params, V)
    assert close(found["w"]["w"], 2 * np.outer(V, V))
    assert close(found["w"]["b"], np.zeros(3))
    assert close(found["b"]["w"], np.zeros(3))
    assert close(found["b"]["b"], 12)
    blocks = ndl.hessian(function, argnums=(0, 1))(params, V)
    assert close(blocks[1][1], 2 * np.outer(X, X))
    assert close(blocks[0]["w"][1], 2 * np.outer(V, X) + 2 * (X @ V) * np.eye(3))


def test_the_hessian_of_an_argument_by_number_and_keyword():
    def function(a, b, *, power):
        return ((a * b) ** power).sum()

    found = ndl.hessian(function, argnums=-1)(X, V, power=2)
    assert close(found, np.diag(2 * X**2))


def test_the_hessian_of_the_log_sum_exp_where_exp_overflows():
    x = np.array([1000.0, 999.0])
    p = 1 / (1 + np.exp(-1.0))
    expected = p * (1 - p) * np.array([[1, -1], [-1, 1]])
    assert close(ndl.hessian(lambda x: ndl.log(ndl.exp(x).sum()))(x), expected)


# Nested in any order ------------------------------------------------------------------------------


def test_hessian_vector_product():
    _, product = ndl.jvp(ndl.grad(cubes), (X,), (V,))
    assert close(product, 6 * X * V)


def slope_along(fn, v):
    return lambda x: ndl.jvp(fn, (x,), (v,))[1]


def pulled(fn, ct):
    return lambda x: ndl.vjp(fn, x)[1](ct)[0]


ORDERS = {
    "jvp of jvp of jvp": lambda f: slope_along(slope_along(slope_along(f, V), V), V)(X),
    "jvp of jvp of grad": lambda f: (slope_along(slope_along(ndl.grad(f), V), V)(X) * V).sum(),
    "jvp of grad of jvp": lambda f: (slope_along(ndl.grad(slope_along(f, V)), V)(X) * V).sum(),
    "grad of jvp of jvp": lambda f: (ndl.grad(slope_along(slope_along(f, V), V))(X) * V).sum(),
    "grad of grad . v": lambda f: (
        slope_along(ndl.grad(lambda x: (ndl.grad(f)(x) * V).sum()), V)(X) * V
    ).sum(),
    "vjp of vjp of jvp": lambda f: (pulled(pulled(slope_along(f, V), 1.0), V)(X) * V).sum(),
    "hessian of jvp": lambda f: V @ ndl.hessian(slope_along(f, V))(X) @ V,
    "jacfwd of hessian": lambda f: ndl.jacfwd(ndl.hessian(f))(X) @ V @ V @ V,
    "jacrev of jacfwd of grad": lambda f: ndl.jacrev(ndl.jacfwd(ndl.grad(f)))(X) @ V @ V @ V,
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=list(ORDERS))
def test_third_derivatives_in_any_order(order):
    def function(x):
        return (ndl.exp(x) * x).sum() + (x[0] * x[1] * x[2]) ** 2

    # exp(x) x has the third derivative exp(x) (x + 3). The product's terms are by a polynomial in
    # the step: (prod(x + h v))² = (b0 + b1 h + b2 h² + b3 h³)², whose h³ term counts 3! times.
    b = np.poly1d([1.0])
    for x, v in zip(X, V, strict=True):
        b = b * np.poly1d([v, x])
    expected = (np.exp(X) * (X + 3) * V**3).sum() + 6 * (b * b).coeffs[::-1][3]
    np.testing.assert_allclose(order(function).numpy(), expected, rtol=1e-12)


def test_grad_through_a_pullback_sees_the_cotangent_too():
    # d/dx of x³'s pullback of x itself: 3x² · x has the derivative 9x².
    assert close(ndl.grad(lambda x: ndl.vjp(lambda y: y**3, x)[1](x)[0].sum())(X), 9 * X**2)


def test_backward_goes_through_a_jvp():
    x, v = Tensor(X), Tensor(V)
    _, slope = ndl.jvp(lambda x: x**3, (x,), (v,))
    slope.sum().backward()
    assert close(x.grad, 6 * X * V)
    assert close(v.grad, 3 * X**2)


# Where they can stand -----------------------------------------------------------------------------

MODES = {
    "jit": lambda fn, *args: ndl.jit(fn)(*args),
    "compile": lambda fn, *args: ndl.compile(fn, *args)(*args),
    "no_grad": lambda fn, *args: _without_grad(fn, *args),
    "twice": lambda fn, *args: [f := ndl.jit(fn), f(*args), f(*args)][-1],
}


def _without_grad(fn, *args):
    with ndl.no_grad():
        return fn(*args)


@pytest.mark.parametrize("mode", MODES.values(), ids=list(MODES))
def test_inside_of_what_is_compiled(mode):
    value, slope = mode(lambda x, v: ndl.jvp(ndl.grad(cubes), (x,), (v,)), X, V)
    assert close(value, 3 * X**2)
    assert close(slope, 6 * X * V)
    assert close(mode(ndl.hessian(cubes), X), np.diag(6 * X))
    assert close(
        mode(lambda x, ct: ndl.vjp(ndl.tanh, x)[1](ct)[0], X, V), (1 - np.tanh(X) ** 2) * V
    )


def test_of_a_function_that_is_jitted():
    _, slope = ndl.jvp(ndl.jit(cubes), (X,), (V,))
    assert close(slope, (3 * X**2 * V).sum())


def test_it_is_recorded_as_requests():
    graph = ndl.trace(lambda x, v: ndl.jvp(cubes, (x,), (v,)), X, V)
    assert graph.count("grad") == 2


def test_reverse_mode_leaves_nothing_behind_in_forward_mode():
    """The cotangent drops out, and with it what served the VJP only."""
    compiled = ndl.compile(lambda x, v: ndl.jvp(lambda x: ndl.tanh(W @ x), (x,), (v,)), X, V)
    ops = [node.op.name for node in compiled.graph.nodes]
    assert ops.count("matmul") == 2
    assert ops.count("tanh") == 1
    assert "broadcast_to" not in ops


def test_reading_a_value_while_it_is_traced_is_refused():
    def function(x):
        return x * float(x)

    with pytest.raises(ndl.TracedValueError, match="asked for while it"):
        ndl.jit(lambda x, v: ndl.jvp(function, (x,), (v,)))(Tensor(2.0), Tensor(1.0))
    _, slope = ndl.jvp(function, (2.0,), (1.0,))
    assert close(slope, 2)


def test_through_the_layers_of_a_network():
    random = np.random.default_rng(0)
    shapes = {"w1": (3, 4), "b1": (4,), "scale": (4,), "shift": (4,), "w2": (4, 2), "b2": (2,)}
    params = {name: random.standard_normal(shape) for name, shape in shapes.items()}
    tangents = {name: random.standard_normal(shape) for name, shape in shapes.items()}
    x, keep = random.standard_normal((5, 3)), random.random((5, 4)) < 0.5

    def loss(p, norm):
        h = ndl.relu(norm(ndl.ops.linear(x, p["w1"], p["b1"]), p["scale"], p["shift"], eps=1e-3))
        h = ndl.ops.dropout(h, keep, p=0.5)
        return ndl.ops.softmax_loss(ndl.ops.linear(h, p["w2"], p["b2"]), np.array([0, 1, 0, 1, 1]))

    for norm in (ndl.ops.batch_norm, ndl.ops.layer_norm):
        value, slope = ndl.jvp(lambda p, norm=norm: loss(p, norm), (params,), (tangents,))
        h = 1e-6
        moved = [{k: Tensor(params[k] + s * h * tangents[k]) for k in shapes} for s in (-1, 0, 1)]
        behind, here, ahead = [loss(p, norm).item() for p in moved]
        assert close(value, here)
        np.testing.assert_allclose(slope.item(), (ahead - behind) / (2 * h), rtol=1e-7)
        (by_params,) = ndl.vjp(lambda p, norm=norm: loss(p, norm), params)[1](1.0)
        total = sum((by_params[k].numpy() * tangents[k]).sum() for k in shapes)
        np.testing.assert_allclose(slope.item(), total, rtol=1e-12)


def test_random_draws_are_the_same_for_value_and_slope():
    def function(x):
        return ndl.ops.dropout(x, ndl.init.randb(1000, p=0.5), p=0.5)

    x = np.ones(1000, np.float32)
    for run in (lambda f: f(x), lambda f: ndl.jit(f)(x)):
        value, slope = run(lambda x: ndl.jvp(function, (x,), (x,)))
        np.testing.assert_array_equal(value.numpy(), slope.numpy())
        assert set(value.numpy()) == {0, 2}


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("primals", "tangents", "error", "words"),
    [
        ((X,), (V, V), ValueError, "the tangents have another structure"),
        (({"a": X},), ({"b": X},), ValueError, "the tangents have another structure"),
        (({"a": X},), (X,), ValueError, "the tangents have another structure"),
        ((X,), (V[:2],), ShapeError, r"tangent 0 has the shape \(2,\); it belongs to \(3,\)"),
        ((X,), (1.0,), ShapeError, r"tangent 0 has the shape \(\); it belongs to \(3,\)"),
        ((X,), (V.astype(np.float32),), DTypeError, r"tangent 0 is float32.*astype\('float64'\)"),
        ((X,), (V.astype(int),), DTypeError, "tangent 0 is int64; it belongs to float64"),
        ((V.astype(int),), (V,), DTypeError, "argument 0 is of int64"),
        (X, (V,), TypeError, r"primals is a tuple .* not ndarray; write \(primal,\)"),
        ((X,), V, TypeError, r"tangents is a tuple .* not ndarray; write \(tangent,\)"),
    ],
)
def test_jvp_refuses(primals, tangents, error, words):
    with pytest.raises(error, match=words):
        ndl.jvp(lambda *xs: xs[0], primals, tangents)


@pytest.mark.parametrize(
    ("cotangents", "error", "words"),
    [
        (V, ValueError, "the cotangents have another structure"),
        ((V, (1.0,)), ValueError, "the cotangents have another structure"),
        ((V, 1.0, 1.0), ValueError, "the cotangents have another structure"),
        ([V, 1.0], ValueError, "the cotangents have another structure"),
        ((V[:1], 1.0), ShapeError, r"cotangent 0 has the shape \(1,\)"),
        ((V, np.float32(1)), DTypeError, "cotangent 1 is float32; it belongs to float64"),
    ],
)
def test_a_pullback_refuses(cotangents, error, words):
    _, pullback = ndl.vjp(lambda x: (x, x.sum()), X)
    with pytest.raises(error, match=words):
        pullback(cotangents)


@pytest.mark.parametrize(
    "call",
    [
        lambda fn: ndl.jvp(fn, (X,), (V,)),
        lambda fn: ndl.vjp(fn, X),
        lambda fn: ndl.jacrev(fn)(X),
        lambda fn: ndl.jacfwd(fn)(X),
    ],
)
def test_results_that_are_no_tensors_or_no_floats(call):
    with pytest.raises(DTypeError, match="the function returned float; it must return tensors"):
        call(lambda x: 5.0)
    with pytest.raises(DTypeError, match="returned a tensor of bool, which has no derivative"):
        call(lambda x: (x, x > 0))


def test_the_hessian_of_what_is_no_scalar():
    with pytest.raises(ShapeError, match=r"returned shape \(3,\); it must return a scalar.*jacrev"):
        ndl.hessian(lambda x: x * x)(X)


def test_has_aux_needs_a_pair():
    with pytest.raises(TypeError, match=r"returns a pair \(result, aux\), not Tensor"):
        ndl.jvp(cubes, (X,), (V,), has_aux=True)


def test_argnums_out_of_range():
    with pytest.raises(ValueError, match="argnums=3, but there are 1 arguments"):
        ndl.jacrev(cubes, argnums=3)(X)


def test_an_op_without_a_derivative_is_named_with_its_line():
    floor = ndl.ir.Op(name="floor", infer=lambda x: x)

    def function(x):
        return ndl.ops.apply(floor, x) * x

    with pytest.raises(NotDifferentiableError, match=r"floor has no.*test_derivatives\.py:\d+"):
        ndl.compile(lambda x, v: ndl.jvp(function, (x,), (v,)), X, V)
