"""Origins: the user's line, the module path and the phase that a node was recorded under."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

import needle_ir.ir.origin as origin_module
from needle_ir import ops
from needle_ir.ir import (
    Graph,
    Node,
    Origin,
    TensorType,
    capture_origin,
    inherit_origin,
    input_node,
    scope,
)
from needle_ir.passes import Autodiff


def leaf(*shape: int) -> Node:
    return input_node(TensorType(shape, np.dtype(np.float32)))


def origin_of(node: Node) -> Origin:
    assert node.origin is not None
    return node.origin


def user_function(source: str, name: str = "f", module: str = "mlp") -> Any:
    """A function of a user's file. The line after the opening quotes is line 1."""
    namespace: dict[str, Any] = {"__name__": module, "ops": ops, "scope": scope}
    exec(compile(dedent(source).lstrip("\n"), "/home/me/mlp.py", "exec"), namespace)
    return namespace[name]


def lines_of(nodes: list[Node]) -> dict[str, int]:
    """The line of every node by its op."""
    return {node.op.name: origin_of(node).line for node in nodes if node.origin is not None}


# The line -----------------------------------------------------------------------------------------


def test_file_line_and_function() -> None:
    f = user_function("""
        def f(x):
            y = x

            return ops.exp(y)
    """)
    origin = origin_of(f(leaf(2)))
    assert (origin.filename, origin.line, origin.code.co_name) == ("/home/me/mlp.py", 4, "f")
    assert (origin.module, origin.phase) == ("", "forward")
    assert str(origin) == "mlp.py:4 in f"


def test_expressions_over_many_lines() -> None:
    """An operator stands at the line where its first operand starts, a call at its name."""
    f = user_function("""
        def f(x, y):
            return (
                x
                - ops.maximum(
                    y,
                    ops.tanh(
                        x,
                    ) * 2,
                )
            )
    """)
    x, y = leaf(2), leaf(2)
    nodes = list(Graph([x, y], [f(x, y)]).nodes)
    assert lines_of(nodes) == {"subtract": 3, "maximum": 4, "multiply": 6, "tanh": 6}


def test_one_line_of_many_operators() -> None:
    f = user_function("""
        def f(x):
            return -ops.exp(x) / abs(x) + x ** 3 @ x
    """)
    x = leaf(2)
    nodes = list(Graph([x], [f(x)]).nodes)
    assert set(lines_of(nodes).values()) == {2}
    assert len({origin_of(node).instruction for node in nodes if node.origin is not None}) == 7


def test_loops_methods_lambdas_and_comprehensions() -> None:
    f = user_function("""
        class Block:
            def __call__(self, x):
                for _ in range(2):
                    x = ops.exp(x)
                return x

        def f(x):
            square = lambda x: (
                x * x)
            return [Block()(x), *[
                ops.tanh(v) for v in [x]], square(x)]
    """)
    block, tanh, square = (origin_of(node) for node in f(leaf(2)))
    assert str(block) == "mlp.py:4 in __call__"
    assert tanh.line == 11
    assert str(square) == "mlp.py:9 in <lambda>"


def test_the_innermost_frame_outside_of_the_package_counts() -> None:
    f = user_function("""
        def helper(x):
            return ops.exp(x)

        def f(x):
            return helper(
                x)
    """)
    assert str(origin_of(f(leaf(2)))) == "mlp.py:2 in helper"


@pytest.mark.parametrize("module", ["needle_ir.nn.layers", "needle_ir.passes.x", "needle_ir.viz.y"])
def test_frames_of_the_package_are_skipped(module: str) -> None:
    """Wherever their files lie: in a checkout not all are in one folder."""
    inside = user_function("def f(x):\n    return ops.exp(x)", module=module)
    outside = user_function("def f(g, x):\n    return g(x)")
    assert str(origin_of(outside(inside, leaf(2)))) == "mlp.py:2 in f"


@pytest.mark.parametrize("module", ["needle_irony", "my.needle_ir.copy", "__main__", "apps.mlp"])
def test_frames_of_other_modules_are_not(module: str) -> None:
    f = user_function("def f(x):\n    return ops.exp(x)", module=module)
    assert str(origin_of(f(leaf(2)))) == "mlp.py:2 in f"


