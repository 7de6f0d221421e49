"""The executor: plans give what the interpreter gives, and nobody's arrays are overwritten."""

import gc
import linecache
import math
import threading
import traceback
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from needle_ir import ops
from needle_ir.ir import (
    INPUT,
    Graph,
    Node,
    Place,
    ShapeError,
    TensorType,
    constant_node,
    input_node,
)
from needle_ir.passes import make_plan, plan_memory
from needle_ir.runtime import Executor, Kernel, MissingKernelError, interpret
from needle_ir.runtime.source import MOST_LINES

Array = np.ndarray[Any, Any]
F64 = np.dtype(np.float64)


def leaf(*shape: int, dtype: Any = np.float64, name: str | None = None) -> Node:
    return input_node(TensorType(shape, np.dtype(dtype)), name)


def executor(graph: Graph, **options: Any) -> Executor:
    return Executor(make_plan(graph), **options)


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(0.5, 2, shape)


# Plans against the interpreter --------------------------------------------------------------------

# Integers wrap around, and these float functions round correctly: every order of computation and
# every layout in memory gives the same bits, so that the results can be compared for equality.
INTEGER_MOVES = [
    lambda x: -x,
    abs,
    ops.relu,
    lambda x: x * x - 3,
    lambda x: ops.cast(x, "float64"),
    lambda x: x > 0,
]
FLOAT_MOVES = [
    lambda x: -x,
    lambda x: ops.sqrt(abs(x)),
    ops.relu,
    lambda x: x * 0.5 + 1.25,
    lambda x: x < 1,
]
BOOL_MOVES = [ops.logical_not, lambda x: ops.cast(x, "int64"), lambda x: ops.cast(x, "float64")]
BINARY = [ops.add, ops.multiply, ops.maximum, ops.minimum, ops.less, ops.equal]


@st.composite
def programs(draw: st.DrawFn) -> tuple[Graph, list[Array], list[Array]]:
    """A graph, and two lists of arrays to run it on."""
    base = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 0]), max_size=3)))
    inputs = [leaf(*base, dtype=draw(st.sampled_from(["int64", "float64", "bool"])))]
    for _ in range(draw(st.integers(0, 2))):
        inputs.append(leaf(*base[draw(st.integers(0, len(base))) :], dtype="int64"))
    pool = [*inputs, constant_node(np.arange(math.prod(base)).reshape(base) - 2)]
    for _ in range(draw(st.integers(1, 14))):
        node = _moved(draw, pool)
        if node is not None and node.type.size <= 300:
            pool.append(node)
    extra = draw(st.lists(st.sampled_from(pool), max_size=3))
    graph = Graph(inputs, [pool[-1], *extra])
    values = st.integers(-4, 4)
    arrays = [
        [
            np.array(draw(st.lists(values, min_size=x.type.size, max_size=x.type.size)))
            .reshape(x.shape)
            .astype(x.dtype)
            for x in inputs
        ]
        for _ in range(2)
    ]
    return graph, arrays[0], arrays[1]


def _moved(draw: st.DrawFn, pool: list[Node]) -> Node | None:
    """One more node over recent ones; None where what was drawn does not fit together."""
    recent = st.sampled_from(pool[-4:])
    x = draw(recent)
    kind = draw(st.sampled_from(["unary", "binary", "binary", "where", "shape", "shape", "fold"]))
    try:
        if kind == "unary":
            moves = {"i": INTEGER_MOVES, "f": FLOAT_MOVES, "b": BOOL_MOVES}[x.dtype.kind]
            return draw(st.sampled_from(moves))(x)
        if kind == "binary":
            return draw(st.sampled_from(BINARY))(x, draw(recent))
        if kind == "where":
            flags = [node for node in pool if node.dtype == np.bool_]
            condition = draw(st.sampled_from(flags)) if flags else x > 0
            return ops.where(condition, x, draw(st.sampled_from([draw(recent), 0])))
        if kind == "shape":
            return _reshaped(draw, x)
        if x.dtype.kind == "i":
            return _folded(draw, x, draw(recent))
    except ShapeError:
        pass
    return None


