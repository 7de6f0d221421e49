"""The layout without Graphviz: nothing overlaps, edges go down, and all of a drawing is there."""

import re
import time
import xml.etree.ElementTree as ET
from collections import defaultdict
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from needle_ir.passes import make_plan
from needle_ir.viz import Change, Heat
from needle_ir.viz.draw import draw
from needle_ir.viz.layered import place
from needle_ir.viz.subject import LEVELS
from needle_ir.viz.svg import svg_of
from tests.passes.training_step import optimized
from tests.passes.training_step import training_step as adam_step
from tests.viz.sample_graphs import (
    EXP,
    RECIPES,
    SUM,
    build,
    chain,
    deep_modules,
    dense,
    expression,
    fused,
    layers,
    leaf,
    node,
    rewritten,
    training_step,
    wide,
)

SVG = "{http://www.w3.org/2000/svg}"


def overlap(a, b):
    return (
        a.x + a.width > b.x + 0.01
        and b.x + b.width > a.x + 0.01
        and a.y + a.height > b.y + 0.01
        and b.y + b.height > a.y + 0.01
    )


def contains(outer, inner):
    return (
        outer.x <= inner.x + 0.01
        and outer.y <= inner.y + 0.01
        and outer.x + outer.width >= inner.x + inner.width - 0.01
        and outer.y + outer.height >= inner.y + inner.height - 0.01
    )


def assert_nothing_overlaps(drawing):
    placement = place(drawing)
    assert placement.boxes.keys() == {box.id for box in drawing.boxes}
    inside = defaultdict(list)
    for box in drawing.boxes:
        path = box.place
        while path not in placement.frames and path:
            path = path[:-1]
        inside[path].append(placement.boxes[box.id])
    for path, area in placement.frames.items():
        above = path[:-1]
        while above not in placement.frames and above:
            above = above[:-1]
        inside[above].append(area)
    for path, areas in inside.items():
        assert not any(overlap(a, b) for a, b in combinations(areas, 2))
        if path:
            assert all(contains(placement.frames[path], area) for area in areas)
    for area in [*placement.boxes.values(), *placement.frames.values()]:
        assert area.x >= -0.01
        assert area.y >= -0.01
        assert area.x + area.width <= placement.width + 0.01
        assert area.y + area.height <= placement.height + 0.01


@settings(deadline=None, max_examples=60)
@given(RECIPES, st.sampled_from(LEVELS))
def test_nothing_overlaps(recipe, level):
    assert_nothing_overlaps(draw(build(recipe), level=level))


@pytest.mark.parametrize("make", [chain, layers, wide, dense, deep_modules])
def test_nothing_overlaps_in_large_graphs(make):
    assert_nothing_overlaps(draw(make(120)))


def test_readers_stand_below_what_they_read():
    drawing = draw(expression())
    areas = place(drawing).boxes
    for arrow in drawing.arrows:
        tail, head = areas[arrow.tail], areas[arrow.head]
        assert tail.y + tail.height < head.y


def test_a_source_stands_right_above_its_reader():
    x = h = leaf("x", 2)
    for _ in range(5):
        h = node(EXP, h)
    w = leaf("w", 2)
    drawing = draw(type(expression())([x, w], [node(SUM, node(EXP, h), w)]))
    areas = place(drawing).boxes
    assert areas["n1"].y == max(area.y for i, area in areas.items() if i != "n8")


def test_an_edge_over_several_layers_bends_around_the_boxes():
    x = h = leaf("x", 2)
    for _ in range(4):
        h = node(EXP, h)
    drawing = draw(type(expression())([x], [node(SUM, h, x)]))
    placement = place(drawing)
    (number,) = (n for n, a in enumerate(drawing.arrows) if (a.tail, a.head) == ("n0", "n5"))
    bends = placement.bends[number]
    assert len(bends) == 4
    for i in ("n1", "n2", "n3", "n4"):
        area = placement.boxes[i]
        assert not any(area.x <= x <= area.x + area.width for x, _ in bends)


def test_an_edge_into_a_frame_bends_around_what_is_in_it():
    x = leaf("x", 2)
    h = node(EXP, x)
    inner = h
    for _ in range(3):
        inner = node(EXP, inner, module="m")
    drawing = draw(type(expression())([x], [node(SUM, inner, h, module="m")]))
    placement = place(drawing)
    (number,) = (n for n, a in enumerate(drawing.arrows) if (a.tail, a.head) == ("n1", "n5"))
    assert len(placement.bends[number]) == 3, "beside each of the three"


