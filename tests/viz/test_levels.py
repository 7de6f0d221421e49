"""What a box is: at each level, and where modules are collapsed."""

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir.ir import Graph
from needle_ir.viz import collapse as collapsing
from needle_ir.viz import to_dot
from tests.viz.dot_text import DotText
from tests.viz.sample_graphs import (
    ADD,
    EXP,
    LINEAR,
    SAME,
    SUBTRACT,
    SUM,
    TRANSPOSE,
    TWICE,
    dense,
    expression,
    fused,
    layers,
    leaf,
    node,
    op,
    scalar,
    table,
    training_step,
)


def picture(graph, level, **options):
    return DotText(to_dot(graph, level=level, **options))


def nested():
    x, y = leaf("x", 2), leaf("y", 2)
    inner = fused(node(TWICE, x), y, module="m")
    return Graph([x, y], [node(SUM, inner)])


def test_composites_and_kernels_are_closed_at_the_composite_level():
    text = picture(nested(), "composite")
    assert [text.label(i) for i in ("n2", "n3")] == ["%0 twice", "%1 fused|add, exp"]
    assert text.between("n2", "n3") == ["0: f32[2]"]


def test_kernels_are_frames_at_the_kernel_level():
    text = picture(nested(), "kernel")
    assert text.label("n2") == "%0 twice"
    assert text.label("n3_2") == "%0 add"
    assert text.frames["n3_2"] == text.frames["n3_3"] == ["m", "fused %1"]
    assert "n3" not in text.labels
    assert {edge[:2] for edge in text.edges} == {
        ("n0", "n2"), ("n2", "n3_2"), ("n1", "n3_2"), ("n3_2", "n3_3"), ("n3_3", "n4"),
    }  # fmt: skip
    assert text.tooltips["n3_3"][0].startswith("%1 = exp(%0) : f32[2]")


def test_composites_are_frames_too_at_the_primitive_level():
    text = picture(nested(), "primitive")
    assert {i: (lines[0], text.frames[i]) for i, lines in text.labels.items()} == {
        "n0": ("%x", []),
        "n1": ("%y", ["m"]),
        "n2_1_2": ("%0 matmul", ["twice %0", "linear %0"]),
        "n2_1_4": ("%2 add(·, 0.5)", ["twice %0", "linear %0"]),
        "n2_3_2": ("%0 matmul", ["twice %0", "linear %2"]),
        "n2_3_4": ("%2 add(·, 0.5)", ["twice %0", "linear %2"]),
        "n3_2": ("%0 add", ["m", "fused %1"]),
        "n3_3": ("%1 exp", ["m", "fused %1"]),
        "n4": ("%2 sum", []),
    }
    assert text.between("n0", "n2_3_2") == ["1: transpose|f32[2]"]


def test_a_composite_that_is_its_operand_leaves_nothing():
    x = leaf("x", 2)
    text = picture(Graph([x], [node(EXP, node(SAME, x))]), "primitive")
    assert {edge[:2] for edge in text.edges} == {("n0", "n2")}
    text = picture(Graph([x], [node(SAME, x)]), "primitive")
    assert text.label("n0") == "%x|f32[2]|output 0"


def test_opening_a_composite_records_nothing_of_the_caller():
    x = leaf("x", 2)
    graph = Graph([x], [node(LINEAR, x, x)])
    text = picture(graph, "primitive")
    assert not any("test_levels" in line for lines in text.tooltips.values() for line in lines)


def test_one_body_of_several_kernels_is_drawn_for_each():
    x = leaf("x", 2)
    first = fused(x, x)
    second = type(first)(first.op, (first, first), first.attrs, first.type)
    text = picture(Graph([x], [second]), "kernel")
    assert {"n1_2", "n1_3", "n2_2", "n2_3"} <= text.labels.keys()
    assert len(text.between("n1_3", "n2_2")) == 2


def test_a_nested_graph_that_does_not_fit_stays_closed():
    """A graph among the attributes that is no body: of other operands than the node has."""
    x = leaf("x", 2)
    odd = type(x)(EXP, (x,), fused(x, x).attrs, x.type)
    assert picture(Graph([x], [odd]), "kernel").label("n1").startswith("%0 exp|add, exp")


