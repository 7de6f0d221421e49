"""What a pass changed: which nodes are told apart, and how they are drawn."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import needle_ir as ndl
from needle_ir.ir import Graph
from needle_ir.viz import Change, Mark, to_dot
from needle_ir.viz.scene import scene_of
from needle_ir.viz.subject import LEVELS, subject_of
from tests.viz.dot_text import DotText
from tests.viz.sample_graphs import (
    ADD,
    EXP,
    LINEAR,
    RECIPES,
    SUBTRACT,
    SUM,
    TRANSPOSE,
    build,
    leaf,
    node,
    rewritten,
    scalar,
    table,
)
from tests.viz.test_accounting import accounted


def ops(nodes):
    return sorted(node.op.name for node in nodes)


def test_added_removed_and_touched():
    change = Change(*rewritten())
    assert ops(change.added) == ["add", "constant"]
    assert ops(change.removed) == ["add", "add", "constant", "constant"]
    assert ops(change.touched) == ["exp"]
    assert str(change) == "2 added, 4 removed, 1 touched"
    assert {mark: ops(n for n, m in change.marks.items() if m is mark) for mark in Mark} == {
        Mark.ADDED: ["add", "constant"],
        Mark.REMOVED: ["add", "add", "constant", "constant"],
        Mark.TOUCHED: ["exp"],
    }


def test_what_only_has_new_operands_below_a_change_is_not_touched():
    def graph(middle):
        x = leaf("x", 2)
        return Graph([x], [node(SUM, node(ADD, node(EXP, node(middle, x)), scalar(1.0)))])

    change = Change(graph(EXP), graph(SUM))
    assert str(change) == "1 added, 1 removed, 1 touched"
    (touched,) = change.touched
    assert touched.op is EXP, "the node above it, and none below"


def test_of_equal_nodes_the_one_with_the_operands_of_before_is_the_same():
    x, y = leaf("x", 2), leaf("y", 2)
    before = Graph([x, y], [node(EXP, x), node(EXP, y)])
    after = Graph([x, y], [node(EXP, y)])
    change = Change(before, after)
    (removed,) = change.removed
    assert removed.inputs == (x,)
    assert not change.touched


@settings(deadline=None, max_examples=30)
@given(RECIPES)
def test_nothing_changed_where_a_pass_made_every_node_anew(recipe):
    change = Change(build(recipe), build(recipe))
    assert str(change) == "nothing changed"
    assert change.marks == {}


@settings(deadline=None, max_examples=30)
@given(RECIPES, RECIPES)
def test_every_node_is_kept_or_added_or_removed(first, second):
    before, after = build(first), build(second)
    change = Change(before, after)
    assert change.kept.keys() | change.removed == set(before.nodes)
    assert set(change.kept.values()) | change.added == set(after.nodes)
    assert len(set(change.kept.values())) == len(change.kept)
    assert all(old.op is new.op and old.type == new.type for old, new in change.kept.items())


def picture(before, after, **options):
    return DotText(to_dot(Change(before, after), **options))


GREEN, RED, AMBER = "#117733", "#cc3311", "#cc8800"


def test_the_looks_of_a_change():
    text = picture(*rewritten())
    borders = {
        i: line for i in text.labels for line in text.source.splitlines() if f"\t{i} [" in line
    }
    assert text.label("n3") == "+ %2 add(·, 5.0)"
    assert f'color="{GREEN}" penwidth="3"' in borders["n3"]
    assert f'<font color="{GREEN}"><b>5.0</b></font>' in text.markup["n3"]
    assert text.label("r5") == "− %4 add(·, 3.0)"  # noqa: RUF001
    assert f'style="filled,dashed" fillcolor="#ffffff" color="{RED}"' in borders["r5"]
    assert text.label("n4").startswith("~ %3 exp")
    assert f'color="{AMBER}"' in borders["n4"]
    assert "penwidth" not in borders["n1"]
    assert "removed: 2 add, 2 constant" in text.heading()
    assert text.heading()[-3:] == ["+ added", "− removed", "~ touched"]  # noqa: RUF001


def test_the_edges_of_a_change():
    text = picture(*rewritten())
    how = {(tail, head): attributes for tail, head, _, attributes in text.edges}
    assert how.keys() == {
        ("n0", "n1"), ("n1", "n3"), ("n3", "n4"), ("n1", "r3"), ("r3", "r5"), ("r5", "n4"),
    }  # fmt: skip
    for ends, attributes in how.items():
        is_removed = any(i.startswith("r") for i in ends)
        assert (f'color="{RED}" style=dashed' in attributes) == is_removed
        assert (f'color="{GREEN}"' in attributes) == ("n3" in ends)


def test_a_literal_that_changed_is_shown_twice():
    x = leaf("x", 2)
    text = picture(Graph([x], [node(ADD, x, scalar(2.0))]), Graph([x], [node(ADD, x, scalar(3.0))]))
    assert text.label("n2").startswith("~ %1 add(·, 3.0)")
    assert text.label("r1") == "− %0 2.0"  # noqa: RUF001
    assert ("r1", "n2") in {edge[:2] for edge in text.edges}


def test_a_view_that_came_is_a_box():
    x = leaf("x", 2)
    before = Graph([x], [node(EXP, x)])
    after = Graph([x], [node(EXP, node(TRANSPOSE, x))])
    text = picture(before, after)
    assert text.label("n1") == "+ %0 transpose"
    assert text.between("n1", "n2") == ["f32[2]"]


def two_layers(last):
    x, w = leaf("x", 2), leaf("a.weight", 2)
    h = node(LINEAR, x, w, module="a")
    h = node(EXP, node(EXP, h, module="a"), module="a")
    return Graph([x, w], [node(last, node(EXP, h, module="b"), module="b")])


def test_modules_that_a_pass_left_alone_are_closed():
    text = picture(two_layers(EXP), two_layers(SUM))
    assert text.label("mn1") == "a|2 exp, linear|weight f32[2]"
    assert {lines[0] for lines in text.labels.values()} == {
        "%x",
        "a",
        "%3 exp",
        "+ %4 sum",
        "− %4 exp",  # noqa: RUF001
    }
    open_too = picture(two_layers(EXP), two_layers(SUM), collapse=())
    assert "%0 linear" in {lines[0] for lines in open_too.labels.values()}


def test_all_modules_are_closed_where_nothing_changed():
    text = picture(two_layers(EXP), two_layers(EXP))
    assert [lines[0] for lines in text.labels.values()] == ["%x", "a", "b"]


def test_modules_count_what_changed_in_them():
    text = picture(two_layers(EXP), two_layers(SUM), level="module")
    (label,) = (lines for lines in text.labels.values() if lines[0] == "b")
    assert label[2].split("  ")[:2] == ["+1 added", "−1 removed"]  # noqa: RUF001


def test_edges_before_and_after_that_make_a_cycle_are_all_drawn():
    """a then b becomes b then a: one of the edges can not point down."""
    x = leaf("x", 2)
    a = node(EXP, x, order=1)
    before = Graph([x], [node(SUM, a)])
    b = node(SUM, x)
    after = Graph([x], [node(EXP, b, order=1)])
    text = picture(before, after)
    ends = {edge[:2] for edge in text.edges}
    assert ends == {("n0", "n1"), ("n1", "n2"), ("n0", "n2"), ("n2", "n1")}
    assert sum("constraint=false" in edge[3] for edge in text.edges) == 1


@settings(deadline=None, max_examples=60)
@given(RECIPES, RECIPES, st.sampled_from(LEVELS))
def test_the_edges_of_both_graphs_are_accounted_for(first, second, level):
    """At the levels that open nothing: by the edges of after, and those of before that went."""
    if level in ("primitive", "kernel"):
        level = "composite"
    change = Change(build(first), build(second[: len(second) // 2] + first))
    scene = scene_of(subject_of(change), level)
    image = change.kept | {x: x for x in change.removed}
    wanted = {(x, n, at) for n in change.after.nodes for at, x in enumerate(n.inputs)}
    for n in change.removed:
        wanted |= {(image[x], n, at) for at, x in enumerate(n.inputs)}
    for old, new in change.kept.items():
        went = {(image[x], new, at) for at, x in enumerate(old.inputs)}
        wanted |= {edge for edge in went if edge[0] not in new.inputs}
    ids = {unit.id: unit.node for unit in scene.units.all}
    assert {(ids[x], ids[reader], at) for x, reader, at in accounted(scene)} == wanted


@pytest.mark.parametrize("level", LEVELS)
def test_every_pass_of_a_real_program_can_be_drawn(level):
    def loss(x, w):
        return ndl.log(ndl.exp(x @ w * 1.0).sum())

    x, w = np.ones((4, 3), np.float32), np.ones((3, 2), np.float32)
    stages = ndl.compile(ndl.value_and_grad(loss, argnums=1), x, w).stages
    for before, after in pairwise(stages):
        change = Change(before.graph, after.graph)
        text = picture(before.graph, after.graph, level=level)
        marked = {line[:1] for lines in text.labels.values() for line in lines}
        assert (marked & {"+", "−", "~"} != set()) == bool(change.marks)  # noqa: RUF001


def test_large_constants_are_compared_by_their_bits():
    before = Graph([], [table(*range(1000))])
    assert not Change(before, Graph([], [table(*range(1000))])).marks
    assert str(Change(before, Graph([], [table(*range(1, 1001))]))) == "1 added, 1 removed"


def test_subtract_is_not_taken_for_another_one():
    x, y = leaf("x", 2), leaf("y", 2)
    before = Graph([x, y], [node(SUBTRACT, x, y)])
    assert str(Change(before, Graph([x, y], [node(SUBTRACT, y, x)]))) == "1 touched"
