"""The text form read back: what is printed gives the same graph, and what is no graph an error."""

import gc
import re
import sys
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import needle_ir as ndl
from needle_ir import ops
from needle_ir.compiler import read_pipeline
from needle_ir.ir import (
    NO_ATTRS,
    Attrs,
    Graph,
    Node,
    Op,
    ParseError,
    TensorType,
    Trait,
    constant_node,
    input_node,
    parse,
    print_graph,
    register_op,
    scope,
    structurally_equal,
    verify,
)
from needle_ir.passes import Record, run_pipeline
from tests.ops.sample import Sample as OpSample
from tests.ops.samples import SAMPLES
from tests.passes.random_graphs import Sample, samples
from tests.passes.training_step import training_step

DTYPES = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
DTYPES += ["bool", "float16", "float32", "float64"]


def leaf(*shape: int, dtype: Any = np.float32, name: str | None = None) -> Node:
    return input_node(TensorType(shape, np.dtype(dtype)), name)


def text(source: str) -> str:
    return dedent(source).strip("\n")


def assert_round_trip(graph: Graph, *, elided: bool = False) -> None:
    """In full, and as it is shown with and without comments where nothing is elided."""
    forms = [print_graph(graph, full=True), print_graph(graph, full=True, origins=False)]
    forms += [] if elided else [str(graph), print_graph(graph, origins=False)]
    for number, form in enumerate(forms):
        found = parse(form)
        assert structurally_equal(found, graph), form
        assert [node.type for node in found.nodes] == [node.type for node in graph.nodes]
        verify(found)
        for attribute in ("inputs", "outputs", "effects", "unused"):
            assert positions(found, attribute) == positions(graph, attribute), form
        options: dict[str, Any] = {"full": number < 2, "origins": number in (0, 2)}
        assert print_graph(found, **options) == form
        if number == 0:
            assert [where(x) for x in found.nodes[len(graph.inputs) :]] == [
                where(x) for x in graph.nodes[len(graph.inputs) :]
            ]


def positions(graph: Graph, attribute: str) -> list[int]:
    index = {node: i for i, node in enumerate(graph.nodes)}
    return [index[node] for node in getattr(graph, attribute)]


def where(node: Node) -> Any:
    x = node.origin
    return x and (x.filename, x.line, x.code.co_name, x.module, x.phase)


def has_large_constants(graph: Graph) -> bool:
    """Whether the short form says too little, as it does of the bits of a NaN as well."""
    constants = [x.attrs["value"] for x in graph.nodes if x.op.name == "constant"]
    return any(x.size > 8 or (x.dtype.kind == "f" and np.isnan(x).any()) for x in constants)


# What is printed is read back ---------------------------------------------------------------------


@settings(max_examples=150, derandomize=True, deadline=None)
@given(samples())
def test_generated_graphs(sample: Sample) -> None:
    assert_round_trip(sample.graph, elided=has_large_constants(sample.graph))


@settings(max_examples=40, derandomize=True, deadline=None)
@given(samples())
def test_generated_graphs_after_every_pass(sample: Sample) -> None:
    record = Record()
    pipeline = "lower{keep_vjp=true}, fold, simplify, cse, stabilize, autodiff, lower, "
    pipeline += "horizontal{min_lanes=2}, fuse{min_bytes=0}"
    run_pipeline(sample.graph, read_pipeline(pipeline), [record])
    for stage in record.stages:
        assert_round_trip(stage.graph, elided=has_large_constants(stage.graph))


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_every_op(sample: OpSample) -> None:
    types = [TensorType(x.shape, x.dtype) for x in sample.operands]
    inputs = [input_node(type, f"x{i}") for i, type in enumerate(types)]
    op = {**ops.PRIMITIVES, **ops.COMPOSITES}[sample.op]
    node = ops.build(op, inputs, sample.attrs)
    effects = [node] if node.op.has(Trait.EFFECT) else []
    assert_round_trip(Graph(inputs, [node], effects))


def test_every_op_has_a_sample() -> None:
    leaves_and_markers = {"input", "constant", "grad", "known", "stop_gradient", "variable"}
    names = {*ops.PRIMITIVES, *ops.COMPOSITES} - leaves_and_markers
    assert names <= {sample.op for sample in SAMPLES}


