"""`set_num_threads`: the same bits for every number, and everything else as with one thread."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import needle_ir as ndl
from needle_ir.runtime import blas
from needle_ir.runtime.pool import pool

THREADS = (1, 2, 3)
ROWS, COLUMNS = 900, 700  # of float32 numbers: ten tiles, the last one shorter


@pytest.fixture(autouse=True)
def _threads_of_blas() -> Iterator[None]:
    yield
    ndl.set_num_threads(None)


def floats(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(0.5, 2, shape).astype(np.float32)


UNARY = [ndl.exp, ndl.tanh, ndl.relu, ndl.log, ndl.sigmoid, lambda x: -x, lambda x: x * 0.5 - 1]
BINARY = [
    lambda x, y: x + y,
    lambda x, y: x * y,
    lambda x, y: x / y,
    ndl.maximum,
    lambda x, y: ndl.where(x > y, x, y - x),
]


@st.composite
def clusters(draw: st.DrawFn) -> Any:
    """A function of an array, a row, a column and a number that is one fused loop or a few."""
    moves = draw(
        st.lists(
            st.tuples(st.sampled_from([*UNARY, *BINARY]), st.integers(0, 9), st.integers(0, 9)),
            min_size=2,
            max_size=8,
        )
    )

    def function(x: Any, row: Any, column: Any, number: Any) -> Any:
        values = [x, row, column, number, x * row]
        for move, i, j in moves:
            operands = [values[-1 - i % len(values)], values[-1 - j % len(values)]]
            values.append(move(operands[0]) if move in UNARY else move(*operands))
        return values[-1] + x * column, values[-1] - x

    return function


@settings(max_examples=25, derandomize=True, deadline=None)
@given(clusters())
def test_a_cluster_gives_the_same_bits_for_any_number_of_threads(function: Any) -> None:
    operands = [
        ndl.Tensor(floats(*shape, seed=seed))
        for seed, shape in enumerate([(ROWS, COLUMNS), (COLUMNS,), (ROWS, 1), ()])
    ]
    compiled = ndl.compile(function, *operands)
    assert "share(" in compiled.source
    ndl.set_num_threads(None)
    expected = [result.numpy().tobytes() for result in compiled(*operands)]
    for threads in THREADS:
        ndl.set_num_threads(threads)
        assert [result.numpy().tobytes() for result in compiled(*operands)] == expected


@pytest.mark.parametrize(
    ("a", "b", "blocks"),
    [
        ((700, 300), (300, 400), [2]),  # rows
        ((1100, 300), (300, 400), [4]),
        ((300, 400), (400, 700), [2]),  # columns
        ((5, 300, 400), (5, 400, 300), [4]),  # matrices
        ((400, 300), (300, 400), []),  # neither side has two blocks
        ((4, 300, 300), (300, 300), []),  # one operand for all matrices
        ((512, 200), (200, 100), []),  # small
    ],
)
@pytest.mark.parametrize("flags", ["", "a", "b", "ab"])
def test_a_product_gives_the_same_bits_for_any_number_of_threads(
    a: tuple[int, ...],
    b: tuple[int, ...],
    blocks: list[int],
    flags: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    swapped_a, swapped_b = "a" in flags, "b" in flags
    x, y = floats(*_swapped(a, swapped_a)), floats(*_swapped(b, swapped_b), seed=1)

    def product(x: Any, y: Any) -> Any:
        x = ndl.ops.transpose(x) if swapped_a else x
        return x @ (ndl.ops.transpose(y) if swapped_b else y)

    compiled = ndl.compile(product, ndl.Tensor(x), ndl.Tensor(y))
    shared: list[int] = []
    share = pool.share

    def counted(work: Any, parts: Any, *rest: Any) -> None:
        shared.append(len(parts))
        share(work, parts, *rest)

    monkeypatch.setattr(pool, "share", counted)
    results = []
    for threads in THREADS:
        ndl.set_num_threads(threads)
        results.append(compiled(ndl.Tensor(x), ndl.Tensor(y)).numpy())
    assert shared == blocks * len(THREADS)
    assert len({result.tobytes() for result in results}) == 1
    plain = (x.swapaxes(-1, -2) if swapped_a else x) @ (y.swapaxes(-1, -2) if swapped_b else y)
    np.testing.assert_allclose(results[0], plain, rtol=2e-5)


def _swapped(shape: tuple[int, ...], swap: bool) -> tuple[int, ...]:
    return (*shape[:-2], shape[-1], shape[-2]) if swap else shape


def test_programs_of_two_threads_at_once() -> None:
    def first(x: Any, y: Any) -> Any:
        return ndl.tanh(x @ y) * 2 + 1

    def second(x: Any, y: Any) -> Any:
        return ndl.exp(x) / (y + 1) - x

    ndl.set_num_threads(3)
    x, y = ndl.Tensor(floats(800, 800)), ndl.Tensor(floats(800, 800, seed=1))
    programs = [ndl.compile(function, x, y) for function in (first, second)]
    expected = [program(x, y).numpy() for program in programs]
    start = threading.Barrier(4, timeout=20)
    wrong: list[int] = []

    def run(which: int) -> None:
        start.wait()
        for _ in range(15):
            if not np.array_equal(programs[which](x, y).numpy(), expected[which]):
                wrong.append(which)

    users = [threading.Thread(target=run, args=(i % 2,), daemon=True) for i in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join(60)
    assert not any(user.is_alive() for user in users)
    assert wrong == []


@pytest.mark.parametrize("threads", [None, *THREADS])
def test_an_error_in_a_tile_names_the_op_and_the_line(threads: int | None) -> None:
    def powers(x: Any, y: Any) -> Any:
        return (x + 1) ** y * 2  # the line

    x, good = np.full(700_000, 2), np.full(700_000, 3)
    bad = good.copy()
    bad[[300_000, 650_000]] = -1
    compiled = ndl.compile(powers, ndl.Tensor(x), ndl.Tensor(good))
    assert "share(" in compiled.source
    ndl.set_num_threads(threads)
    with pytest.raises(ndl.OpError, match=r"power\(i64\[700000\], i64\[700000\]\)") as caught:
        compiled(ndl.Tensor(x), ndl.Tensor(bad))
    assert caught.value.origin is not None
    assert "the line" in caught.value.origin.text
    np.testing.assert_array_equal(compiled(ndl.Tensor(x), ndl.Tensor(good)).numpy(), 54)


def test_a_profile_of_shared_loops() -> None:
    def function(x: Any) -> Any:
        return ndl.tanh(ndl.exp(x) * 0.5) @ x

    x = ndl.Tensor(floats(800, 800))
    compiled = ndl.compile(function, x)
    ndl.set_num_threads(2)
    expected = compiled(x).numpy()
    with ndl.profile(show=False) as result:
        for _ in range(5):
            np.testing.assert_array_equal(compiled(x).numpy(), expected)
    assert {row.name: row.calls for row in result.by_kernel()} == {
        "matmul": 5,
        "fused exp, multiply, tanh": 5,
    }
    by_line = sum(row.seconds for row in result.by_line())
    assert by_line == pytest.approx(result.kernel_seconds)


def test_debug_nans_with_threads() -> None:
    x = floats(ROWS, COLUMNS)
    x[850, 3] = -1
    ndl.set_num_threads(2)
    with pytest.raises(FloatingPointError, match="log made 1 NaN"), ndl.debug_nans():
        (ndl.log(ndl.Tensor(x)) * 2).numpy()


def test_the_number_of_threads_is_asked_and_set() -> None:
    before = blas.num_threads()
    assert ndl.get_num_threads() is None
    ndl.set_num_threads(np.int64(2))
    assert (ndl.get_num_threads(), blas.num_threads()) == (2, 1)
    ndl.set_num_threads(None)
    assert (ndl.get_num_threads(), blas.num_threads()) == (None, before)


@pytest.mark.parametrize(
    ("count", "error", "message"),
    [
        (0, ValueError, "count is 0; it must be at least 1"),
        (-2, ValueError, "count is -2; it must be at least 1"),
        (1.5, TypeError, r"count is 1\.5; it must be an integer"),
        ("2", TypeError, "count is '2'; it must be an integer"),
    ],
)
def test_a_wrong_number_of_threads(count: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ndl.set_num_threads(count)
    assert ndl.get_num_threads() is None


def with_variable(text: str) -> "subprocess.CompletedProcess[str]":
    program = (
        "import needle_ir as ndl; print((ndl.Tensor([1.0]) + 1).numpy(), ndl.get_num_threads())"
    )
    environment = {**os.environ, "NEEDLE_IR_NUM_THREADS": text}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("text", "count"), [("2", "2"), (" 1 ", "1"), ("", "None")])
def test_the_environment_may_set_it(text: str, count: str) -> None:
    assert with_variable(text).stdout == f"[2.] {count}\n"


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "²"])
def test_a_wrong_number_in_the_environment(text: str) -> None:
    child = with_variable(text)
    assert child.returncode == 1
    assert f"NEEDLE_IR_NUM_THREADS is {text!r}; it must be a number of threads" in child.stderr
