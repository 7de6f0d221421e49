"""The parts of a page: its pictures, and how its text is put together."""

import base64
import hashlib
import re
import shutil
import xml.etree.ElementTree as ET

import pytest

from needle_ir.ir import Graph, input_node, value_names
from needle_ir.viz import Change
from needle_ir.viz.dot import dot_of
from needle_ir.viz.draw import draw
from needle_ir.viz.page import Limits, page, page_picture
from needle_ir.viz.page.picture import slim
from needle_ir.viz.render import dot_svg
from needle_ir.viz.svg import svg_of
from tests.viz.sample_graphs import CONCAT, TYPE, expression, node, rewritten, training_step

needs_dot = pytest.mark.skipif(
    shutil.which("dot") is None, reason="the dot program of Graphviz is not installed"
)
LAYOUTS = [
    pytest.param(lambda drawing: dot_svg(dot_of(drawing)), marks=needs_dot, id="dot"),
    pytest.param(svg_of, id="own"),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("level", ["module", "composite", "primitive"])
def test_boxes_and_edges_can_be_told_apart(layout, level):
    drawing = draw(training_step(), level=level)
    root = ET.fromstring(slim(layout(drawing)))
    groups = [g for g in root.iter() if g.tag.endswith("}g")]
    assert sorted(g.get("data-box") for g in groups if g.get("data-box")) == sorted(
        box.id for box in drawing.boxes
    )
    ends = [frozenset(g.get("data-ends").split()) for g in groups if g.get("data-ends")]
    arrows = [frozenset((arrow.tail, arrow.head)) for arrow in drawing.arrows]
    assert set(arrows) <= set(ends)
    words = {"".join(text.itertext()) for text in root.iter() if text.tag.endswith("}text")}
    for box in drawing.boxes:
        for line in box.lines:
            assert any(span.text.strip() in word for span in line for word in words)
    text = ET.tostring(root, encoding="unicode")
    assert "<title" not in text
    assert "xlink" not in text
    assert "font-family" not in text


def test_values_have_the_names_that_are_given():
    before, after = rewritten()
    names = {
        x: f"%{side}{i}"
        for side, graph in (("old", before), ("new", after))
        for i, x in enumerate(graph.nodes)
    }
    found = page_picture(Change(before, after), "composite", names, Limits(20.0))
    assert {x for values in found.values.values() for x in values} <= set(names.values())
    removed = [box for box, mark in found.marks.items() if mark == "removed"]
    assert removed
    assert all(name.startswith("%old") for box in removed for name in found.values[box])
    for name in (x for box in removed for x in found.values[box]):
        assert name in found.svg


def test_a_change_takes_what_is_known():
    before, after = rewritten()
    assert Change(before, after).kept
    assert Change(before, after, {}).kept == {}
    known = Change(before, after, {before.nodes[0]: after.nodes[0]})
    assert known.added == set(after.nodes) - {after.nodes[0]}
    assert known.removed == set(before.nodes) - {before.nodes[0]}


@needs_dot
def test_dot_takes_an_op_of_very_many_operands():
    inputs = [input_node(TYPE, f"layers.{i}.{'a' * 20}.weight") for i in range(1000)]
    graph = Graph(inputs, [node(CONCAT, *inputs)])
    assert "concat" in dot_svg(dot_of(draw(graph)), 60.0)
    picture = page_picture(graph, "composite", value_names(graph), Limits(60.0))
    assert picture.notes == ()


def test_only_its_own_script_and_style_may_run():
    html = page("@<b>", {"x": "</script>"}, {"picture-0": {}})
    assert "<title>@&lt;b&gt; · needle_ir report</title>" in html
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", html)
    assert html.count("</script>") == 3


def test_numbers_that_json_has_not_are_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        page("@x", {"seconds": float("nan")}, {})


def test_a_drawing_without_a_heading():
    drawing = draw(expression())
    bare = type(drawing)(**{**vars(drawing), "heading": (), "legend": ()})
    assert "@expression" in dot_of(drawing).source
    assert "@expression" not in dot_of(bare).source
    assert "@expression" in svg_of(drawing)
    assert "@expression" not in svg_of(bare)