def test_markers() -> None:
    x, v = leaf(3, name="x"), leaf(3, name="v")
    y = ops.sum(ops.known(ops.variable(x) * ops.stop_gradient(x), v))
    assert_round_trip(Graph([x, v], [ops.grad(y, x), ops.grad(y, x, ops.as_constant(1.0))]))


def test_a_training_step_after_every_pass() -> None:
    graph, _ = training_step(batch=64, hidden=64)
    record = Record()
    last = run_pipeline(graph, read_pipeline(None), [record])
    assert last.count("fused") > 2
    for stage in record.stages:
        assert_round_trip(stage.graph, elided=has_large_constants(stage.graph))


def test_the_program_of_a_training_step_of_the_library() -> None:
    model = ndl.nn.Sequential(
        ndl.nn.Linear(16, 64), ndl.nn.LayerNorm1d(64), ndl.nn.Dropout(0.5), ndl.nn.Linear(64, 4)
    )
    opt = ndl.optim.Adam(model.parameters(), lr=0.01)
    loss = ndl.nn.SoftmaxLoss()(model(ndl.init.rand(32, 16)), ndl.Tensor(np.arange(32) % 4))
    loss.backward()
    with ndl.record_passes() as passes:
        opt.step()
    for stage in passes.stages:
        assert_round_trip(stage.graph, elided=has_large_constants(stage.graph))
    assert {x.origin.phase for x in stage.graph.nodes if x.origin} >= {"backward", "update"}


# Constants ----------------------------------------------------------------------------------------


def constant_back(value: Any, **options: Any) -> Any:
    graph = Graph([], [constant_node(np.asarray(value))])
    return parse(print_graph(graph, **options)).outputs[0].attrs["value"]


def assert_same_bits(found: Any, expected: Any) -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("readable", [True, False])
def test_every_float16_by_bits(readable: bool) -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    options = {"full": True} | ({"max_constant": 1 << 16} if readable else {})
    assert_same_bits(constant_back(every, **options), every)


HARD = [0, 1, 1 << 31, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000, 0x7FC00001, 0x7F7FFFFF]


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 2**64 - 1) | st.sampled_from(HARD), max_size=12),
    st.booleans(),
)
def test_constants_of_any_bits(dtype: str, numbers: list[int], rows: bool) -> None:
    bits = np.array(numbers, np.uint64)
    array = bits.astype(f"u{np.dtype(dtype).itemsize}")
    array = (array % 2).astype(bool) if dtype == "bool" else array.view(dtype)
    if rows and array.size % 2 == 0:
        array = array.reshape(2, -1)
    assert_same_bits(constant_back(array, full=True), array)
    assert_same_bits(constant_back(array, full=True, max_constant=20), array)
    np.testing.assert_array_equal(constant_back(array, max_constant=20), array)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 2), (), (1,), (1, 1, 1)])
def test_shapes_of_constants(shape: tuple[int, ...]) -> None:
    assert_same_bits(constant_back(np.zeros(shape)), np.zeros(shape))


def test_large_constants_in_full() -> None:
    # Computed by hand: 1.0 in float32 is 3f800000, stored low byte first.
    line = print_graph(Graph([], [constant_node(np.ones(9, np.float32))]), full=True)
    assert f'{{value=base64"{"AACAPwAAgD8AAIA/" * 3}"}} : f32[9]' in line


# Attributes ---------------------------------------------------------------------------------------

ANY_ATTRS = Op(name="any_attrs", infer=lambda *types, **attrs: TensorType((), np.dtype(np.float32)))
register_op(ANY_ATTRS, "tests")

TEXTS = st.text() | st.sampled_from(['"', "\\", "\n", "\r\u2028\x85", "# x", "\ud800", "😀", "}"])
NUMBERS = st.floats() | st.integers() | st.booleans()
DTYPED = st.sampled_from(DTYPES).map(np.dtype)


def numpy_scalar(dtype: Any) -> Any:
    return st.integers(0, 1).map(dtype.type)