def _reshaped(draw: st.DrawFn, x: Node) -> Node:
    how = draw(st.sampled_from(["transpose", "flat", "column", "broadcast"]))
    if how == "transpose":
        return ops.permute(x, draw(st.permutations(range(len(x.shape)))))
    if how == "broadcast":
        return ops.broadcast_to(x, (2, *[2 if dim == 1 else dim for dim in x.shape]))
    return ops.reshape(x, (x.type.size,) if how == "flat" else (*x.shape[::-1], 1))


def _folded(draw: st.DrawFn, x: Node, y: Node) -> Node:
    axes = draw(st.sampled_from([None, (), 0, -1]))
    function = draw(st.sampled_from([ops.sum, ops.sum, ops.max, ops.min, None]))
    if function is not None:
        return function(x, axes, draw(st.booleans()))
    return x @ ops.cast(y, "int64")


def assert_equal(actual: Sequence[Array], expected: Sequence[Array]) -> None:
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(a, b)


def assert_nothing_is_shared(
    graph: Graph, results: Sequence[Array], arguments: Sequence[Array]
) -> None:
    """What was computed is in memory of its own."""
    outputs = zip(graph.outputs, results, strict=True)
    computed = [array for node, array in dict(outputs).items() if node.op is not INPUT]
    for i, array in enumerate(computed):
        for other in [*computed[:i], *arguments]:
            assert not np.shares_memory(array, other)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(programs())
def test_a_plan_gives_what_the_interpreter_gives(
    program: tuple[Graph, list[Array], list[Array]],
) -> None:
    graph, first, second = program
    kept = [x.copy() for x in first]
    run = executor(graph)
    results = run(first)
    expected = interpret(graph, kept)
    assert_equal(results, expected)
    assert_equal(run(second), interpret(graph, second))
    # Neither what was given nor what was handed out before was written to.
    assert_equal(first, kept)
    assert_equal(results, expected)
    assert_nothing_is_shared(graph, results, first)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(programs())
def test_a_second_executor_of_a_plan_is_its_own(
    program: tuple[Graph, list[Array], list[Array]],
) -> None:
    graph, first, second = program
    plan = make_plan(graph)
    a, b = Executor(plan), Executor(plan)
    expected = interpret(graph, first)
    results = a(first)
    b(second)
    assert_equal(results, expected)
    assert_equal(a(first), expected)


# Outputs ------------------------------------------------------------------------------------------


def twice(graph: Graph, first: Sequence[Array], second: Sequence[Array]) -> tuple[Array, ...]:
    """The results of a first run, after a second run on other arrays."""
    run = executor(graph)
    results = run(first)
    run(second)
    return results


def test_an_output_that_is_a_view_of_an_intermediate_result() -> None:
    x = leaf(2, 3)
    e = ops.exp(x)
    views = [ops.reshape(e, (6,)), ops.permute(e), ops.broadcast_to(e, (2, 2, 3))]
    graph = Graph([x], [*views, ops.sum(e, 0)])
    a = numbers(2, 3)
    flat, transposed, repeated, _ = twice(graph, [a], [a * 0])
    expected = np.exp(a)
    np.testing.assert_array_equal(flat, expected.ravel())
    np.testing.assert_array_equal(transposed, expected.T)
    np.testing.assert_array_equal(repeated, [expected, expected])
    assert all(result.flags.writeable for result in (flat, transposed, repeated))


def test_an_output_and_a_view_of_it() -> None:
    """Writing to one must not change the other."""
    x = leaf(2, 3)
    e = ops.exp(x)
    a = numbers(2, 3)
    result, flat = twice(Graph([x], [e, ops.reshape(e, (6,))]), [a], [a * 0])
    result[...] = 0
    np.testing.assert_array_equal(flat, np.exp(a).ravel())


