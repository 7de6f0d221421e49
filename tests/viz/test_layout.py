"""The invisible edges: they put frames below each other and parts in rows, and make no cycle."""

from collections import defaultdict
from graphlib import TopologicalSorter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from needle_ir.ir import INPUT, NO_ATTRS, Graph, Node, Op, Origin, TensorType, input_node
from needle_ir.viz.layout import layout_of, without_cycles
from needle_ir.viz.scene import scene_of
from needle_ir.viz.subject import Subject

TYPE = TensorType((2,), np.dtype("float32"))
OP = Op(name="op", infer=lambda *types: TYPE)
USER = compile("def train_step(): pass", "model.py", "exec").co_consts[0]


def leaf():
    return input_node(TYPE)


def node(module, *inputs):
    return Node(OP, inputs, NO_ATTRS, TYPE, Origin(USER, 0, module, "forward"))


def graph_of(*outputs):
    inputs = [x for x in Graph([], outputs).nodes if x.op is INPUT]
    return Graph(inputs, outputs)


def pairs(graph):
    """The pairs as nodes, after a check that they and the edges make no cycle."""
    scene = scene_of(Subject(graph), "composite")
    found = layout_of(scene).pairs
    above = defaultdict(set)
    for upper, lower, *_ in [*scene.edges, *found]:
        above[lower].add(upper)
    TopologicalSorter(above).prepare()
    members = {box: members[0] for box, members in scene.boxes.items()} | scene.stand_ins
    nodes = {i: scene.unit(unit).node for i, unit in members.items()}
    return {(nodes[upper], nodes[lower]) for upper, lower in found}


def test_a_layer_stands_below_the_one_it_reads_from():
    w, v = leaf(), leaf()
    first = node("linear1", leaf(), w)
    statistic = node("linear1", first)
    second = node("linear2", first, v)
    assert pairs(graph_of(second, statistic)) == {(statistic, v)}


def test_boxes_stand_where_dot_puts_them():
    x = leaf()
    a = node("", x)
    assert pairs(graph_of(node("", a, leaf()), node("", a))) == set()


def test_frames_in_frames():
    w = leaf()
    a = node("blocks.0.linear", leaf())
    end = node("blocks.0", a)
    statistic = node("blocks.0.norm", a)
    b = node("blocks.1.linear", end, w)
    found = pairs(graph_of(node("blocks.1", b), statistic))
    assert found == {(end, w), (statistic, w)}


def test_frames_that_read_from_each_other_are_left_alone():
    x = leaf()
    a1, b2 = node("a", x), node("b", x)
    b1, a2 = node("b", a1), node("a", b2)
    outputs = node("b", b1), node("a", a2)
    assert {upper for upper, _ in pairs(graph_of(*outputs))} == {x}


def test_so_are_the_frames_inside_them():
    x = leaf()
    d1 = node("a.d", node("a.c", x))
    e1 = node("b.e", node("a.d", x))
    f2 = node("b.f", node("b.e", x))
    c2 = node("a.c", node("b.f", x))
    assert {upper for upper, _ in pairs(graph_of(d1, e1, f2, c2))} == {x}


def test_separate_parts_stand_in_columns():
    outputs = []
    for _ in range(20):
        outputs.append(node("", node("", node("", leaf()))))
    below = pairs(graph_of(*outputs))
    uppers, lowers = zip(*below, strict=True)
    assert len(set(uppers)) == len(uppers), "one part below each"
    assert len(set(lowers)) == len(lowers), "one part above each"
    assert set(uppers) <= set(outputs)
    assert all(lower.op is INPUT for lower in lowers)
    assert 3 <= len(outputs) - len(below) <= 7, "columns"


def test_few_parts_stand_side_by_side():
    assert pairs(graph_of(*[node("", leaf()) for _ in range(3)])) == set()


def test_columns_are_of_about_equal_height():
    outputs = [node("", leaf()) for _ in range(9)]
    tall = leaf()
    for _ in range(20):
        tall = node("", tall)
    below = pairs(graph_of(*outputs, tall))
    assert tall not in {upper for upper, _ in below}, "nothing stands below the tall part"
    assert len(below) == 8, "one column beside it is high enough"


def test_the_parts_of_a_frame_stay_together():
    """Two parts in each of four frames: in a frame, then the frames."""
    outputs = {}
    for name in "abcd":
        outputs[name] = [node(f"m.{name}", node(f"m.{name}", leaf())) for _ in range(2)]
    tall = leaf()
    for _ in range(40):
        tall = node("tall", tall)
    below = pairs(graph_of(*[x for two in outputs.values() for x in two], tall))
    frame = {
        node: name for name, two in outputs.items() for x in two for node in Graph([], [x]).nodes
    }
    inside = [(a, b) for a, b in below if frame[a] == frame[b]]
    assert len(inside) == 4, "the second part of a frame below the first"
    assert [(a, b) for a, b in below if frame[a] != frame[b]], "frames below each other"


def test_arcs_that_close_a_cycle_are_dropped():
    arcs = [("a", "b"), ("b", "c"), None, ("c", "a"), ("a", "c"), ("d", "d")]
    order, kept = without_cycles("abcd", arcs)
    assert sorted(order) == list("abcd")
    assert kept == [True, True, False, False, True, False]
    assert order.index("a") < order.index("b") < order.index("c")


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40))
def test_what_is_kept_is_in_order_and_no_more_is_dropped_than_needed(arcs):
    order, kept = without_cycles(range(10), arcs)
    turn = {vertex: number for number, vertex in enumerate(order)}
    assert len(turn) == 10
    for (a, b), keeps in zip(arcs, kept, strict=True):
        assert keeps == (turn[a] < turn[b])
    if all(a < b for a, b in arcs):
        assert all(kept)


ROWS = st.tuples(
    st.lists(st.integers(0, 40), max_size=2),
    st.sampled_from(["", "a", "b", "a.c", "a.d", "b.e", "b.f"]),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(ROWS, min_size=5, max_size=40))
def test_there_is_never_a_cycle(rows):
    made = [leaf()]
    for picks, module in rows:
        operands = [made[pick % len(made)] for pick in picks]
        made.append(node(module, *operands) if operands else leaf())
    pairs(Graph([x for x in made if x.op is INPUT], made[-1:], unused=made))
