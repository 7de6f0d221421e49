"""The text form, to the letter."""

import re
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import (
    Attrs,
    Graph,
    Node,
    TensorType,
    constant_node,
    input_node,
    print_attr,
    print_graph,
    scope,
    statement,
    value_names,
)


def leaf(*shape: int, dtype: Any = np.float32, name: str | None = None) -> Node:
    return input_node(TensorType(shape, np.dtype(dtype)), name)


def text(source: str) -> str:
    return dedent(source).strip("\n")


def check(graph: Graph, expected: str, **options: Any) -> None:
    assert print_graph(graph, **options) == text(expected)


def recorded(source: str, *leaves: Node) -> list[Node]:
    """What the function `f` of a user's file `mlp.py` returns; `source` is the file."""
    namespace: dict[str, Any] = {"__name__": "mlp", "ops": ops, "scope": scope}
    exec(compile(text(source), "/home/me/mlp.py", "exec"), namespace)
    result = namespace["f"](*leaves)
    return result if isinstance(result, list) else [result]


# Whole graphs -------------------------------------------------------------------------------------


def test_the_example_of_the_design() -> None:
    x = leaf(4, 8, name="x")
    source = """
        def f(x):
            return ops.logsumexp(x, 1, keepdims=True)
    """
    check(
        Graph([x], recorded(source, x), name="loss"),
        """
        graph @loss(%x: f32[4,8]) -> f32[4,1] {
          %0 = logsumexp(%x) {axes=[1], keepdims=true} : f32[4,1]  # mlp.py:2 in f
          return %0
        }
        """,
    )


def test_comments_name_the_line_and_the_module() -> None:
    x, w = leaf(2, 3, name="x"), leaf(3, 4, name="weight")
    source = """
        def f(x, w):
            with scope("blocks.1.linear2"):
                y = x @ w
            z = (
                y
                * 2
            )
            return [ops.relu(z), y]
    """
    graph = Graph([x, w], recorded(source, x, w), name="forward")
    check(
        graph,
        """
        graph @forward(%x: f32[2,3], %weight: f32[3,4]) -> (f32[2,4], f32[2,4]) {
          %0 = matmul(%x, %weight) : f32[2,4]  # mlp.py:3 in f, blocks.1.linear2
          %1 = constant {value=2.0} : f32[]
          %2 = multiply(%0, %1) : f32[2,4]     # mlp.py:5 in f
          %3 = relu(%2) : f32[2,4]             # mlp.py:8 in f
          return %3, %0
        }
        """,
    )
    check(
        graph,
        """
        graph @forward(%x: f32[2,3], %weight: f32[3,4]) -> (f32[2,4], f32[2,4]) {
          %0 = matmul(%x, %weight) : f32[2,4]
          %1 = constant {value=2.0} : f32[]
          %2 = multiply(%0, %1) : f32[2,4]
          %3 = relu(%2) : f32[2,4]
          return %3, %0
        }
        """,
        origins=False,
    )


def test_str_is_the_text_form_with_its_defaults() -> None:
    x = leaf(2, name="x")
    graph = Graph([x], [x * np.arange(9, dtype=np.float32).reshape(9, 1)])
    assert str(graph) == print_graph(graph)
    assert "# test_printer.py:" in str(graph)
    assert "<9 elements>" in str(graph)


def test_effects_and_unused_nodes_are_shown_in_order() -> None:
    draw = ops.random_uniform((2,), 0, 1, "float64")
    check(
        Graph([], [], [draw], [ops.exp(draw)], name="f"),
        """
        graph @f() -> () {
          %0 = random_uniform() {dtype=f64, high=1.0, low=0.0, shape=[2]} : f64[2]
          %1 = exp(%0) : f64[2]
          effects %0
          unused %1
          return
        }
        """,
        origins=False,
    )


def test_an_input_that_is_an_output() -> None:
    x = leaf(2, name="x")
    check(
        Graph([x], [x, x]),
        """
        graph @graph(%x: f32[2]) -> (f32[2], f32[2]) {
          return %x, %x
        }
        """,
    )


def test_comments_after_a_very_long_line_stay_on_their_lines() -> None:
    names = [c * 30 for c in "ab"]
    a, b = (leaf(2, name=name) for name in names)
    graph = Graph([a, b], recorded("def f(a, b):\n    return -ops.maximum(a, b)", a, b))
    long = f"  %0 = maximum(%{names[0]}, %{names[1]}) : f32[2]"
    assert len(long) > 84
    short = "  %1 = negative(%0) : f32[2]"
    assert print_graph(graph).splitlines()[1:3] == [
        f"{long}  # mlp.py:2 in f",
        f"{short:<84}  # mlp.py:2 in f",
    ]


