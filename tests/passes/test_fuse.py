"""Elementwise fusion: what becomes one cluster, and what must not."""

from collections.abc import Callable

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import (
    Graph,
    Node,
    OpError,
    VerificationError,
    constant_node,
    structural_key,
    structurally_equal,
    verify,
)
from needle_ir.ops.cluster import FUSED
from needle_ir.passes import Fuse, Lower, make_plan
from needle_ir.runtime import Executor, interpret
from tests.passes.arena_checker import problems
from tests.passes.graph_text import arg, body
from tests.passes.training_step import optimized, training_step

FUSE = Fuse(min_bytes=0)


def clusters(graph: Graph) -> list[str]:
    """The names of the clusters, in the graph's order."""
    return [node.attrs["body"].name for node in graph.nodes if node.op is FUSED]


def test_a_chain_becomes_one_node() -> None:
    x, y = arg("x", 2, 3), arg("y", 3)
    graph = FUSE.run(Graph([x, y], [ops.relu(x * y + 1.0)]))
    verify(graph)
    (cluster,) = graph.outputs
    assert cluster.inputs == (x, y)
    inner = cluster.attrs["body"]
    assert inner.name == "multiply_add_relu"
    assert body(inner) == [
        "%0 = multiply(%in0, %in1) : f32[2,3]",
        "%1 = constant {value=1.0} : f32[]",
        "%2 = add(%0, %1) : f32[2,3]",
        "%3 = relu(%2) : f32[2,3]",
        "return %3",
    ]


CASES: dict[str, tuple[Callable[[Node, Node], list[Node]], list[str]]] = {
    "one op": (lambda x, y: [x + y], []),
    "read twice inside": (lambda x, y: [ops.exp(x) * ops.exp(x)], ["exp_exp_multiply"]),
    "one value for two readers inside": (
        lambda x, y: [(lambda e: ops.tanh(e) + ops.sqrt(e))(ops.exp(x))],
        ["exp_tanh_sqrt_add"],
    ),
    "two readers outside": (
        lambda x, y: (lambda e: [ops.sum(-e, 0), ops.sum(ops.tanh(e), 0)])(ops.exp(x)),
        [],
    ),
    "an output half-way": (
        lambda x, y: (lambda e: [e, -ops.tanh(e)])(ops.exp(x)),
        ["exp_tanh_negative"],
    ),
    "an output half-way that is read elsewhere": (
        lambda x, y: (lambda e: [e, -ops.tanh(e), ops.sum(e)])(ops.exp(x)),
        ["tanh_negative"],
    ),
    "an output half-way in another dtype": (
        lambda x, y: (lambda e: [e, ops.where(e, -x, 0)])(ops.logical_not(x > 0.0)),
        ["greater_logical_not", "negative_where"],
    ),
    "outputs with a value in common": (
        lambda x, y: (lambda e: [ops.tanh(e), ops.sqrt(e) + y])(ops.exp(x)),
        ["exp_tanh_sqrt_add"],
    ),
    "outputs with an operand in common": (
        lambda x, y: [ops.tanh(ops.exp(x)), ops.sqrt(x) + y],
        ["exp_tanh", "sqrt_add"],
    ),
    "an output of outputs": (
        lambda x, y: (lambda e: [e, (t := ops.tanh(e)), t * e])(ops.exp(x)),
        ["exp_tanh_multiply"],
    ),
    "outputs unpacked": (
        lambda x, y: (lambda e: [ops.unpack(e, 0, (2,)), ops.unpack(e, 2, (4,)), ops.tanh(e)])(
            ops.exp(x)
        ),
        ["exp_tanh"],
    ),
    # What is unpacked is read again: the cluster would have to wait for itself.
    "outputs unpacked that come back": (
        lambda x, y: (lambda e: [ops.unpack(e, 0, (6,)), e * ops.sum(ops.unpack(e, 0, (6,)))])(
            ops.exp(x)
        ),
        [],
    ),
    "a reduction between": (
        lambda x, y: [ops.exp(-x) / ops.sum(ops.exp(-x), 1, keepdims=True)],
        ["negative_exp", "negative_exp_divide"],
    ),
    # The sum of the exponentials comes back: one cluster would have to wait for itself.
    "a way out and back": (
        lambda x, y: (lambda e: [ops.tanh(e) - ops.sum(e)])(ops.exp(x) + 1.0),
        ["exp_add", "tanh_subtract"],
    ),
    "another shape": (lambda x, y: [ops.tanh(ops.exp(y) + 1.0) * x], ["exp_add_tanh"]),
    "a view between": (lambda x, y: [ops.reshape(-ops.exp(x), (6,)) * 2.0], ["negative_exp"]),
    "a mask of another dtype": (lambda x, y: [ops.where(x > y, -x, 0)], ["greater_negative_where"]),
}


