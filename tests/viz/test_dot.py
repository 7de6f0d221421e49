"""The DOT text: what stands in it, how it looks, that it is stable."""

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

from needle_ir.ir import CONSTANT, INPUT, Graph, Trait
from needle_ir.viz import LOOKS, Change, Kind, kind_of, to_dot
from tests.viz.dot_text import DotText
from tests.viz.sample_graphs import (
    ADD,
    ASSIGN,
    CONCAT,
    EXP,
    F32,
    LINEAR,
    MATMUL,
    STOP,
    SUBTRACT,
    SUM,
    TRANSPOSE,
    UNIFORM,
    WHERE,
    expression,
    fused,
    leaf,
    node,
    op,
    rewritten,
    scalar,
    table,
    training_step,
)

GOLDEN = Path(__file__).parent / "golden"
UPDATE = "NEEDLE_IR_UPDATE_GOLDEN"


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


def test_golden_training_step_by_modules():
    assert_golden("training_modules.dot", to_dot(training_step(), level="module").source)


def test_golden_rewritten():
    assert_golden("rewritten.dot", to_dot(Change(*rewritten()), title="01-simplify").source)


def picture(*outputs, **options):
    """The picture of a graph with these outputs."""
    inputs = [x for x in Graph([], outputs).nodes if x.op is INPUT]
    return DotText(to_dot(Graph(inputs, outputs), **options))


def test_labels():
    text = DotText(to_dot(expression()))
    assert text.label("n0") == "%x"
    assert text.label("n2") == "%0 subtract"
    assert text.label("n5") == "%3 where(·, 0.1, ·)"
    assert text.label("n7") == "%5 add(·, [0.0, 1.0, 2.0])"
    assert text.label("n9") == "%7 add(·, 1e-05)|output 1"
    assert text.label("n10") == "%8 sum|axes=[1]|f32[2]|output 0"
    assert text.tooltips["n2"] == ["%0 = subtract(%x, %y) : f32[2,3]  # model.py:1 in train_step"]


def test_edges_say_position_views_and_type():
    text = DotText(to_dot(expression()))
    assert text.between("n0", "n2") == ["0: f32[2,3]"]
    assert text.between("n1", "n2") == ["1: f32[2,3]"]
    assert text.between("n1", "n5") == ["2: transpose|f32[2,3]"], "the view is in the edge"
    assert text.between("n7", "n9") == ["f32[2,3]"]
    assert "n4" not in text.labels, "the transpose"


def test_positions_stand_where_the_order_matters():
    x, y = leaf("x", 2), leaf("y", 2)
    text = picture(node(SUBTRACT, y, x), node(ADD, y, x), node(EXP, y))
    assert [edge[:3] for edge in text.edges[:3]] == [
        ("n0", "n2", ["0: f32[2]"]),
        ("n1", "n2", ["1: f32[2]"]),
        ("n0", "n3", ["f32[2]"]),
    ]


def test_both_edges_of_a_square_are_drawn():
    x = leaf("x", 2)
    assert picture(node(ADD, x, x)).between("n0", "n1") == ["f32[2]"] * 2


def test_edges_are_wider_for_more_bytes():
    widths = []
    for size in (1, 10, 1000, 100_000, 10_000_000, 10**12):
        x = leaf("x", size)
        (edge,) = picture(node(EXP, x)).edges
        widths.append(float(re.search(r"penwidth=([\d.]+)", edge[3])[1]))
    assert widths == sorted(widths)
    assert widths[0] == widths[1] < widths[2] < widths[3] < widths[4]
    assert widths[-1] == 4.0


def test_literals_are_written_as_numpy_does():
    x = leaf("x", 2)
    values = [(0.1, "float32"), (True, "bool"), (-3, "int64"), (np.inf, "float32"), (-0.0, "f8")]
    nodes = [node(SUBTRACT, scalar(value, dtype), x) for value, dtype in values]
    text = picture(*nodes)
    for words in ("0.1", "true", "-3", "inf", "-0.0"):
        assert any(f"subtract({words}, ·)" in x for x in map(text.label, text.labels))


def test_larger_constants_are_written_short():
    x = leaf("x", 2)
    values = [table(1, 2), table(*[7] * 9), table(*range(9)), table(*[np.nan] * 4)]
    text = picture(*[node(ADD, x, value) for value in values])
    labels = [text.labels[i][0].partition("(")[2] for i in text.labels]
    assert labels[1:] == [
        "·, [1.0, 2.0])",
        "·, 7.0…)",
        "·, constant f32[9])",
        "·, constant f32[4])",
    ]
    assert any("constant {value=<9 elements>}" in line for line in text.tooltips["n6"])