def test_a_view_keeps_what_it_looks_at_alive() -> None:
    """The base is read for the last time through the view: `other` must not take its memory."""
    x = leaf(3, 3)
    base = -x
    view = ops.permute(base)
    other = x * x
    out = view + other
    graph = Graph([x], [out])
    a = numbers(3, 3)
    assert_equal(Executor(plan_memory(graph, (base, view, other, out)))([a]), [-a.T + a * a])


def test_a_view_of_an_input_is_a_copy() -> None:
    x = leaf(2, 3)
    a = numbers(2, 3)
    (transposed,) = executor(Graph([x], [ops.permute(x)]))([a])
    expected = a.T.copy()
    a[...] = 0
    np.testing.assert_array_equal(transposed, expected)


def test_outputs_that_are_inputs_and_constants() -> None:
    x, y = leaf(3), leaf(3)
    c = constant_node(np.array([1.0, 2.0, 3.0]))
    graph = Graph([x, y], [y, c, x + y, x])
    a, b = numbers(3), numbers(3, seed=1)
    results = twice(graph, [a, b], [a * 0, b * 0])
    assert_equal(results, [b, np.array([1.0, 2.0, 3.0]), a + b, a])


def test_a_constant_that_is_handed_out_can_not_be_written_to() -> None:
    (result,) = executor(Graph([], [constant_node(np.ones(3))]))([])
    with pytest.raises(ValueError, match="read-only"):
        result[0] = 5


def test_an_output_that_is_returned_several_times() -> None:
    x = leaf(3)
    e = ops.exp(x)
    a = numbers(3)
    results = twice(Graph([x], [e, x, e, x]), [a], [a * 0])
    assert_equal(results, [np.exp(a), a, np.exp(a), a])


def test_an_output_that_is_read_again() -> None:
    """It can not be computed upon in place."""
    x = leaf(3)
    e = ops.exp(x)
    t = -e
    a = numbers(3)
    results = twice(Graph([x], [-t, e]), [a], [a * 0])
    assert_equal(results, [np.exp(a), np.exp(a)])


def test_no_outputs_and_no_steps() -> None:
    x = leaf(3)
    assert executor(Graph([x], []))([numbers(3)]) == ()


def test_effects_happen_in_order_and_once_a_run() -> None:
    first = ops.random_uniform((2,), 0, 1, "float64")
    second = ops.random_normal((2,), 0, 1, "float64")
    unread = ops.random_uniform((3,), 0, 1, "float64")
    run = executor(Graph([], [second, first], [first, unread, second]))
    state = np.random.get_state()
    try:
        np.random.seed(3)
        results = [run([]), run([])]
    finally:
        np.random.set_state(state)
    generator = np.random.RandomState(3)
    for normal, uniform in results:
        np.testing.assert_array_equal(uniform, generator.rand(2))
        generator.rand(3)
        np.testing.assert_array_equal(normal, generator.randn(2))


@pytest.mark.parametrize("runner", [executor, lambda graph: lambda xs: interpret(graph, xs)])
def test_floating_point_errors_give_no_warnings(runner: Any) -> None:
    """Warnings are errors in this suite."""
    x = leaf(3)
    graph = Graph([x], [ops.log(x), 1 / x, ops.exp(x * 1e4), ops.sqrt(-x), ops.cast(x / 0, "int8")])
    log, reciprocal, exp, sqrt, _ = runner(graph)([np.array([0.0, -0.0, 1.0])])
    np.testing.assert_array_equal(log, [-np.inf, -np.inf, 0])
    np.testing.assert_array_equal(reciprocal, [np.inf, -np.inf, 1])
    np.testing.assert_array_equal(exp, [1, 1, np.inf])
    np.testing.assert_array_equal(sqrt, [0, 0, np.nan])


# Threads ------------------------------------------------------------------------------------------


