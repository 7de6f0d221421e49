"""The DOT text: what stands in it, what it accounts for, that it is stable."""

import difflib
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from needle_ir.ir import (
    CONSTANT,
    INPUT,
    NO_ATTRS,
    Attrs,
    Graph,
    Node,
    Op,
    Origin,
    TensorType,
    Trait,
    constant_node,
    input_node,
)
from needle_ir.viz import LOOKS, Kind, changes, kind_of, to_dot

GOLDEN = Path(__file__).parent / "golden"
UPDATE = "NEEDLE_IR_UPDATE_GOLDEN"
F32 = np.dtype("float32")
USER = compile("def train_step(): pass", "model.py", "exec").co_consts[0]


def like_first(*types, **attrs):
    return types[0] if types else TensorType((2, 3), F32)


def op(name, *traits, decompose=None):
    return Op(name=name, infer=like_first, traits=frozenset(traits), decompose=decompose)


ADD = op("add", Trait.ELEMENTWISE, Trait.COMMUTATIVE)
SUBTRACT = op("subtract", Trait.ELEMENTWISE)
EXP = op("exp", Trait.ELEMENTWISE)
WHERE = op("where", Trait.ELEMENTWISE)
MATMUL = op("matmul", Trait.CONTRACTION)
SUM = op("sum", Trait.REDUCTION)
TRANSPOSE = op("transpose", Trait.VIEW)
UNIFORM = op("random_uniform", Trait.RANDOM, Trait.EFFECT)
ASSIGN = op("assign", Trait.EFFECT)
STOP = op("stop_gradient", Trait.MARKER)
LINEAR = op("linear", decompose=lambda *nodes: nodes[0])
CONCAT = op("concat")


def node(op, *inputs, module="", phase="forward", shape=None, **attrs):
    type = inputs[0].type if shape is None else TensorType(shape, F32)
    origin = Origin(USER, 0, module, phase)
    return Node(op, inputs, Attrs(attrs) if attrs else NO_ATTRS, type, origin)


def leaf(name, *shape):
    return input_node(TensorType(shape, F32), name)


def scalar(value, dtype=F32):
    return constant_node(np.array(value, dtype))


def expression():
    """sum(where(x > 0, x - y, y - x) * ...): literals, order of operands, a named constant."""
    x, y = leaf("x", 2, 3), leaf("y", 2, 3)
    table = constant_node(np.arange(3, dtype=F32))
    difference = node(SUBTRACT, x, y)
    chosen = node(WHERE, difference, scalar(0.1), y)
    shifted = node(ADD, node(ADD, chosen, table), scalar(1e-5))
    total = node(SUM, shifted, shape=(2,), axes=(1,), keepdims=False)
    return Graph([x, y], [total, shifted], name="expression")


def training_step():
    """Two layers in a list, forward, backward and update; one learning rate for all."""
    x, lr = leaf("x", 4, 3), leaf("lr")
    inputs, weights, saved = [x, lr], [], []
    h = x
    draw = node(UNIFORM, shape=(4, 3), module="dropout", low=0.0, high=1.0)
    h = node(ADD, h, draw, module="dropout")
    for i in range(4):
        weight = leaf(f"layers.{i}.weight", 3, 3)
        inputs.append(weight)
        weights.append(weight)
        saved.append(h)
        h = node(LINEAR, h, weight, module=f"layers.{i}.linear")
        h = node(EXP, h, module=f"layers.{i}")
    loss = node(SUM, h, shape=(), module="loss", axes=(0, 1))
    g = node(SUBTRACT, h, loss, module="loss", phase="backward")
    updates = []
    for i in (3, 2, 1, 0):
        module = f"layers.{i}.linear"
        flipped = node(TRANSPOSE, saved[i], shape=(3, 4), module=module, phase="backward")
        gradient = node(MATMUL, flipped, g, shape=(3, 3), module=module, phase="backward")
        g = node(MATMUL, g, weights[i], module=module, phase="backward")
        scaled = node(ADD, gradient, lr, phase="update")
        scaled = node(ADD, scaled, lr, phase="update")
        updates.append(node(SUBTRACT, weights[i], scaled, phase="update"))
    g = node(STOP, g, phase="backward")
    return Graph(inputs, [loss, *updates], effects=[draw], unused=[g], name="train_step")