def test_modules_are_boxes_at_the_module_level():
    text = picture(training_step(), "module")
    assert {(*text.frames[i], text.label(i)) for i in text.labels} == {
        ("forward", "%x"),
        ("forward", "dropout|random_uniform, add|effect 0"),
        ("forward", "layers", "layers.0", "linear|linear|weight f32[3,3]"),
        ("forward", "layers", "layers.0", "exp|model.py:1"),
        ("forward", "layers", "layers.1", "linear|linear|weight f32[3,3]"),
        ("forward", "layers", "layers.1", "exp|model.py:1"),
        ("forward", "loss|sum|output 0"),
        ("backward", "loss|subtract"),
        ("backward", "layers", "layers.1", "linear|2 matmul|reads weight"),
        ("backward", "layers", "layers.0", "linear|2 matmul|reads weight"),
        ("backward", "stop_gradient|model.py:1|1 unused"),
        ("update", "SGD", "%lr"),
        ("update", "SGD", "layers", "layers.1", "linear|add, subtract|reads weight|output 1"),
        ("update", "SGD", "layers", "layers.0", "linear|add, subtract|reads weight|output 2"),
    }


def test_the_phases_stand_side_by_side():
    text = picture(training_step(), "module")
    by_name = {}
    for row in text.rows:
        names = [(text.frames[i][0], text.labels[i][0]) for i in row]
        assert len({name for _, name in names}) == 1, "a module beside itself"
        by_name[tuple(text.frames[row[0]]), names[0][1]] = [phase for phase, _ in names]
    assert by_name == {
        (("forward",), "loss"): ["forward", "backward"],
        (("forward", "layers", "layers.0"), "linear"): ["forward", "backward", "update"],
        (("forward", "layers", "layers.1"), "linear"): ["forward", "backward", "update"],
    }
    backward = [
        e for e in text.edges if text.frames[e[0]][:1] == text.frames[e[1]][:1] == ["backward"]
    ]
    assert backward
    assert all("dir=back" in edge[3] for edge in backward)


def test_a_request_for_a_gradient_stands_with_its_module():
    model = ndl.nn.Sequential(ndl.nn.Linear(3, 4), ndl.nn.ReLU(), ndl.nn.Linear(4, 2))
    opt = ndl.optim.Adam(model.parameters())

    def step(x, y):
        loss = ndl.nn.SoftmaxLoss()(model(x), y)
        loss.backward()
        opt.step()
        return loss

    graph = ndl.trace(step, ndl.Tensor(np.ones((5, 3), "f4")), ndl.Tensor(np.zeros(5, "u1")))
    text = picture(graph, "module")
    requests = {lines[0]: lines[1:] for lines in text.labels.values() if "2 grad" in lines}
    assert requests["0"][:2] == ["2 grad", "reads weight, bias"]
    assert requests["2"][:2] == ["2 grad", "reads weight, bias"]
    rows = [[text.labels[i][0] for i in row] for row in text.rows]
    assert sorted(rows) == [["0"] * 2, ["2"] * 2]
    assert any(lines[:2] == ["grad", f"{place(step, 2)}"] for lines in text.labels.values())


def place(function, line):
    return f"test_levels.py:{function.__code__.co_firstlineno + line}"


def test_a_box_has_the_colour_of_the_heaviest_op_in_it():
    def fill(*ops):
        x = h = leaf("x", 2)
        for kind in ops:
            h = node(kind, h, h, module="m") if kind is LINEAR else node(kind, h, module="m")
        text = to_dot(Graph([x], [h]), level="module").source
        (line,) = (line for line in text.splitlines() if "\tmn" in line and "label" in line)
        return line.partition('fillcolor="')[2][:7]

    elementwise, reduction, contraction = fill(EXP), fill(EXP, SUM), fill(SUM, LINEAR, EXP)
    assert len({elementwise, reduction, contraction}) == 3
    assert contraction == "#bbccee", "by what the composite is made of"