def test_a_constant_that_is_an_output_or_one_of_many_is_a_box():
    two, x = scalar(2.0), leaf("x", 2)
    text = picture(two, node(CONCAT, x, two, x, x), node(EXP, two), node(CONCAT, *[two] * 5))
    assert text.label("n1") == "%0 2.0|output 0"
    many = [scalar(float(i)) for i in range(6)]
    text = picture(node(CONCAT, *many, x))
    assert sum(" -> " in line for line in text.source.splitlines()) == 7
    some = picture(node(CONCAT, x, x, scalar(1.0), x, scalar(2.0), x))
    assert some.label("n3") == "%2 concat(2=1.0, 4=2.0)|f32[2]|output 0"


def test_long_labels_are_cut():
    x = leaf("x" * 100, 2)
    a = node(EXP, x, first=tuple(range(100)), second="s" * 100, third=3, fourth=4, last=5)
    text = picture(a, max_label=20)
    assert text.label("n0") == f"%{'x' * 18}…"
    assert text.label("n1") == "%0 exp|first=[0, 1, 2, 3, …|fourth=4, last=5|…|f32[2]|output 0"


def test_attributes_that_are_off_or_seen_in_the_type_are_left_out():
    x = leaf("x", 2, 3)
    a = node(EXP, x, shape=(2, 3), axes=None, keepdims=False, dtype=F32, size=(2, 3), axis=0)
    assert picture(a).label("n1") == "%0 exp|axis=0|f32[2,3]|output 0"


def test_roles():
    text = DotText(to_dot(training_step(8)))
    labels = Counter("|".join(lines[1:]) for lines in text.labels.values())
    assert labels["axes=[0, 1]|output 0|→ backward"] == 1
    assert labels["high=1.0, low=0.0|effect 0"] == 1
    assert labels["f32[4,3]|unused"] == 1, "no edge says its type"
    assert labels["→ 8 readers"] == 1, "the learning rate"
    double = sum("peripheries" in line for line in text.source.splitlines())
    assert double == len(training_step(8).outputs)


def test_stand_ins_for_what_another_phase_or_many_nodes_read():
    text = DotText(to_dot(training_step(8)))
    (loss,) = (i for i, lines in text.labels.items() if lines[0].endswith(" sum") and "_" not in i)
    (stand_in,) = (i for i in text.labels if i.startswith(f"{loss}_"))
    assert text.label(stand_in).endswith(" sum")
    assert text.shapes[stand_in] == "plaintext"
    assert text.tooltips[stand_in] == text.tooltips[loss]
    reader = stand_in.partition("_")[2]
    assert [edge[:3] for edge in text.edges if edge[0] == stand_in] == [
        (stand_in, reader, ["1: f32[]"])
    ]
    assert not [edge for edge in text.edges if edge[0] == loss]


def test_phases_and_modules_are_nested_frames():
    text = DotText(to_dot(training_step()))
    frames = {lines[0]: text.frames[i] for i, lines in text.labels.items() if "_" not in i}
    assert frames["%0 random_uniform"] == ["forward", "dropout"]
    assert frames["%2 linear"] == ["forward", "layers", "layers.0", "linear"]
    assert frames["%3 exp"] == ["forward", "layers", "layers.0"]
    assert frames["%lr"] == ["update", "SGD.layers"], "the learning rate stands where it is read"
    weights = [text.frames[i] for i, lines in text.labels.items() if lines[0] == "weight"]
    assert ["forward", "layers", "layers.0", "linear"] in weights, "a weight stands in its layer"
    labels = re.findall(r'graph \[label="(forward|backward|update)"', text.source)
    assert labels == ["forward", "backward", "update"]


def test_an_update_stands_under_the_module_of_its_weight():
    text = DotText(to_dot(training_step()))
    updates = [frames for frames in text.frames.values() if frames[:1] == ["update"]]
    assert ["update", "SGD.layers", "layers.0.linear"] in updates
    assert ["update", "SGD.layers", "layers.1.linear"] in updates