def rewritten():
    """exp(x) + 2 + 3 -> exp(x) + 5, under an exp that a pass had to make anew."""
    x = leaf("x", 2, 3)
    exponential = node(EXP, x)
    inner = node(ADD, exponential, scalar(2.0), module="inner")
    outer = node(ADD, inner, scalar(3.0), module="outer")
    before = Graph([x], [node(EXP, outer, module="last")], name="constants")
    merged = node(ADD, exponential, scalar(5.0), module="merged")
    return before, Graph([x], [node(EXP, merged, module="last")], name="constants")


def assert_golden(name, text):
    path = GOLDEN / name
    if UPDATE in os.environ:
        path.write_text(text, encoding="utf-8", newline="\n")
    wanted = path.read_text(encoding="utf-8")
    if text != wanted:
        lines = wanted.splitlines(), text.splitlines()
        diff = "\n".join(difflib.unified_diff(*lines, f"golden/{name}", "now", lineterm=""))
        pytest.fail(f"set {UPDATE}=1 to accept the new text\n{diff}", pytrace=False)


def test_golden_expression():
    assert_golden("expression.dot", to_dot(expression()).source)


def test_golden_training_step():
    assert_golden("training_step.dot", to_dot(training_step()).source)


def test_golden_rewritten():
    before, after = rewritten()
    assert_golden("rewritten.dot", to_dot(after, before=before, title="01-simplify").source)


def lines_with(dot, text):
    return [line.strip() for line in dot.source.splitlines() if text in line]


def label_of(dot, i):
    """The label of a node without markup, its lines set apart by bars."""
    (line,) = (line for line in dot.source.splitlines() if line.strip().startswith(f"{i} [label="))
    label = re.search("label=<(.*)> shape=", line)[1]
    return re.sub("<[^>]*>", "", label.replace("<br/>", "|"))


def frames(dot):
    """The frames around every node: `{"n3": ["forward", "blocks"]}`, by their labels."""
    inside, result = [], {}
    for line in dot.source.splitlines()[1:-1]:
        line = line.strip()
        if line.startswith("subgraph "):
            inside.append(None)
        elif line == "}":
            inside.pop()
        elif line.startswith("graph [label=") and inside:
            inside[-1] = re.match(r'graph \[label="([^"]*)"', line)[1]
        elif match := re.match(r"(n[\d_n]+) \[label=", line):
            result[match[1]] = list(inside)
    return result


def test_labels():
    dot = to_dot(expression())
    assert label_of(dot, "n0") == "%x|f32[2,3]"
    assert label_of(dot, "n2") == "subtract|%0 : f32[2,3]"
    assert label_of(dot, "n4") == "where(·, 0.1, ·)|%2 : f32[2,3]"
    assert label_of(dot, "n5") == "constant|[0.0, 1.0, 2.0]|%3 : f32[3]"
    assert label_of(dot, "n8") == "add(·, 1e-05)|%6 : f32[2,3]|output 1"
    assert label_of(dot, "n9") == "sum|axes=[1]|%7 : f32[2]|output 0"
    assert 'tooltip="%2 = where(%0, %1, %y) : f32[2,3]  # model.py:1 in train_step"' in dot.source


def test_literals_are_written_as_numpy_does():
    x = leaf("x", 2)
    values = [(0.1, "float32"), (True, "bool"), (-3, "int64"), (np.inf, "float32"), (-0.0, "f8")]
    nodes = [node(SUBTRACT, scalar(value, dtype), x) for value, dtype in values]
    source = to_dot(Graph([x], nodes)).source
    for text in ("0.1", "true", "-3", "inf", "-0.0"):
        assert f"subtract({text}, ·)" in source


def test_a_scalar_that_is_an_output_or_has_a_reader_of_many_operands_is_a_node():
    two = scalar(2.0)
    x = leaf("x", 2)
    dot = to_dot(Graph([x], [two, node(CONCAT, x, two, x, x), node(EXP, two)]))
    assert label_of(dot, "n1") == "constant|2.0|%0 : f32[]|output 0"
    assert lines_with(dot, "n1 -> n2") == ["n1 -> n2 [headlabel=1]"]
    assert label_of(dot, "n3") == "exp(2.0)|%2 : f32[]|output 2"
    assert not lines_with(dot, "n1 -> n3")