def test_what_a_module_does_itself_is_a_box_a_line():
    x = leaf("x", 2)
    h = node(LINEAR, x, x, module="block.linear")
    h = node(ADD, node(EXP, h, module="block"), x, module="block")
    text = picture(Graph([x], [h]), "module")
    assert [text.label(i) for i in text.labels if i.startswith("m")] == [
        "linear|linear",
        "exp, add|model.py:1|output 0",
    ]


def test_a_graph_without_modules_is_drawn_by_lines():
    def f(x):
        a = ndl.exp(x)
        b = a + x * 2.0
        return b.sum()

    text = picture(ndl.trace(f, np.ones(3, np.float32)), "module")
    labels = [text.label(i) for i in text.labels if i.startswith("m")]
    line = f.__code__.co_firstlineno
    assert labels == [
        f"exp|test_levels.py:{line + 1}",
        f"multiply, add|test_levels.py:{line + 2}",
        f"sum|test_levels.py:{line + 3}|output 0",
    ]


def test_a_module_of_nothing_but_views_is_in_the_edges():
    x = leaf("x", 2)
    h = node(EXP, x, module="first")
    h = node(TRANSPOSE, h, module="flatten")
    text = picture(Graph([x], [node(EXP, h, module="last")]), "module")
    assert [lines[0] for lines in text.labels.values()] == ["%x", "first", "last"]
    assert text.between("mn1", "mn3") == ["transpose|f32[2]"]


def test_edges_between_modules_say_how_many_tensors():
    x = leaf("x", 2)
    a, b = node(EXP, x, module="m"), node(SUM, x, module="m")
    c = node(SUM, x, module="m", shape=())
    same = picture(Graph([x], [node(SUBTRACT, a, b, module="n")]), "module")
    assert same.between("mn1", "mn3") == ["2 × f32[2]"]
    other = picture(Graph([x], [node(SUBTRACT, a, c, module="n")]), "module")
    assert other.between("mn1", "mn3") == ["2 tensors"]


def test_deep_modules_are_cut_where_they_are_too_many(monkeypatch):
    graph = layers(300)
    assert any("relu" in lines for lines in picture(graph, "module").labels.values())
    monkeypatch.setattr(collapsing, "MAX_MODULE_BOXES", 100)
    text = picture(graph, "module")
    assert "modules are drawn to depth 2" in text.heading()
    assert sum(lines[0].startswith("layers.") for lines in text.labels.values()) == 3 * 30
    monkeypatch.setattr(collapsing, "MAX_MODULE_BOXES", 50)
    text = picture(graph, "module")
    assert "modules are drawn to depth 1" in text.heading()
    assert [lines[0] for lines in text.labels.values()].count("layers") == 3


def test_lines_are_merged_where_they_are_too_many(monkeypatch):
    monkeypatch.setattr(collapsing, "MAX_MODULE_BOXES", 20)
    code = "\n".join(["h = exp(h)"] * 30)

    def f(h):
        names = {"exp": ndl.exp, "h": h}
        exec(compile(code, "lines.py", "exec"), names)
        return names["h"]

    text = picture(ndl.trace(f, np.ones(2, np.float32)), "module")
    assert [lines[0] for i, lines in text.labels.items() if i.startswith("m")] == ["30 exp"]


def test_modules_can_be_collapsed_at_other_levels():
    text = picture(training_step(), "composite", collapse=["layers.0"])
    closed = [i for i in text.labels if i.startswith("m")]
    assert {text.frames[i][0] for i in closed} == {"forward", "backward", "update"}
    assert all(text.labels[i][0] == "layers.0" for i in closed)
    names = {lines[0] for lines in text.labels.values()}
    assert "%4 linear" in names
    assert "%2 linear" not in names
    whole = picture(training_step(), "composite", collapse=["layers"])
    assert [whole.labels[i][0] for i in whole.labels if i.startswith("m")] == ["layers"] * 3


def test_a_collapsed_module_names_what_it_reads_from_far_away():
    text = picture(training_step(), "composite", collapse=["layers"])
    (box,) = (i for i in text.labels if i.startswith("m") and text.frames[i][0] == "backward")
    assert text.labels[box][2] == "reads 1.linear.weight, 0.linear.weight,…"


def test_unknown_modules_collapse_nothing():
    wanted = to_dot(expression()).source
    assert to_dot(expression(), collapse=["nowhere"]).source == wanted