# Names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([None, None], ["in0", "in1"]),
        (["x", "x", "x"], ["x", "x_1", "x_2"]),
        (["x", "x_1", "x"], ["x", "x_1", "x_2"]),
        (["x", "x", "x_1"], ["x", "x_1", "x_1_1"]),
        (["in1", None], ["in1", "in1_1"]),
        ([None, "in0"], ["in0", "in0_1"]),
        (["blocks.1.weight", "_x"], ["blocks.1.weight", "_x"]),
        (["0", "1"], ["in0_0", "in1_1"]),
        (["a b", "a-b", "%x", "x\n}"], ["in0_a_b", "in1_a_b", "in2__x", "in3_x__"]),
        (["größe", ""], ["in0_gr__e", "in1"]),
    ],
)
def test_names_of_inputs(names: list[str | None], expected: list[str]) -> None:
    leaves = [leaf(2, name=name) for name in names]
    total = leaves[0]
    for x in leaves[1:]:
        total = total + x
    assert [value_names(Graph(leaves, [total]))[x] for x in leaves] == [f"%{n}" for n in expected]


def test_other_nodes_are_numbered_in_order() -> None:
    x = leaf(2, name="x")
    a = ops.exp(x)
    b = ops.log(a)
    assert value_names(Graph([x], [a, b])) == {x: "%x", a: "%0", b: "%1"}


# Constants ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (np.float32(2), "%0 = constant {value=2.0} : f32[]"),
        (np.float32(0.1), "%0 = constant {value=0.1} : f32[]"),
        (np.float64(0.1), "%0 = constant {value=0.1} : f64[]"),
        (np.float64(-0.0), "%0 = constant {value=-0.0} : f64[]"),
        (np.float64("nan"), "%0 = constant {value=nan} : f64[]"),
        (np.float64("-inf"), "%0 = constant {value=-inf} : f64[]"),
        (np.int8(-5), "%0 = constant {value=-5} : i8[]"),
        (np.bool_(True), "%0 = constant {value=true} : bool[]"),
        (np.arange(3), "%0 = constant {value=[0, 1, 2]} : i64[3]"),
        (np.zeros((2, 2)), "%0 = constant {value=[[0.0, 0.0], [0.0, 0.0]]} : f64[2,2]"),
        (np.array([True, False]), "%0 = constant {value=[true, false]} : bool[2]"),
        (np.zeros((0, 3)), "%0 = constant {value=[]} : f64[0,3]"),
        (np.zeros(8), f"%0 = constant {{value=[{', '.join(['0.0'] * 8)}]}} : f64[8]"),
        (np.zeros(9), "%0 = constant {value=<9 elements>} : f64[9]"),
        (np.zeros((3, 4)), "%0 = constant {value=<12 elements>} : f64[3,4]"),
    ],
)
def test_constants(value: Any, line: str) -> None:
    graph = Graph([], [constant_node(np.asarray(value))])
    assert print_graph(graph).splitlines()[1] == f"  {line}"


def test_the_limit_on_constants_is_an_option() -> None:
    graph = Graph([], [constant_node(np.arange(10)), constant_node(np.arange(3))])
    assert print_graph(graph, max_constant=2).splitlines()[1:3] == [
        "  %0 = constant {value=<10 elements>} : i64[10]",
        "  %1 = constant {value=<3 elements>} : i64[3]",
    ]
    assert print_graph(graph, max_constant=10).splitlines()[1] == (
        "  %0 = constant {value=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]} : i64[10]"
    )


# Attributes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "none"),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (-1.5, "-1.5"),
        (1e-05, "1e-05"),
        (float("inf"), "inf"),
        ((), "[]"),
        ((1, (2, None)), "[1, [2, none]]"),
        (np.dtype(np.float16), "f16"),
        ("mean", '"mean"'),
        ('a "b"\\\n', r'"a \"b\"\\\n"'),
        (np.float32(0.5), "0.5"),
        (np.int64(7), "7"),
        (np.bool_(False), "false"),
        (np.array([1, 2]), "[1, 2]"),
    ],
)
def test_attributes(value: Any, expected: str) -> None:
    assert print_attr(value) == expected


def test_a_statement_has_its_attributes_in_sorted_order() -> None:
    x = leaf(2, 3)
    node = Node(
        ops.PRIMITIVES["sum"], (x,), Attrs({"keepdims": True, "axes": (0, 1)}), leaf(1, 1).type
    )
    names = {x: "%x", node: "%7"}
    assert statement(node, names) == "%7 = sum(%x) {axes=[0, 1], keepdims=true} : f32[1,1]"


def test_no_line_of_a_graph_is_broken_by_a_name() -> None:
    graph = Graph([leaf(2, name="x\n  return %0")], [])
    head = r'graph @graph\(%\w+: f32\[2\] \{name="x\\n  return %0"\}\) -> \(\) \{'
    assert re.fullmatch(head + r"\n  return\n\}", str(graph))