def test_positions_stand_where_the_order_matters():
    x, y = leaf("x", 2), leaf("y", 2)
    dot = to_dot(Graph([x, y], [node(SUBTRACT, y, x), node(ADD, y, x), node(EXP, y)]))
    edges = lines_with(dot, " -> ")
    assert edges[:3] == ["n1 -> n2 [headlabel=0]", "n0 -> n2 [headlabel=1]", "n1 -> n3"]
    assert edges[3:5] == ["n0 -> n3", "n1 -> n4"]


def test_long_labels_are_cut():
    x = leaf("x" * 100, 2)
    a = node(EXP, x, first=tuple(range(100)), second="s" * 100, third=3, fourth=4, last=5)
    dot = to_dot(Graph([x], [a]), max_label=20)
    assert label_of(dot, "n0") == f"%{'x' * 18}…|f32[2]"
    assert label_of(dot, "n1") == "exp|first=[0, 1, 2, 3, …|fourth=4, last=5|…|%0 : f32[2]|output 0"


def test_attributes_that_are_off_or_seen_in_the_type_are_left_out():
    x = leaf("x", 2, 3)
    a = node(EXP, x, shape=(2, 3), axes=None, keepdims=False, dtype=F32, size=(2, 3), axis=0)
    assert label_of(to_dot(Graph([x], [a])), "n1") == "exp|axis=0|%0 : f32[2,3]|output 0"


def test_roles():
    dot = to_dot(training_step())
    assert label_of(dot, "n16") == "sum|axes=[0, 1]|%10 : f32[]|output 0|→ backward"
    assert label_of(dot, "n6").endswith("|effect 0")
    assert label_of(dot, "n42").endswith("|unused")
    assert label_of(dot, "n1") == "%lr|f32[]|→ 8 readers"
    assert len(lines_with(dot, 'peripheries="2"')) == len(training_step().outputs)


def test_stand_ins_for_what_another_phase_or_many_nodes_read():
    dot = to_dot(training_step())
    (stand_in,) = lines_with(dot, 'n16_n18 [label="%10 sum"')
    assert 'tooltip="%10 = sum(%9)' in stand_in
    assert lines_with(dot, "n16_n18 -> ") == ["n16_n18 -> n18 [headlabel=1]"]
    assert lines_with(dot, "n1_n20 -> ") == ["n1_n20 -> n20"]
    edges = lines_with(dot, "n16 -> ") + lines_with(dot, "n1 -> ")
    assert all(line.endswith('[style="invis"]') for line in edges)


def test_phases_and_modules_are_nested_frames():
    inside = frames(to_dot(training_step()))
    assert inside["n6"] == ["forward", "dropout"]
    assert inside["n8"] == ["forward", "layers", "layers.0", "linear"]
    assert inside["n9"] == ["forward", "layers", "layers.0"]
    assert inside["n2"] == inside["n8"], "a weight stands with the layer that uses it"
    assert inside["n1"] == ["update"], "the learning rate stands where it is read"
    source = to_dot(training_step()).source
    labels = re.findall(r'graph \[label="(forward|backward|update)"', source)
    assert labels == ["forward", "backward", "update"]


def test_one_phase_is_no_frame_and_a_chain_of_modules_is_one():
    x = leaf("x", 2)
    h = node(EXP, x, module="encoder.blocks.10.attention")
    h = node(EXP, h, module="encoder.blocks.10.mlp")
    h = node(EXP, h, module="encoder.blocks.9")
    h = node(EXP, h, module="head.linear")
    inside = frames(to_dot(Graph([x], [node(EXP, h)])))
    assert inside["n1"] == ["encoder.blocks", "blocks.10", "attention"]
    assert inside["n3"] == ["encoder.blocks", "blocks.9"]
    assert inside["n4"] == ["head.linear"]
    assert inside["n5"] == []
    order = list(inside)
    assert order.index("n3") < order.index("n1"), "9 comes before 10"


def test_every_call_of_a_module_has_its_frame():
    x = h = leaf("x", 2)
    for _ in range(3):
        h = node(EXP, h, module="block.relu")
        h = node(SUM, h, module="block")
    for _ in range(2):
        h = node(EXP, h, module="cell.inner")
        h = node(ADD, h, h)
    inside = frames(to_dot(Graph([x], [h])))
    assert [inside[f"n{i}"][-1] for i in (1, 3, 5)] == ["relu", "relu (2)", "relu (3)"]
    assert [inside[f"n{i}"] for i in (2, 4, 6)] == [["block"]] * 3
    assert [inside[f"n{i}"] for i in (7, 9)] == [["cell.inner"], ["cell (2).inner"]]


