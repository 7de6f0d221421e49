"""Every edge of a graph is in its picture, at every level, or is accounted for by a box."""

import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from needle_ir.ir import Graph, Trait, input_node
from needle_ir.viz import to_dot
from needle_ir.viz.scene import scene_of
from needle_ir.viz.subject import LEVELS, subject_of
from tests.passes.random_graphs import samples
from tests.passes.training_step import optimized
from tests.passes.training_step import training_step as adam_step
from tests.viz.dot_text import DotText
from tests.viz.sample_graphs import (
    MODULES,
    RECIPES,
    build,
    chain,
    deep_modules,
    dense,
    layers,
    training_step,
    wide,
)


def nested(node):
    graphs = [value for value in node.attrs.values() if isinstance(value, Graph)]
    return graphs[0] if graphs else None


def opened(node):
    """What a node is made of, at the primitive level."""
    if nested(node) or node.op.decompose is None:
        return nested(node)
    inputs = [input_node(x.type) for x in node.inputs]
    return Graph(inputs, [node.op.decompose(*inputs, **node.attrs)])


BODIES = {
    "module": lambda node: None,
    "composite": lambda node: None,
    "kernel": nested,
    "primitive": opened,
}


def edges_of(graph, body):
    """(operand, reader, position) for every edge, also inside of opened nodes, by ids."""
    edges = Counter()

    def visit(graph, ids, prefix):
        for i, node in enumerate(graph.nodes):
            if node in ids:
                continue
            inner = body(node)
            if inner is not None:
                given = {x: ids[y] for x, y in zip(inner.inputs, node.inputs, strict=True)}
                ids[node] = visit(inner, given, f"{prefix}{i}_")[inner.outputs[0]]
            else:
                ids[node] = f"{prefix}{i}"
                for position, x in enumerate(node.inputs):
                    edges[ids[x], ids[node], position] += 1
        return ids

    visit(graph, {}, "n")
    return edges


def passed(use):
    """The edges of the graph that one use goes along."""
    stops = [use.source, *use.via, use.reader]
    positions = [0] * len(use.via) + [use.position]
    return list(zip(stops[:-1], stops[1:], positions, strict=True))


def accounted(scene):
    """How often each edge is drawn, spelled out, told or inside of a box, by what accounts for it.

    An edge to a view is accounted for as often as the view is looked through.
    """
    literals = [use for found in scene.literals.values() for use in found.values()]
    told = [use for uses in scene.told.values() for use in uses]
    drawn = [use for edge in scene.edges for use in edge.uses]
    handed = [use for uses in scene.handed.values() for use in uses]
    uses = [*literals, *told, *drawn, *scene.inside, *handed]
    assert len(set(uses)) == len(uses), "a use is accounted for twice"
    ids = [unit.id for unit in scene.units.all]
    found = Counter()
    for use in uses:
        for operand, reader, position in passed(use):
            found[ids[operand], ids[reader], position] += 1
    return found


def assert_accounts_for(graph, level="composite", collapse=()):
    scene = scene_of(subject_of(graph), level, collapse)
    found = accounted(scene)
    wanted = edges_of(graph, BODIES[level])
    literals = [use for x in scene.literals.values() for use in x.values()]
    told = [use for uses in scene.told.values() for use in uses]
    handed = [use for uses in scene.handed.values() for use in uses]
    drawn = [use for edge in scene.edges for use in edge.uses]
    folded = {i for use in [*literals, *told, *handed, *drawn, *scene.inside] for i in use.via}
    folded |= {use.reader for use in handed}
    folded = {scene.unit(i).id for i in folded}
    assert found.keys() == wanted.keys()
    assert {e: n for e, n in found.items() if e[1] not in folded} == {
        e: n for e, n in wanted.items() if e[1] not in folded
    }
    assert_boxes_hold_all(scene, folded, literals, told)
    for use in handed:
        assert all(role.startswith("output") for role in scene.roles[use.reader])
    assert_text_shows(scene, DotText(to_dot(graph, level=level, collapse=collapse)))


def assert_boxes_hold_all(scene, folded, literals, told):
    held = Counter(i for members in scene.boxes.values() for i in members)
    assert set(held.values()) <= {1}
    spelled, named = {use.source for use in literals}, {use.source for use in told}
    handed = {use.reader for uses in scene.handed.values() for use in uses}
    for i, unit in enumerate(scene.units.all):
        if i in held:
            continue
        assert i not in scene.roles or i in handed
        if unit.node.op.name == "input":
            assert i in named
        elif unit.node.op.name == "constant":
            assert i in spelled or i in named
        else:
            assert unit.id in folded
            assert unit.node.op.has(Trait.VIEW)