def test_two_threads_may_call_one_executor_at_once() -> None:
    x = leaf(300, 300)
    e = ops.exp(x)
    for _ in range(6):
        e = ops.tanh(e * 1.5 + 0.25)
    run = executor(Graph([x], [ops.sum(e, 0), e]))
    given = {name: [numbers(300, 300, seed=seed)] for seed, name in enumerate("ab")}
    expected = {name: run(arrays) for name, arrays in given.items()}
    start = threading.Barrier(2, timeout=10)
    wrong: list[str] = []

    def call(name: str) -> None:
        start.wait()
        for _ in range(8):
            results = run(given[name])
            if any((a != b).any() for a, b in zip(results, expected[name], strict=True)):
                wrong.append(name)

    threads = [threading.Thread(target=call, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


# What is generated --------------------------------------------------------------------------------


def test_wrap_sees_every_kernel_and_every_call() -> None:
    x, y = leaf(2, 3), leaf(3, 2)
    graph = Graph([x, y], [ops.sum((ops.exp(x) + ops.relu(ops.permute(y) * 2)) @ y, 1)])
    wrapped: list[Node] = []
    called: list[str] = []

    def wrap(node: Node, kernel: Kernel) -> Kernel:
        wrapped.append(node)

        def counted(*arrays: Array) -> None:
            assert [a.shape for a in arrays] == [*[i.shape for i in node.inputs], node.shape]
            called.append(node.op.name)
            kernel(*arrays)

        return counted

    plan = make_plan(graph)
    moving = [step.node for step in plan.steps if plan.slots[step.output].place is not Place.VIEW]
    run = Executor(plan, wrap)
    assert wrapped == moving
    assert {node.op.name for node in wrapped} == {"exp", "matmul", "multiply", "relu", "add", "sum"}
    assert called == []
    arrays = [numbers(2, 3), numbers(3, 2)]
    results = run(arrays)
    assert called == [node.op.name for node in moving]
    run(arrays)
    assert called == [node.op.name for node in moving] * 2
    assert_equal(results, interpret(graph, arrays))


def test_the_source_is_one_line_a_kernel() -> None:
    x = leaf(2, 3)
    graph = Graph([x], [ops.tanh(ops.exp(x) + 1.0)])
    lines = [line.strip() for line in executor(graph).source.splitlines()]
    calls = [line for line in lines if line.endswith(")") and "= " not in line]
    assert [call.partition("(")[0] for call in calls[:-1]] == ["exp", "add", "tanh"]
    assert not any("[" in line or "for" in line or "if" in line for line in lines)


def test_a_traceback_shows_the_generated_line() -> None:
    x = leaf(3)

    def fail(node: Node, kernel: Kernel) -> Kernel:
        def failing(*arrays: Array) -> None:
            raise RuntimeError(f"no {node.op.name} today")

        return failing if node.op.name == "tanh" else kernel

    run = executor(Graph([x], [ops.exp(ops.tanh(x * 2.0))]), wrap=fail)
    with pytest.raises(RuntimeError, match="no tanh today") as caught:
        run([numbers(3)])
    text = "".join(traceback.format_exception(caught.value))
    (line,) = [line.strip() for line in run.source.splitlines() if line.strip().startswith("tanh")]
    assert f"    {line}\n" in text
    assert 'File "<needle_ir plan ' in text


def long_graph() -> Graph:
    """Outputs, views of inputs and an input that are read hundreds of steps after they are there,
    and in the same step as what is made later.
    """
    x, y = leaf(4, 4, name="x"), leaf(4, 4, name="y")
    early, view = ops.exp(x), ops.transpose(y)
    node = early
    outputs = [early]
    for i in range(MOST_LINES):
        node = ops.tanh(node + 1.0) * 0.5
        if i % 100 == 99:
            node = ops.matmul(node, view) + early
            outputs.append(node)
    return Graph([x, y], [*outputs, node - y, x])


def test_a_long_source_is_cut_into_functions() -> None:
    graph = long_graph()
    run = executor(graph)
    arrays = [numbers(4, 4), numbers(4, 4)]
    expected = interpret(graph, arrays)
    assert_equal(run(arrays), expected)
    assert_equal(run(arrays), expected)
    first, *parts = run.source.split("\n\n\n")
    assert len(parts) == 4
    assert [part.partition("(")[0] for part in parts] == [f"def run_{i}" for i in range(4)]
    assert first.startswith("def run(i0, i1):\n")
    assert max(len(part.splitlines()) for part in parts) <= MOST_LINES + 10


def test_a_traceback_shows_a_line_of_a_source_that_is_cut() -> None:
    graph = long_graph()
    last = [node for node in graph.nodes if node.op.name == "tanh"][-1]

    def fail(node: Node, kernel: Kernel) -> Kernel:
        def failing(*arrays: Array) -> None:
            raise RuntimeError("not today")

        return failing if node is last else kernel

    run = executor(graph, wrap=fail)
    with pytest.raises(RuntimeError, match="not today") as caught:
        run([numbers(4, 4), numbers(4, 4)])
    entries = traceback.extract_tb(caught.value.__traceback__)
    (entry,) = [x for x in entries if x.name.startswith("run_")]
    assert entry.name != "run_0"
    assert entry.lineno is not None
    assert entry.line == run.source.splitlines()[entry.lineno - 1].strip()
    tanhs = [x.strip() for x in run.source.splitlines() if x.strip().startswith("tanh")]
    assert entry.line == tanhs[-1]


def test_an_operand_that_is_refused_far_down_is_told_with_its_node() -> None:
    x, index = leaf(4), leaf(2, dtype=np.int64)
    node = x
    for _ in range(2 * MOST_LINES):
        node = ops.tanh(node)
    with pytest.raises(IndexError, match=r"gather"):
        executor(Graph([x, index], [ops.gather(node, index)]))([numbers(4), np.array([0, 9])])


def test_an_executor_that_failed_can_be_called_again() -> None:
    x = leaf(3)
    failures = [True]

    def once(node: Node, kernel: Kernel) -> Kernel:
        def failing(*arrays: Array) -> None:
            if failures:
                raise RuntimeError(str(failures.pop()))
            kernel(*arrays)

        return failing

    run = executor(Graph([x], [ops.exp(x)]), wrap=once)
    with pytest.raises(RuntimeError):
        run([np.zeros(3)])
    assert run([np.zeros(3)])[0].tolist() == [1, 1, 1]


def test_an_executor_takes_its_source_with_it() -> None:
    """Sources of plans that are gone would pile up in the cache of lines."""
    before = {name for name in linecache.cache if "needle_ir plan" in name}
    run = executor(Graph([], [constant_node(np.ones(2))]))
    (name,) = {name for name in linecache.cache if "needle_ir plan" in name} - before
    assert "".join(linecache.getlines(name)) == run.source
    del run
    gc.collect()
    assert name not in linecache.cache


def test_an_op_without_a_kernel_is_found_before_anything_runs() -> None:
    x = leaf(2, 2)
    with pytest.raises(MissingKernelError, match="open it with the lower pass first"):
        executor(Graph([x], [ops.linear(x, x, x)]))
    with pytest.raises(MissingKernelError, match="expand it with the autodiff pass first"):
        executor(Graph([x], [ops.stop_gradient(x)]))


def test_a_wrong_number_of_arrays() -> None:
    run = executor(Graph([leaf(2), leaf(2)], []))
    for count in (0, 1, 3, 6):
        with pytest.raises(TypeError, match=f"{count} arrays for a plan of 2 inputs"):
            run([np.ones(2)] * count)
    with pytest.raises(ValueError, match="zip"):
        interpret(Graph([leaf(2)], []), [])


# Deep and wide ------------------------------------------------------------------------------------


def test_a_plan_of_many_steps() -> None:
    x = leaf()
    y = x
    for _ in range(2000):
        y = y * 0.5 + 1.0
    run = executor(Graph([x], [y]))
    assert len(run.plan.steps) == 4000
    assert run.plan.arena_bytes <= 128
    assert run([np.array(7.0)])[0] == 2.0


def test_a_plan_of_many_inputs_and_outputs() -> None:
    leaves = [leaf() for _ in range(600)]
    run = executor(Graph(leaves, [-x for x in leaves]))
    results = run([np.array(float(i)) for i in range(600)])
    assert [float(result) for result in results] == [-float(i) for i in range(600)]