def test_siblings_that_do_not_read_from_each_other_are_one_call():
    x, y = leaf("x", 2), leaf("y", 2)
    a, b = node(EXP, x, module="encoder"), node(EXP, y, module="encoder")
    inside = frames(to_dot(Graph([x, y], [node(ADD, a, b)])))
    assert inside["n2"] == inside["n3"] == ["encoder"]


def test_new_nodes_are_marked_and_counted():
    before, after = rewritten()
    dot = to_dot(after, before=before)
    assert "5 nodes: 4 gone, 2 new" in dot.source
    assert "gone: 2 add, 2 constant" in dot.source
    marked = lines_with(dot, "penwidth")
    assert [line.split(" ")[0] for line in marked if line.startswith("n")] == ["n3"]
    assert 'add(·, <font color="#117733"><b>5.0</b></font>)' in dot.source


def test_changes_do_not_count_what_only_has_other_operands():
    before, after = rewritten()
    changed = changes(before, after)
    assert {x.op for x in changed.new} == {ADD, after.nodes[2].op}
    assert str(changed) == "4 gone, 2 new"
    assert changes(before, before).new == changes(after, after).gone == frozenset()


KINDS = [
    (ADD, Kind.ELEMENTWISE),
    (MATMUL, Kind.CONTRACTION),
    (SUM, Kind.REDUCTION),
    (TRANSPOSE, Kind.VIEW),
    (UNIFORM, Kind.EFFECT),
    (ASSIGN, Kind.EFFECT),
    (STOP, Kind.MARKER),
    (LINEAR, Kind.COMPOSITE),
    (CONCAT, Kind.OTHER),
    (INPUT, Kind.INPUT),
    (CONSTANT, Kind.CONSTANT),
    (op("relu", Trait.ELEMENTWISE, decompose=max), Kind.COMPOSITE),
]


@pytest.mark.parametrize(("op", "kind"), KINDS)
def test_kinds_come_from_traits(op, kind):
    assert kind_of(op) is kind


def test_every_kind_has_a_look_of_its_own():
    assert set(LOOKS) == set(Kind)
    assert len({(look.fill, look.shape, look.style) for look in LOOKS.values()}) == len(Kind)
    # In a grey print, shapes and border styles are what is left: none is used more than twice.
    assert max(Counter((x.shape, x.style) for x in LOOKS.values()).values()) <= 2
    for look in LOOKS.values():
        assert contrast("#222222", look.fill) > 7, "text is readable on every fill (WCAG AAA)"


def contrast(a, b):
    """The contrast ratio of two colours by WCAG 2."""
    bright, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_the_legend_lists_what_is_there():
    source = to_dot(expression()).source
    legend = re.findall(r'point-size="9">([a-z, ]+)</font></td>', source)
    assert legend == ["input", "constant", "reduction", "elementwise"]
    assert "elementwise" not in to_dot(expression(), legend=False).source


NASTY = [
    '"',
    "\\",
    "\\n",
    "a\\",
    "<b>",
    "a < b > c",
    "|{}|",
    "&amp;",
    "é→漢",
    "new\nline",
    "\x00\x1b",
    "n1",
]


@pytest.mark.parametrize("text", NASTY)
def test_names_are_shown_as_they_are(text):
    if shutil.which("dot") is None:
        pytest.skip("the dot program of Graphviz is not installed")
    x = leaf("x", 2)
    h = node(op(text), x, module=f"{text}.m.{text}", phase=text, attribute=text)
    graph = Graph([x], [node(op(text), h, h, phase="other")], name=text)
    dot = to_dot(graph, title=text, before=Graph([x], [h]))
    done = subprocess.run(["dot", "-Tsvg"], input=dot.source.encode(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    svg = ET.fromstring(done.stdout)
    texts = [
        element.text.replace("\xa0", " ")
        for element in svg.iter("{http://www.w3.org/2000/svg}text")
    ]
    assert texts.count(shown) >= 4, "the title, the phase, the op twice"
    assert any(line.startswith("attribute=") for line in texts)
    assert any(f.endswith(shown) for f in texts)