VALUES = st.recursive(
    st.none() | NUMBERS | TEXTS | DTYPED | DTYPED.flatmap(numpy_scalar) | st.just(np.arange(3.0)),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=8,
)


@settings(max_examples=400, derandomize=True, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "beta", "ä", '"']) | st.text(), VALUES, max_size=3))
def test_attributes_of_any_kind(attrs: dict[str, Any]) -> None:
    node = Node(ANY_ATTRS, (), Attrs(attrs), leaf().type)
    found = parse(print_graph(Graph([], [node]), full=True)).outputs[0].attrs
    assert found == Attrs(attrs)
    assert [type(x) for x in found.values()] == [type(x) for x in Attrs(attrs).values()]


@pytest.mark.parametrize(
    "value", [1j, np.complex64(1j), np.array([1j]), np.dtype("complex64"), {1}, np.str_("a")]
)
def test_values_without_a_text_are_shown_and_refused(value: Any) -> None:
    node = Node(ANY_ATTRS, (), Attrs({"a": (value,)}), leaf().type)
    with pytest.raises(ParseError, match="was left out when this was printed"):
        parse(print_graph(Graph([], [node]), full=True))


def test_graphs_inside_of_graphs() -> None:
    x, inner = leaf(2, name="x"), leaf(2, name="x")
    draw = ops.random_normal((2,), 0, 1, "float32")
    body = Graph([inner], [ops.exp(inner)], [draw], [inner * 2], name="body")
    nested = Graph([], [Node(ANY_ATTRS, (), Attrs({"g": (body, 1)}), leaf().type)], name="outer")
    graph = Graph([x], [Node(ANY_ATTRS, (x,), Attrs({"body": nested, "then": body}), leaf().type)])
    with pytest.raises(ParseError, match="was left out"):
        parse(str(graph))  # in a tuple there is no room for lines
    deep = Graph([], [Node(ANY_ATTRS, (), Attrs({"body": body}), leaf().type)], name="outer")
    graph = Graph([x], [Node(ANY_ATTRS, (x,), Attrs({"body": deep, "then": body}), leaf().type)])
    assert_round_trip(graph)
    assert print_graph(graph, origins=False) == text(
        """
        graph @graph(%x: f32[2]) -> f32[] {
          %0 = any_attrs(%x) {body=graph @outer() -> f32[] {
            %0 = any_attrs() {body=graph @body(%x: f32[2]) -> f32[2] {
              %0 = random_normal() {dtype=f32, mean=0.0, shape=[2], std=1.0} : f32[2]
              %1 = exp(%x) : f32[2]
              %2 = constant {value=2.0} : f32[]
              %3 = multiply(%x, %2) : f32[2]
              effects %0
              unused %3
              return %1
            }} : f32[]
            return %0
          }, then=graph @body(%x: f32[2]) -> f32[2] {
            %0 = random_normal() {dtype=f32, mean=0.0, shape=[2], std=1.0} : f32[2]
            %1 = exp(%x) : f32[2]
            %2 = constant {value=2.0} : f32[]
            %3 = multiply(%x, %2) : f32[2]
            effects %0
            unused %3
            return %1
          }} : f32[]
          return %0
        }
        """
    )


# Names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        [None, None],
        ["x", "x", "x_1"],
        ["in1", None, "in0"],
        ["in0", "blocks.1.weight"],
        ["a b", "x\n}", "größe", "%", '"'],
        ["", "0"],
    ],
)
def test_names_of_inputs(names: list[str | None]) -> None:
    graph = Graph([leaf(2, name=name) for name in names], [], name="f")
    assert [x.attrs.get("name") for x in parse(str(graph)).inputs] == names


@pytest.mark.parametrize("name", ["f", "<lambda>", "a.b", "", 'x"y', "two words", "graph", "9"])
def test_names_of_graphs(name: str) -> None:
    x = leaf(2, name="x")
    assert parse(str(Graph([x], [x], name=name))).name == name


@pytest.mark.parametrize("name", ["my op", "constant_like", "graph", "return", "f32", "none", "ü"])
def test_names_of_ops(name: str) -> None:
    op = Op(name=name, infer=lambda x: x)
    x = leaf(2)
    graph = Graph([x], [Node(op, (x,), NO_ATTRS, x.type)])
    assert structurally_equal(parse(str(graph), ops={name: op}), graph)