def test_one_phase_is_no_frame_and_a_chain_of_modules_is_one():
    x = leaf("x", 2)
    h = node(EXP, x, module="encoder.blocks.10.attention")
    h = node(EXP, h, module="encoder.blocks.10.mlp")
    h = node(EXP, h, module="encoder.blocks.9")
    h = node(EXP, h, module="head.linear")
    text = picture(node(EXP, h))
    assert text.frames["n1"] == ["encoder.blocks", "blocks.10", "attention"]
    assert text.frames["n3"] == ["encoder.blocks", "blocks.9"]
    assert text.frames["n4"] == ["head.linear"]
    assert text.frames["n5"] == []
    order = list(text.labels)
    assert order.index("n3") < order.index("n1"), "9 comes before 10"


def test_every_call_of_a_module_has_its_frame():
    x = h = leaf("x", 2)
    for _ in range(3):
        h = node(EXP, h, module="block.relu")
        h = node(SUM, h, module="block", shape=(2,))
    for _ in range(2):
        h = node(EXP, h, module="cell.inner")
        h = node(ADD, h, h)
    text = DotText(to_dot(Graph([x], [h])))
    assert [text.frames[f"n{i}"][-1] for i in (1, 3, 5)] == ["relu", "relu (2)", "relu (3)"]
    assert [text.frames[f"n{i}"] for i in (2, 4, 6)] == [["block"]] * 3
    assert [text.frames[f"n{i}"] for i in (7, 9)] == [["cell.inner"], ["cell (2).inner"]]


def test_the_backward_pass_has_the_numbers_of_the_calls():
    x = h = leaf("x", 2)
    for _ in range(2):
        h = node(EXP, h, module="block.relu")
        h = node(EXP, h, module="block")
    for _ in range(2):
        h = node(EXP, h, module="block", phase="backward")
        h = node(EXP, h, module="block.relu", phase="backward")
    text = DotText(to_dot(Graph([x], [h])))
    assert [text.frames[f"n{i}"][-1] for i in (1, 3, 6, 8)] == [
        "relu",
        "relu (2)",
        "relu (2)",
        "relu",
    ]


def test_siblings_that_do_not_read_from_each_other_are_one_call():
    x, y = leaf("x", 2), leaf("y", 2)
    a, b = node(EXP, x, module="encoder"), node(EXP, y, module="encoder")
    text = DotText(to_dot(Graph([x, y], [node(ADD, a, b)])))
    assert text.frames["n2"] == text.frames["n3"] == ["encoder"]


KINDS = [
    (ADD, Kind.ELEMENTWISE),
    (MATMUL, Kind.CONTRACTION),
    (SUM, Kind.REDUCTION),
    (TRANSPOSE, Kind.VIEW),
    (UNIFORM, Kind.EFFECT),
    (ASSIGN, Kind.EFFECT),
    (STOP, Kind.MARKER),
    (LINEAR, Kind.COMPOSITE),
    (WHERE, Kind.ELEMENTWISE),
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


def test_the_heading_and_the_legend():
    text = DotText(to_dot(expression()))
    assert text.heading() == ["@expression", "11 nodes", "input", "reduction", "elementwise"]
    assert DotText(to_dot(expression(), legend=False, title="other")).heading() == [
        "other",
        "11 nodes",
    ]


def test_what_can_not_be_drawn_is_refused():
    with pytest.raises(TypeError, match="int can not be drawn; expected a Graph, a Plan"):
        to_dot(3)
    with pytest.raises(ValueError, match="no level 'op'; the levels are module, composite, prim"):
        to_dot(expression(), level="op")


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
    graph = Graph([x], [node(op(text), h, h, phase="other"), fused(h, phase=text)], name=text)
    dot = to_dot(Change(Graph([x], [h]), graph), title=text, level="kernel", collapse=())
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


def test_an_op_with_very_many_operands_keeps_its_text_within_what_dot_reads():
    """`dot` refuses strings of more than 16,384 characters."""
    many = [leaf(f"weight_of_the_block_number_{i}", 2, 3) for i in range(2000)]
    dot = to_dot(Graph(many, [node(CONCAT, *many)]))
    (tooltip,) = DotText(dot).tooltips["n2000"]
    assert tooltip.startswith("%0 = concat(%weight_of_the_block_number_0, %weight")
    assert tooltip.endswith("1999) : f32[2,3]  # model.py:1 in train_step")
    assert "…" in tooltip
    assert max(map(len, dot.source.splitlines())) < 4000