@pytest.mark.parametrize(("expression", "names"), CASES.values(), ids=list(CASES))
def test_clusters(expression: Callable[[Node, Node], list[Node]], names: list[str]) -> None:
    x, y = arg("x", 2, 3), arg("y", 3)
    before = Graph([x, y], expression(x, y))
    after = FUSE.run(before)
    verify(after)
    found = clusters(after)
    assert sorted("_".join(sorted(name.split("_"))) for name in found) == sorted(
        "_".join(sorted(name.split("_"))) for name in names
    )
    if not names:
        assert after is before
    assert FUSE.run(after) is after
    plan = make_plan(after)
    assert problems(plan) == []
    arrays = [np.random.default_rng(i).standard_normal(x.shape).astype("f4") for i in (0, 1)][:2]
    arrays = [np.arange(6, dtype="f4").reshape(2, 3) - 2, np.arange(3, dtype="f4")]
    for a, b, c in zip(
        interpret(before, arrays), interpret(after, arrays), Executor(plan)(arrays), strict=True
    ):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_a_cluster_has_a_largest_size() -> None:
    x = arg("x", 4)
    y = x
    for _ in range(10):
        y = ops.tanh(y)
    graph = Fuse(max_ops=4, min_bytes=0).run(Graph([x], [y]))
    assert [len(name.split("_")) for name in clusters(graph)] == [2, 4, 4]


def test_small_results_stay_as_they_are() -> None:
    x = arg("x", 100)
    graph = Graph([x], [ops.exp(-x)])
    assert Fuse(min_bytes=401).run(graph) is graph
    assert clusters(Fuse(min_bytes=400).run(graph)) == ["negative_exp"]


def test_lowering_opens_a_cluster() -> None:
    x, y = arg("x", 2, 3), arg("y", 3)
    graph = Graph([x, y], [ops.relu(x * y + 1.0)])
    assert structurally_equal(Lower().run(FUSE.run(graph)), graph)


def test_bodies_are_part_of_the_structure() -> None:
    def fused_key(function: Callable[[Node], Node]) -> object:
        x = arg("x", 4)
        return structural_key(FUSE.run(Graph([x], [function(x)])))

    assert fused_key(lambda x: ops.exp(-x)) == fused_key(lambda x: ops.exp(-x))
    assert fused_key(lambda x: ops.exp(x + 1.0)) != fused_key(lambda x: ops.exp(x + 2.0))


BROKEN: dict[str, Callable[[Node], Graph]] = {
    "other types": lambda x: Graph([arg("x", 5)], [-arg("x", 4)]),
    "two outputs": lambda x: Graph([x], [-x, ops.exp(x)]),
    "a reduction": lambda x: Graph([x], [ops.sum(x, 0, keepdims=True) * x]),
    "a composite": lambda x: Graph([x], [ops.sgd_update(x, x, x)]),
    "a result twice": lambda x: (lambda e: Graph([x], [ops.pack(e, e)]))(-x),
    "an operand packed": lambda x: Graph([x], [ops.pack(-x, x)]),
    "an operand": lambda x: Graph([x], [x]),
    "results of several shapes": lambda x: Graph([x], [ops.pack(-x, -ops.as_constant([1.0]))]),
    "a pack on the way": lambda x: Graph([x], [-ops.pack(-x, ops.exp(x))]),
    "another shape on the way": lambda x: Graph([x], [-x + constant_node(np.ones((2, 4), "f4"))]),
}


@pytest.mark.parametrize("make", BROKEN.values(), ids=list(BROKEN))
def test_a_body_that_is_none_is_refused(make: Callable[[Node], Graph]) -> None:
    x = arg("x", 4)
    with pytest.raises(OpError, match="its body"):
        ops.fused(x, body=make(x))


def test_the_verifier_looks_into_bodies() -> None:
    x = arg("x", 4)
    good = -x
    broken = Node(good.op, (x, x), good.attrs, good.type)
    with pytest.raises(VerificationError, match="negative"):
        verify(Graph([x], [ops.fused(x, body=Graph([x], [broken]))]))