def assert_text_shows(scene, text):
    """The DOT text has the scene's boxes, stand-ins and edges, each once, with the types."""
    assert text.labels.keys() == {*scene.boxes, *scene.stand_ins}
    ends = Counter((edge.tail, edge.head) for edge in scene.edges)
    assert Counter((tail, head) for tail, head, *_ in text.edges) == ends
    for box, members in scene.boxes.items():
        if not scene.is_group(box):
            (i,) = members
            assert_label(scene, i, text.labels[box][0])
    for i, source in scene.stand_ins.items():
        unit = scene.unit(source)
        assert (
            text.labels[i] == [unit.name]
            or unit.name.endswith(text.labels[i][0])
            or (text.labels[i] == [f"{unit.name} {unit.node.op.name}"])
        )
    for edge in scene.edges:
        if len(edge.uses) == 1:
            (use,) = edge.uses
            read = scene.unit(use.reader).node.inputs[use.position]
            lines = [scene.unit(i).node.op.name for i in use.via]
            words = [*([" · ".join(lines)] if lines else []), str(read.type)]
            words = [word if len(word) <= 32 else f"{word[:31]}…" for word in words]
            words[0] = f"{use.position}: {words[0]}" if edge.ordered else words[0]
            assert "|".join(words) in text.between(edge.tail, edge.head)


def assert_label(scene, i, line):
    unit = scene.unit(i)
    literals = scene.literals.get(i, {})
    if unit.node.op.name in ("input", "constant"):
        return
    assert line.startswith(f"{unit.name} {unit.node.op.name}")
    if literals and len(unit.operands) <= len(literals) + 2:
        words = line.partition("(")[2].removesuffix(")")
        assert words.count("·") == len(unit.operands) - len(literals)


@settings(deadline=None)
@given(RECIPES, st.sampled_from(LEVELS), st.sets(st.sampled_from(MODULES[1:]), max_size=2))
def test_every_edge_is_accounted_for(recipe, level, collapse):
    assert_accounts_for(build(recipe), level, sorted(collapse))


@pytest.mark.parametrize("level", LEVELS)
@settings(deadline=None, max_examples=25)
@given(sample=samples())
def test_so_is_every_edge_of_the_passes_random_graphs(level, sample):
    assert_accounts_for(sample.graph, level)


@pytest.mark.parametrize("level", LEVELS)
def test_so_is_every_edge_of_a_training_step(level):
    recorded, _ = adam_step()
    for graph in (recorded, optimized(recorded), training_step(4)):
        assert_accounts_for(graph, level)


@settings(deadline=None, max_examples=40)
@given(RECIPES, st.sampled_from(LEVELS))
def test_no_edges_that_push_make_a_cycle(recipe, level):
    assert_no_cycle(DotText(to_dot(build(recipe), level=level)))


def assert_no_cycle(text):
    """`dot` is given no cycle to break: neither by edges, nor by invisible ones, nor by rows."""
    row = {i: ids[0] for ids in text.rows for i in ids}
    above = {row.get(i, i): set() for i in text.labels}
    for line in text.source.splitlines():
        if " -> " in line and "constraint=false" not in line:
            upper, lower = line.strip().split(" [")[0].split(" -> ")
            if row.get(upper, upper) != row.get(lower, lower):
                above[row.get(lower, lower)].add(row.get(upper, upper))
    while above:
        done = {i for i, uppers in above.items() if not uppers & above.keys()}
        assert done, "the edges make a cycle"
        above = {i: uppers for i, uppers in above.items() if i not in done}


@settings(deadline=None, max_examples=50)
@given(RECIPES, st.sampled_from(LEVELS))
def test_equal_graphs_give_equal_text(recipe, level):
    texts = [to_dot(build(recipe), level=level).source for _ in range(2)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("make", "level"), [(layers, "module"), (layers, "composite"), (dense, "composite")]
)
def test_five_thousand_nodes_within_the_time_bound(make, level):
    # Measured on an idle machine: 0.4 to 1.2 s. The bound leaves room for busy and slower ones.
    graph = make(5000)
    assert 4500 < len(graph.nodes) < 5500
    start = time.process_time()
    to_dot(graph, level=level)
    assert time.process_time() - start < 10.0


def test_the_time_grows_with_the_size_and_not_faster():
    def seconds(graph):
        start = time.process_time()
        to_dot(graph)
        return time.process_time() - start

    seconds(layers(100))
    small, large = (min(seconds(layers(n)) for _ in range(2)) for n in (150, 1500))
    assert large < 25 * small  # ten times, and room for noise; quadratic would be a hundred


def test_deeply_nested_modules():
    assert_accounts_for(deep_modules(80))
    assert_accounts_for(deep_modules(80), "module")


@pytest.mark.parametrize("make", [chain, layers, wide, dense])
def test_large_graphs_are_accounted_for(make):
    for level in LEVELS:
        assert_accounts_for(make(300), level)