def test_phases_stand_side_by_side():
    placement = place(draw(training_step()))
    forward, backward, update = (placement.frames[x,] for x in ("forward", "backward", "update"))
    assert forward.x + forward.width < backward.x
    assert backward.x + backward.width < update.x
    assert forward.y == backward.y == update.y


def test_modules_of_all_phases_have_one_order():
    """In the mirrored drawing the backward pass goes up."""
    drawing = draw(training_step(4), level="module")
    areas = place(drawing).boxes
    for phase in range(3):
        column = [areas[row[phase]].y for row in sorted(drawing.rows) if len(row) == 3]
        assert column in (sorted(column), sorted(column, reverse=True))


def root(drawing):
    return ET.fromstring(svg_of(drawing))


def words(element):
    return ["".join(text.itertext()) for text in element.iter(f"{SVG}text")]


@settings(deadline=None, max_examples=40)
@given(RECIPES, st.sampled_from(LEVELS))
def test_everything_is_in_the_svg(recipe, level):
    drawing = draw(build(recipe), level=level)
    svg = root(drawing)
    groups = {g.get("id"): g for g in svg.iter(f"{SVG}g") if g.get("id")}
    assert groups.keys() == {box.id for box in drawing.boxes}
    for box in drawing.boxes:
        assert words(groups[box.id]) == ["".join(s.text for s in line) for line in box.lines]
        assert groups[box.id].find(f"{SVG}title").text == box.tooltip
    found = words(svg)
    for arrow in drawing.arrows:
        assert set(arrow.lines) <= set(found)
    heads = [p for p in svg.iter(f"{SVG}path") if (p.get("d") or "").endswith("z")]
    assert len(heads) == len(drawing.arrows)
    assert [line for line in drawing.heading if line not in found] == []


def test_the_looks():
    x = leaf("x", 2)
    heat = Heat(build([]), {})
    svg = svg_of(draw(Change(*rewritten())))
    assert 'stroke="#117733"' in svg
    assert 'stroke="#cc3311"' in svg
    assert "stroke-dasharray" in svg
    assert 'stroke="#cc8800"' in svg
    assert "+ added" in svg
    kernel = type(expression())([x], [fused(x, x)])
    hot = svg_of(draw(Heat(kernel, {kernel.nodes[1]: 1.0}), level="kernel"))
    assert "fused %0 · 1 s · 100 %" in hot
    assert svg_of(draw(heat))


def test_odd_characters_are_shown_as_they_are():
    graph = type(expression())([], [node(EXP, leaf('<&"\x00', 2), module="<m>")])
    graph = type(graph)([graph.outputs[0].inputs[0]], graph.outputs, name="<g>")
    found = words(root(draw(graph)))
    assert "@<g>" in found
    assert "<m>" in found
    assert any("\\x00" in line or "_" in line for line in found)


def test_equal_graphs_give_equal_text():
    texts = {svg_of(draw(training_step(), level=level)) for level in LEVELS for _ in range(2)}
    assert len(texts) == len(LEVELS) - 1, "nothing is nested: kernel and composite are the same"


def test_a_real_training_step_with_its_plan():
    plan = make_plan(optimized(adam_step()[0]))
    for level in LEVELS:
        drawing = draw(plan, level=level)
        assert_nothing_overlaps(drawing)
        assert ET.fromstring(svg_of(drawing)) is not None


def test_a_picture_has_the_size_of_what_is_in_it():
    svg = svg_of(draw(expression()))
    width, height = map(float, re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups())
    placement = place(draw(expression()))
    assert width >= placement.width
    assert placement.height < height < placement.height + 100


def test_the_time_grows_with_the_size_and_not_faster():
    def seconds(drawing):
        start = time.process_time()
        svg_of(drawing)
        return time.process_time() - start

    drawings = [draw(layers(n)) for n in (100, 1000)]
    small, large = (min(seconds(drawing) for _ in range(2)) for drawing in drawings)
    assert large < 30 * small  # ten times, and room for noise; quadratic would be a hundred