@pytest.mark.parametrize("shapes", [
    [(70_000,), (70_000,)],
    [(300, 500), (500,)],
    [(300, 500), (300, 1)],
    [(300, 500), ()],
    [(1, 90_000), (1, 90_000)],
    [(1, 90_000), (1, 1)],
    [(3, 90_001), (90_001,)],
    [(40, 50, 60), (1, 50, 60)],
    [(40, 50, 60), (50, 60)],
])  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_arrays_tile_by_tile(shapes: list[tuple[int, ...]], dtype: type) -> None:
    x, y = (arg(name, *shape, dtype=dtype) for name, shape in zip("xy", shapes, strict=True))
    e = ops.exp(x) * 0.5
    inner = ops.where(e > y, ops.tanh(e + y), 0) - ops.relu(y - e)
    graph = Graph([x, y], [inner, ops.sum(inner), ops.sum(ops.sqrt(abs(inner)) + 1.0, 0)])
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    fused = Fuse().run(graph)
    assert len(clusters(fused)) >= 2
    plan = make_plan(fused)
    assert problems(plan) == []
    run = Executor(plan)
    run([-a for a in arrays])
    for a, b in zip(run(arrays), interpret(graph, arrays), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_operand_that_is_a_transposed_view_is_cut_by_rows() -> None:
    x = arg("x", 300, 400)
    graph = Graph([x], [ops.tanh(ops.permute(ops.exp(x)) * 2.0) + 1.0])
    fused = Fuse().run(graph)
    array = np.random.default_rng(0).standard_normal((300, 400)).astype("f4")
    run = Executor(make_plan(fused))
    assert "for " in run.source
    np.testing.assert_array_equal(run([array])[0], interpret(graph, [array])[0])


def _updates(x: Node, y: Node, z: Node) -> list[Node]:
    """Two moments and a parameter, of which the last one is handed out in parts."""
    u = x * 0.9 + z * 0.1
    v = y * 0.99 + z * z * 0.01
    p = z - u / (ops.sqrt(v) + 1e-3)
    size = p.shape[0] // 3
    return [u, v, *ops.unpack_all(p, [(size,), (2, size)])]


@pytest.mark.parametrize("size", [12, 3 * 40_000])
def test_moments_and_parameters_are_computed_in_one_loop(size: int) -> None:
    xs = [arg(name, size) for name in "xyz"]
    before = Graph(xs, _updates(*xs))
    graph = FUSE.run(before)
    verify(graph)
    (cluster,) = [node for node in graph.nodes if node.op is FUSED]
    assert cluster.shape == (3 * size,)
    assert [x.attrs["start"] for x in graph.outputs] == [0, size, 2 * size, 2 * size + size // 3]
    plan = make_plan(graph)
    assert problems(plan) == []
    assert plan.arena_bytes == 0
    run = Executor(plan)
    assert ("for " in run.source) == (size > 12)
    generator = np.random.default_rng(0)
    arrays = [generator.random(size, np.float32) for _ in xs]
    run([-a for a in arrays])
    interpreted = interpret(graph, arrays)
    for a, b, c in zip(run(arrays), interpret(before, arrays), interpreted, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(c, b)


def test_a_loop_that_was_opened_becomes_the_same_loop() -> None:
    xs = [arg(name, 12) for name in "xyz"]
    graph = FUSE.run(Graph(xs, _updates(*xs)))
    opened = Lower().run(graph)
    assert opened.count("pack") == 1
    assert structurally_equal(FUSE.run(opened), graph)


def test_results_that_are_packed_with_something_else_before_the_last_of_them() -> None:
    x, other = arg("x", 12), arg("other", 12)
    first = x * 2.0
    packed = ops.pack(other, first)
    second = first + 1.0
    before = Graph([x, other], [*ops.unpack_all(packed, [(12,), (4, 3)]), second])
    graph = FUSE.run(before)
    verify(graph)
    assert clusters(graph) == ["multiply_add"]
    plan = make_plan(graph)
    assert problems(plan) == []
    arrays = [np.linspace(0, 1, 12, dtype=np.float32), np.ones(12, np.float32)]
    expected = [arrays[1], (arrays[0] * 2).reshape(4, 3), arrays[0] * 2 + 1]
    for result in (Executor(plan)(arrays), interpret(graph, arrays)):
        for a, b in zip(result, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_results_of_rank_two_that_an_operation_needs_at_once() -> None:
    """Packed, they are in one array; there the graph sums them up."""
    x = arg("x", 300, 400)
    e = ops.exp(x)
    inner = Graph([x], [ops.pack(e, -e * 2.0)])
    graph = Graph([x], [ops.sum(ops.fused(x, body=inner))])
    plan = make_plan(graph)
    assert problems(plan) == []
    array = np.random.default_rng(0).random((300, 400), np.float32)
    run = Executor(plan)
    assert "for " in run.source
    e = np.exp(array)
    np.testing.assert_allclose(run([array])[0], e.sum() - 2 * e.sum(), rtol=1e-4)


def test_a_long_chain_of_outputs_is_no_cluster() -> None:
    x = arg("x", 2)
    outputs = [x]
    for _ in range(20_000):
        outputs.append(ops.tanh(outputs[-1] * 0.5))
    graph = FUSE.run(Graph([x], outputs[1:]))
    assert len(clusters(graph)) == 20_000


def test_a_training_step() -> None:
    graph, arrays = training_step(batch=64, features=80, hidden=60)
    before = optimized(graph, "lower{keep_vjp=true}, autodiff, lower, fold, simplify, cse, dce")
    after = Fuse().run(before)
    verify(after)
    assert len(clusters(after)) > 5
    for a, b in zip(interpret(after, arrays), interpret(before, arrays), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_hundred_thousand_nodes() -> None:
    x = arg("x", 2)
    y = x
    for _ in range(50_000):
        y = ops.tanh(y * 0.5)
    graph = FUSE.run(Graph([x], [y]))
    assert len(clusters(graph)) == 100_000 // 32