def test_no_pass_is_taken_for_the_user() -> None:
    f = user_function("""
        def f(x):
            y = ops.softmax_loss(x, [0, 1])
            return ops.grad(y, x)
    """)
    x = leaf(2, 3)
    graph = Autodiff().run(Graph([x], [f(x)]))
    files = {node.origin.filename for node in graph.nodes if node.origin is not None}
    assert files <= {"/home/me/mlp.py", __file__}
    assert "/home/me/mlp.py" in files


def test_operators_methods_and_composites_are_seen_through() -> None:
    f = user_function("""
        def f(x):
            return [
                ops.linear(x, x, x),
                x @ x,
                2.0 - x,
            ]
    """)
    assert [origin_of(node).line for node in f(leaf(2, 2))] == [3, 4, 5]


# Inheriting ---------------------------------------------------------------------------------------


def test_nodes_inherit_the_origin_of_what_they_are_made_from() -> None:
    first = origin_of(ops.exp(leaf(2)))
    with scope("block"), inherit_origin(first):
        assert origin_of(ops.log(leaf(2))) is first
        with inherit_origin(first, phase="backward"):
            assert origin_of(ops.log(leaf(2))) == first._replace(phase="backward")
        assert origin_of(ops.log(leaf(2))) is first
    assert origin_of(ops.log(leaf(2))) != first


def test_nodes_inherit_that_there_is_no_origin() -> None:
    first = origin_of(ops.exp(leaf(2)))
    with inherit_origin(first):
        with inherit_origin(None):
            assert ops.exp(leaf(2)).origin is None
        with inherit_origin(None, phase="backward"):
            assert ops.exp(leaf(2)).origin is None
        assert origin_of(ops.exp(leaf(2))) is first


def test_inheriting_ends_with_an_exception() -> None:
    first = origin_of(ops.exp(leaf(2)))
    with pytest.raises(KeyError), inherit_origin(first):
        raise KeyError
    assert capture_origin() != first


# Scopes -------------------------------------------------------------------------------------------


def where_now() -> tuple[str, str]:
    origin = capture_origin()
    assert origin is not None
    return origin.module, origin.phase


def test_scopes_nest() -> None:
    assert where_now() == ("", "forward")
    with scope("blocks.1"):
        assert where_now() == ("blocks.1", "forward")
        with scope(phase="update"):
            assert where_now() == ("blocks.1", "update")
            with scope("blocks.1.linear", "backward"):
                assert where_now() == ("blocks.1.linear", "backward")
            assert where_now() == ("blocks.1", "update")
        with scope(""):
            assert where_now() == ("", "forward")
        assert where_now() == ("blocks.1", "forward")
    assert where_now() == ("", "forward")


@contextmanager
def caught() -> Iterator[None]:
    with pytest.raises(ZeroDivisionError):
        yield


def test_scopes_end_with_an_exception() -> None:
    with scope("outer", "update"):
        with caught(), scope("inner", "backward"), scope("innermost"):
            raise ZeroDivisionError
        assert where_now() == ("outer", "update")
    assert where_now() == ("", "forward")


def test_every_thread_has_its_own_scope() -> None:
    inside, seen = threading.Barrier(3, timeout=10), {}

    def record(name: str) -> None:
        with scope(name, phase=f"phase {name}"):
            inside.wait()
            seen[name] = [where_now()]
            inside.wait()
        seen[name].append(where_now())

    threads = [threading.Thread(target=record, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    with scope("main"), inherit_origin(None):
        inside.wait()
        inside.wait()
    for thread in threads:
        thread.join(10)
    assert seen == {name: [(name, f"phase {name}"), ("", "forward")] for name in "ab"}


def test_code_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin_module, "_MET_CAPACITY", 8)
    origins = [
        origin_of(user_function(f"def f{i}(x):\n    return ops.exp(x)", f"f{i}")(leaf(2)))
        for i in range(40)
    ]
    assert [str(origin) for origin in origins] == [f"mlp.py:2 in f{i}" for i in range(40)]
    assert len(origin_module._met) <= 8