@ops.composite(name="exp")
def another_exp(x: Node) -> Node:
    """It has the name of an op of the library."""
    return x


def test_a_composite_with_the_name_of_a_library_op_is_another_op() -> None:
    x = leaf(2, name="x")
    graph = Graph([x], [another_exp(x), ops.exp(x)])
    assert_round_trip(graph)
    lines = print_graph(graph, origins=False).splitlines()
    assert lines[1:3] == [
        f"  %0 = {__name__}.another_exp(%x) : f32[2]",
        "  %1 = exp(%x) : f32[2]",
    ]


def test_a_composite_of_a_function_with_the_name_of_a_library_op() -> None:
    @ops.composite()
    def tanh(x: Node) -> Node:
        return x

    x = leaf(2, name="x")
    graph = Graph([x], [tanh(x)])
    written = str(graph)
    assert " = another.tanh(%x)" in written
    assert structurally_equal(parse(written), graph)
    assert parse(written.replace("another.", "")).outputs[0].op is ops.PRIMITIVES["tanh"]


@ops.composite()
def twice(x: Node, *, factor: float = 2.0) -> Node:
    """Defined here, and so known by its name."""
    return x * factor


def test_a_composite_of_the_user_is_found_by_name() -> None:
    x = leaf(2, 3, name="x")
    assert_round_trip(Graph([x], [twice(x, factor=3.0), twice(x)]))


def test_two_composites_of_one_name_are_not_mixed_up() -> None:
    def scaled(factor: float) -> Any:
        @ops.composite(name="scaled_somehow")
        def scale(x: Node) -> Node:
            return x * factor

        return scale

    two, three = scaled(2), scaled(3)
    x = leaf(2, name="x")
    graph = Graph([x], [two(x)])
    with pytest.raises(ParseError, match="2 ops are called scaled_somehow"):
        parse(str(graph))
    assert structurally_equal(parse(str(graph), ops={"scaled_somehow": two.op}), graph)
    assert not structurally_equal(parse(str(graph), ops={"scaled_somehow": three.op}), graph)


def test_a_composite_that_is_defined_again_is_the_new_one() -> None:
    source = "@ops.composite()\ndef defined_twice(x):\n    return x * {}"
    namespace: dict[str, Any] = {"ops": ops, "__name__": "a_notebook"}
    exec(source.format(2), namespace)
    first = namespace["defined_twice"]
    exec(source.format(3), namespace)
    x = leaf(2, name="x")
    assert parse(str(Graph([x], [first(x)]))).outputs[0].op is namespace["defined_twice"].op


def test_the_registry_keeps_no_op_alive() -> None:
    register_op(Op(name="short_lived", infer=lambda x: x))
    gc.collect()
    with pytest.raises(ParseError, match="there is no op short_lived"):
        parse("graph @f(%x: f32[]) -> f32[] {\n %0 = short_lived(%x) : f32[]\n return %0\n}")


# Origins ------------------------------------------------------------------------------------------


def recorded(x: Node) -> Node:
    namespace: dict[str, Any] = {"__name__": "mlp", "ops": ops, "scope": scope}
    source = "def f(x):\n    with scope('blocks.1'):\n        return ops.exp(x)"
    exec(compile(source, "/home/my files/mlp: 2.py", "exec"), namespace)
    return namespace["f"](x)


def test_comments_become_origins() -> None:
    x = leaf(2, name="x")
    graph = Graph([x], [recorded(x)])
    node = parse(str(graph)).outputs[0]
    assert where(node) == ("mlp: 2.py", 3, "f", "blocks.1", "forward")
    assert node.origin is not None
    assert node.origin.text == ""  # there may be any other mlp.py
    assert where(parse(graph.format(full=True)).outputs[0]) == where(graph.outputs[0])
    assert parse(print_graph(graph, origins=False)).outputs[0].origin is None


