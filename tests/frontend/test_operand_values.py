"""Numbers that a dtype or an op does not take: as NumPy 2 has it, told at the user's line."""

import warnings
from pathlib import Path

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import DTypeError, Tensor
from needle_ir.ir import OperandIndexError, OperandValueError

HERE = Path(__file__).name
X = Tensor(np.array([2, 3]), requires_grad=False)
LATE = Tensor(np.array([1, -1]), requires_grad=False)


def late_power(x):
    return x**LATE


@pytest.mark.parametrize("exponent", [-1, np.int64(-2), np.array([1, -1])])
def test_an_integer_to_a_negative_power_is_refused_at_once(exponent):
    with pytest.raises(OperandValueError, match=r"power\(i64\[2\], -[12]\).*astype.*test_operand"):
        X**exponent


@pytest.mark.parametrize("exponent", [2, -1.0, np.array([0.5, -1.0]), np.uint8(2), True])
def test_other_powers_of_integers(exponent):
    result = X**exponent
    np.testing.assert_array_equal(result.numpy(), X.numpy() ** exponent)


def test_a_float_to_a_negative_power():
    np.testing.assert_allclose((Tensor([2.0, 4.0]) ** -1).numpy(), [0.5, 0.25])


@pytest.mark.parametrize("run", [late_power, ndl.jit(late_power)], ids=["recorded", "jit"])
def test_a_power_that_is_known_late_is_refused_with_the_line(run):
    for _ in range(2):
        with pytest.raises(OperandValueError) as raised:
            run(X).numpy()
        assert str(raised.value).startswith("power(i64[2], i64[2]): Integers to negative")
        assert str(raised.value).endswith(f"(at {HERE}:{line_of('x**LATE')} in late_power)")
    assert isinstance(raised.value, ValueError)


def line_of(text):
    lines = Path(__file__).read_text().splitlines()
    return next(i for i, line in enumerate(lines, 1) if text in line)


def test_inside_of_a_cluster_the_op_is_named():
    def fused(x):
        return (x + 1) * 2 - (x + 1) ** LATE + 1

    compiled = ndl.compile(fused, X, pipeline="cse, fuse{min_bytes=0}")
    assert [step.node.op.name for step in compiled.plan.steps] == ["fused"]
    with pytest.raises(OperandValueError, match=r"power\(i64\[2\], i64\[2\]\).*in fused\)"):
        compiled(X)
    good = ndl.compile(lambda x, y: (x + 1) * 2 - (x + 1) ** y + 1, X, X)
    np.testing.assert_array_equal(good(X, X).numpy(), [6 - 9 + 1, 8 - 64 + 1])


def test_in_a_tiled_cluster_too():
    n = 1 << 19
    x = Tensor(np.full(n, 3), requires_grad=False)
    y = Tensor(np.r_[np.zeros(n - 1, np.int64), -1], requires_grad=False)
    compiled = ndl.compile(lambda x, y: (x + 1) * 2 - (x + 1) ** y + 1, x, y)
    assert "zip(" in compiled.source
    with pytest.raises(OperandValueError, match=r"power\(i64\[524288\], i64\[524288\]\)"):
        compiled(x, y)


def test_a_fold_that_is_not_defined_waits_for_the_run():
    def unused_or_not(x):
        bad = ndl.ops.power(ndl.ops.as_constant(np.array([2, 3])), x * 0 - 1)
        return ndl.where(Tensor(np.array([True, False]), requires_grad=False), x, bad)

    with pytest.raises(OperandValueError, match="in unused_or_not"):
        ndl.compile(unused_or_not, X)(X)


def test_an_index_out_of_range_is_refused_with_the_line():
    table, index = Tensor([1.0, 2.0]), Tensor(np.array([0, 1])) + 1
    picked = table[index]
    with pytest.raises(OperandIndexError, match=rf"^gather\(f32\[2\], i64\[2\]\): .*{HERE}"):
        picked.numpy()


# Numbers that are infinite in the dtype -----------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "number"), [(np.float32, 1e300), (np.float16, -70000.0), (np.float32, 10**39)]
)
def test_a_number_that_is_infinite_in_the_dtype_is_warned_of(dtype, number):
    x = Tensor(np.ones(2), dtype=dtype)
    with pytest.warns(RuntimeWarning, match="overflow encountered in cast: .* is infinite") as seen:
        product = x * number
    assert (seen[0].filename, seen[0].lineno) == (__file__, line_of("product = x * number"))
    np.testing.assert_array_equal(product.numpy(), [np.copysign(np.inf, number)] * 2)


def test_it_is_told_as_errstate_has_it():
    x = Tensor([1.0])
    with np.errstate(over="ignore"), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (x * 1e300).item() == np.inf
    with np.errstate(over="raise"), pytest.raises(FloatingPointError, match="1e\\+300 is infinite"):
        x * 1e300


@pytest.mark.parametrize("number", [65519.0, 3.4028235e38, np.inf, -np.inf, np.nan, 1e-300])
def test_other_numbers_are_not_warned_of(number):
    dtype = np.float16 if number == 65519.0 else np.float32
    x = Tensor(np.ones(1), dtype=dtype)
    np.testing.assert_array_equal((x * number).numpy(), np.ones(1, dtype) * number)


# Comparisons of integers --------------------------------------------------------------------------

SIGNED = np.array([2**63 - 1, -1, 0, -(2**63), 2**53 + 1])
UNSIGNED = np.array([2**63, 2**64 - 1, 0, 2**63, 2**53], np.uint64)
COMPARISONS = ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]


@pytest.mark.parametrize("name", COMPARISONS)
@pytest.mark.parametrize("dtype", [np.int64, np.int8])
def test_signed_beside_unsigned_as_numpy(name, dtype):
    signed = SIGNED.astype(dtype)
    a, b = (Tensor(x, requires_grad=False) for x in (signed, UNSIGNED))
    for x, y in ((a, b), (b, a)):
        ours = getattr(ndl.ops, name)(x, y).numpy()
        np.testing.assert_array_equal(ours, getattr(np, name)(x.numpy(), y.numpy()))
        both = ndl.compile(lambda x, y: getattr(ndl.ops, name)(x + x, y), x, y)(x, y).numpy()
        np.testing.assert_array_equal(both, getattr(np, name)(x.numpy() * 2, y.numpy()))


@pytest.mark.parametrize("name", COMPARISONS)
@pytest.mark.filterwarnings("ignore::needle_ir.RecompileWarning")
@pytest.mark.parametrize("number", [-1, 300, 2**63, 2**64, -(2**70), 10**400])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint64])
def test_with_a_python_number_beyond_the_dtype_as_numpy(name, number, dtype):
    array = np.array([0, 44, 255]).astype(dtype)
    x = Tensor(array, requires_grad=False)
    function = getattr(np, name)
    np.testing.assert_array_equal(
        getattr(ndl.ops, name)(x, number).numpy(), function(array, number)
    )
    np.testing.assert_array_equal(
        getattr(ndl.ops, name)(number, x).numpy(), function(number, array)
    )


def test_arithmetic_with_a_number_beyond_the_dtype_is_refused():
    with pytest.raises(DTypeError, match="300 does not fit"):
        Tensor(np.array([1], np.uint8), requires_grad=False) + 300