@pytest.mark.parametrize("level", ["composite", "module"])
def test_frames_that_read_from_each_other_can_be_collapsed(level):
    x = leaf("x", 2)
    a1, b2 = node(EXP, x, module="a"), node(EXP, x, module="b")
    b1, a2 = node(SUM, a1, module="b"), node(SUM, b2, module="a")
    graph = Graph([x], [node(EXP, b1, module="b"), node(EXP, a2, module="a")])
    text = picture(graph, level, **({} if level == "module" else {"collapse": ["a", "b"]}))
    assert sorted(edge[:2] for edge in text.edges) == [
        ("mn1", "mn2"), ("mn2", "mn1"), ("n0", "mn1"), ("n0", "mn2"),
    ]  # fmt: skip
    assert sum("constraint=false" in edge[3] for edge in text.edges) == 1


def test_a_constant_in_a_module_is_no_box():
    x = leaf("x", 2)
    h = node(ADD, node(ADD, x, scalar(1.0), module="m"), table(1, 2), module="m")
    assert list(picture(Graph([x], [h]), "module").labels) == ["n0", "mn2"]


def test_dense_modules_have_one_edge_between_each_two():
    text = picture(dense(500), "module")
    assert len(text.edges) == len({edge[:2] for edge in text.edges})


def packed(modules, view=TRANSPOSE):
    """The same op of many modules as one, as horizontal fusion makes it, and views of its parts."""
    x = leaf("x", 2)
    states = [leaf(f"m.{i}.mean", 2) for i in range(modules)]
    ops = [node(EXP, x, module=f"m.{i}") for i in range(modules)]
    pack = op("pack")
    old, new = node(pack, *states, module="m.0"), node(pack, *ops, module="m.0")
    mean = node(SUBTRACT, old, new, module="m.0")
    views = [node(view, mean, module=f"m.{i}", part=i) for i in range(modules)]
    return Graph([x, *states], views)


def test_a_box_that_reads_from_many_names_them():
    text = picture(packed(12), "composite")
    hubs = [lines for lines in text.labels.values() if "pack" in lines[0]]
    assert [lines[1] for lines in hubs] == ["reads 12 inputs", "reads 12 tensors"]
    assert not any("mean" in lines[0] for lines in text.labels.values()), "the inputs"
    exps = [lines for lines in text.labels.values() if "exp" in lines[0]]
    assert len(exps) == 12
    assert all("→ 1 reader" in lines for lines in exps)
    few = picture(packed(8), "composite")
    assert len([edge for edge in few.edges if "pack" in few.labels[edge[1]][0]]) == 16


def test_many_views_that_are_outputs_are_named_by_what_they_look_at():
    text = picture(packed(12), "composite")
    (label,) = (lines for lines in text.labels.values() if "subtract" in lines[0])
    assert label[-1] == "12 outputs by transpose"
    few = picture(packed(3), "composite")
    assert sum("transpose" in lines[0] for lines in few.labels.values()) == 3


def test_what_is_packed_from_many_modules_stands_around_them():
    text = picture(packed(12), "composite")
    frames = [
        (lines[0].split(" ")[-1], text.frames[i]) for i, lines in text.labels.items() if i != "n0"
    ]
    assert ("subtract", ["m"]) in frames
    assert frames.count(("pack", ["m"])) == 2
    assert ("exp", ["m", "m.11"]) in frames
    by_modules = picture(packed(12), "module")
    (label,) = (lines for lines in by_modules.labels.values() if "12 outputs" in lines)
    assert "pack" in label[0]


def test_inputs_that_one_module_keeps_are_in_its_box():
    x, u = leaf("x", 2), leaf("other.u", 2)
    text = picture(Graph([x, u], [node(ADD, x, u, module="Adam")]), "module")
    assert text.label("mn1") == "Adam|add|%other.u f32[2]|output 0"
    assert text.labels.keys() == {"n0", "mn1"}


def test_a_fused_kernel_has_the_colour_of_what_is_in_it():
    x = leaf("x", 2)
    text = to_dot(Graph([x], [fused(x, x)]), level="composite").source
    assert 'style="filled,rounded" fillcolor="#cceeff"' in text