def test_a_line_at_hand_is_shown(tmp_path: Any) -> None:
    file = tmp_path / "mlp.py"
    file.write_text("first\n    second  \n")
    written = f"""graph @f(%x: f32[]) -> f32[] {{
      %0 = exp(%x) : f32[]  # {file}:2 in f (backward)
      return %0
    }}"""
    origin = parse(written).outputs[0].origin
    assert origin is not None
    assert (origin.text, origin.phase, str(origin)) == ("second", "backward", "mlp.py:2 in f")


def test_errors_about_a_graph_that_was_read_name_the_line() -> None:
    graph = parse(
        """
        graph @f(%x: i64[3]) -> i64[3] {
          %0 = one_hot(%x) {classes=3} : f32[3,3]  # mlp.py:7 in f, head
          %1 = cast(%0) {dtype=i64} : i64[3,3]     # any other comment
          %2 = max(%1) {axes=[1], keepdims=false} : i64[3]
          return %2
        }
        """
    )
    assert [x.origin and str(x.origin) for x in graph.nodes[1:]] == ["mlp.py:7 in f", None, None]
    line = "%0 = one_hot(%x) {classes=3} : f32[3,3]"
    assert f"     + {line}" not in str(ndl.explain(graph, pipeline="cse"))
    assert "mlp.py:7 in f" in str(ndl.explain(graph, pipeline="lower"))


# Written by hand ----------------------------------------------------------------------------------


def test_attributes_are_brought_into_normal_form() -> None:
    graph = parse(
        """# A comment before the graph.
        graph @f(%x: f32[2,3],
                 %y: f32[3,2]) -> (f32[2,1], f32[2,2]) {
          %sum = sum(%x) {keepdims=true, axes=-1} : f32[2,1] %p = matmul(%x, %y)
            {transpose_a=false} : f32[2,2]
          # A comment on its own.
          return %sum, %p  # and one behind
        }
        # And one after it.
        """
    )
    verify(graph)
    assert print_graph(graph) == text(
        """
        graph @f(%x: f32[2,3], %y: f32[3,2]) -> (f32[2,1], f32[2,2]) {
          %0 = sum(%x) {axes=[1], keepdims=true} : f32[2,1]
          %1 = matmul(%x, %y) : f32[2,2]
          return %0, %1
        }
        """
    )


def test_what_nothing_lists_is_an_effect_or_unused() -> None:
    graph = parse(
        """
        graph @f(%x: f32[2]) -> f32[2] {
          %a = random_uniform() {dtype=f32, high=1.0, low=0.0, shape=[2]} : f32[2]
          %b = exp(%a) : f32[2]
          %c = log(%b) : f32[2]
          %d = random_uniform() {dtype=f32, high=2.0, low=0.0, shape=[2]} : f32[2]
          %e = exp(%x) : f32[2]
          return %e
        }
        """
    )
    verify(graph)
    assert [x.attrs["high"] for x in graph.effects] == [1.0, 2.0]
    assert [x.op.name for x in graph.unused] == ["log"]
    assert graph.count("exp") == 2


# Size ---------------------------------------------------------------------------------------------


def calls_to_parse(count: int) -> int:
    """How many Python functions are called to read a chain of so many nodes."""
    x = leaf(3, name="x")
    y = x
    for i in range(count):
        y = ops.exp(y) if i % 2 else ops.negative(y)
    written = str(Graph([x], [y]))
    calls = 0

    def count_call(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count_call)
    try:
        parse(written)
    finally:
        sys.setprofile(None)
    return calls


def test_reading_takes_linear_time() -> None:
    small, large = calls_to_parse(100), calls_to_parse(3100)
    few, many = calls_to_parse(1100), calls_to_parse(2100)
    assert (large - many) == pytest.approx(many - few, rel=0.02)
    assert large / 3100 <= small / 100


def test_a_chain_of_100_000_nodes() -> None:
    x = leaf(3, name="x")
    y = x
    for i in range(100_000):
        y = ops.exp(y) if i % 2 else ops.negative(y)
    graph = Graph([x], [y])
    written = str(graph)
    assert len(written.splitlines()) == 100_003
    assert re.search(r"%99999 = exp\(%99998\) : f32\[3\] +# test_parser\.py:\d+ in", written)
    assert str(parse(written)) == written
