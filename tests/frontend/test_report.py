"""`report`: what its page holds, by hand and against what `explain` and the plan say."""

import os
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import nn, reporting
from needle_ir.reporting import pictures
from needle_ir.viz.page import picture
from tests.frontend.report_data import held_in

ROW = ("name", "op", "attrs", "type", "operands", "place", "flops", "bytes", "kind")
SLOT = ("name", "place", "nbytes", "start", "end", "offset", "inside")


def loss(w, x):
    y = x @ w * 1.0
    return ndl.log(ndl.exp(y).sum(axes=1)).sum()


def w_and_x():
    numbers = np.random.default_rng(0)
    return [
        ndl.Tensor(numbers.standard_normal(shape).astype("float32")) for shape in ((3, 4), (8, 3))
    ]


def data_of(fn, *args, **options):
    return held_in(ndl.report(fn, *args, path=None, **options).html)[0]


def values_of(data, number):
    """The values of a stage by name; a pass that changed nothing has those of the one before."""
    stage = next(x for x in data["stages"][number::-1] if "rows" in x)
    rows = [dict(zip(ROW, data["rows"][i], strict=True)) for i in stage["rows"]]
    return {row["name"]: row for row in rows}


def recorded_ops(data, number, name):
    """The ops that a value of a stage goes back to, as the page walks there."""
    names = {name}
    for i in range(number, 0, -1):
        before, told = values_of(data, i - 1), data["stages"][i].get("from", {})
        names = {x for n in names for x in told.get(n, [n] if n in before else [])}
    return sorted(values_of(data, 0)[n]["op"] for n in names)


def named(data, number, op):
    return [name for name, row in values_of(data, number).items() if row["op"] == op]


def test_the_stages_are_those_of_explain():
    pipeline = "lower, simplify, stabilize, cse"
    data = data_of(loss, *w_and_x(), pipeline=pipeline)
    explanation = ndl.explain(loss, *w_and_x(), pipeline=pipeline)
    assert data["pipeline"] == pipeline
    for stage, told in zip(explanation.stages, data["stages"], strict=True):
        assert (told["name"], told["text"]) == (stage.name, stage.text)
        costs = (len(stage.graph.nodes), *stage.cost, stage.peak_bytes)
        assert (told["nodes"], told["flops"], told["bytes"], told["peak"]) == costs
        assert told["rules"] == dict(stage.rules)
        assert ("rows" in told) == (stage.before is not stage.graph)
    # x @ w is 2·8·4·3 operations, and reads 24 + 12 numbers and writes 32.
    product = next(x for x in values_of(data, 0).values() if x["op"] == "matmul")
    assert (product["flops"], product["bytes"]) == (192, 4 * (24 + 12 + 32))
    assert product["type"] == "f32[8,4]"


def test_a_rewrite_has_its_rule_its_line_and_both_sides():
    data = data_of(loss, *w_and_x(), pipeline="simplify, stabilize")
    (simplified,), (stable,) = (stage["hunks"] for stage in data["stages"][1:])
    assert simplified["rules"] == {"times-one": 1}
    file, line, function, *_ = data["places"][simplified["place"]]
    assert function == "loss"
    assert data["files"][file][1][str(line)].strip() == "y = x @ w * 1.0"
    assert data["files"][file][0].endswith("test_report.py")
    lines = [(sign, data["rows"][i][1]) for sign, i in stable["lines"]]
    assert lines == [(2, "exp"), (2, "sum"), (2, "log"), (1, "logsumexp")]
    (_, gone, now), *_ = [x for x in simplified["lines"] if x[0] == 3]
    assert values_of(data, 0)[gone]["op"] == "multiply"
    assert values_of(data, 0)[now]["op"] == "matmul"


def test_values_are_followed_back_to_what_was_recorded():
    gradient = ndl.value_and_grad(loss)
    data = data_of(gradient, *w_and_x(), profile=False)
    last = len(data["stages"]) - 1
    stable = next(i for i, x in enumerate(data["stages"]) if x["name"] == "stabilize")
    (name,) = named(data, stable, "logsumexp")
    assert recorded_ops(data, stable, name) == ["exp", "log", "sum"]
    (softmax,) = named(data, last, "softmax")  # the derivative of log-sum-exp
    assert set(recorded_ops(data, last, softmax)) & {"exp", "log", "sum"}
    for name, row in values_of(data, last).items():
        if row["op"] not in ("input", "constant") and row["place"] >= 0:
            assert recorded_ops(data, last, name), (name, row["op"])


def test_a_fused_kernel_comes_from_its_ops():
    x = ndl.Tensor(np.ones((64, 64), np.float32))
    data = data_of(lambda x: ndl.tanh(ndl.exp(x) * 2.0), x, pipeline="fuse", profile=False)
    (name,) = named(data, 1, "fused")
    assert recorded_ops(data, 1, name) == ["exp", "multiply", "tanh"]
    kinds = [kind for kind, *_ in data["kinds"]]
    assert kinds[values_of(data, 1)[name]["kind"]] == "elementwise"


def test_the_memory_of_the_plan():
    fn = ndl.value_and_grad(lambda w, x: (ndl.tanh(x @ w) @ w.transpose()).sum())
    x, w = np.ones((32, 16), np.float32), np.ones((16, 8), np.float32)
    data = data_of(fn, w, x)
    plan = data["plan"]
    slots = [dict(zip(SLOT, slot, strict=True)) for slot in plan["slots"]]
    arena = [s for s in slots if s["place"] == "arena" and s["inside"] < 0]
    assert len(arena) > 3
    assert plan["naive"] > plan["arena"] >= max(s["offset"] + s["nbytes"] for s in arena)

    def alive(step):
        """The bytes in use while a step runs, each once, whoever holds them."""
        held = [s for s in arena if s["start"] <= step <= s["end"]]
        return len({x for s in held for x in range(s["offset"], s["offset"] + s["nbytes"])})

    assert max(map(alive, range(len(plan["steps"])))) == plan["peak"] == alive(plan["peak_step"])
    told = [plan["slots"][i][0] for i in plan["alive"]]
    step = plan["peak_step"]
    assert told == [s["name"] for s in arena if s["start"] <= step <= s["end"]]


def test_the_profile_counts_one_run():
    data = data_of(loss, *w_and_x(), pipeline="")
    profile = data["profile"]
    rows = {row[0]: row[1:] for row in profile["tables"]["kernel"]}
    assert {name: row[0] for name, row in rows.items()} == {
        "matmul": 1,
        "multiply": 1,
        "exp": 1,
        "sum": 2,
        "log": 1,
    }
    assert rows["matmul"][2] == 192
    seconds = [row[2] for row in profile["tables"]["kernel"]]
    assert sum(seconds) == pytest.approx(profile["seconds"])
    assert sum(profile["values"].values()) == pytest.approx(profile["seconds"])
    assert profile["runs"] >= 1
    assert min(seconds) > 0


def test_a_training_step_is_measured_and_changes_nothing():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    optimizer = ndl.optim.Adam(model.parameters())

    def step(x):
        optimizer.reset_grad()
        (model(x) ** 2).sum().backward()
        optimizer.step()

    tensors = [*model.parameters(), model.modules[1].running_mean]
    before = [x.numpy().copy() for x in tensors]
    np.random.seed(3)
    stream = np.random.get_state()[1].copy()
    data = data_of(step, ndl.Tensor(np.ones((5, 4), np.float32)))
    assert data["profile"]["seconds"] > 0
    np.testing.assert_array_equal(np.random.get_state()[1], stream)
    for tensor, old in zip(tensors, before, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), old)
    assert optimizer.t == 0


def test_the_own_random_stream_stays_where_it_is():
    drawn = []
    try:
        for measured in (False, True):
            ndl.manual_seed(1)
            x = ndl.Tensor(np.ones((5, 4), np.float32))
            data = data_of(nn.Dropout(0.5), x, profile=measured)
            assert (data["profile"] is not None) == measured
            drawn.append(ndl.init.rand(3).numpy())
    finally:
        ndl.manual_seed(None)
    np.testing.assert_array_equal(*drawn)


def test_a_program_that_fails_has_a_page_without_a_profile():
    def pick(x, i):
        return x[i]

    made = ndl.report(pick, ndl.Tensor(np.ones(3)), ndl.Tensor(np.array([7])), path=None)
    data, _ = held_in(made.html)
    assert data["profile"] is None
    assert "the program failed with OperandIndexError" in data["no_profile"]
    assert made.notes == (f"no profile: {data['no_profile']}",)


def test_graphs_and_compiled_functions():
    graph = ndl.trace(loss, *w_and_x())
    made = ndl.report(graph, path=None, pipeline="cse")
    assert made.notes == ("no profile: there are no arguments to run it with",)
    assert ndl.report(graph, path=None, profile=False).notes == ()
    compiled = ndl.compile(loss, *w_and_x(), pipeline="dce")
    assert data_of(compiled)["pipeline"] == "dce"
    assert data_of(ndl.jit(loss, pipeline="dce"), *w_and_x())["pipeline"] == "dce"
    with pytest.raises(TypeError, match="takes no example arguments"):
        ndl.report(graph, w_and_x()[0], path=None)
    with pytest.raises(TypeError, match="takes a function or a graph, not list"):
        ndl.report([], path=None)
    with pytest.raises(ValueError, match="timeout is 0; expected a number of seconds above 0"):
        ndl.report(graph, path=None, timeout=0)


def test_it_is_written_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = ndl.report(loss, *w_and_x(), pipeline="cse", profile=False)
    assert made.path.name == "report.html"
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == made.html
    assert len(repr(made)) < 200
    with pytest.raises(OSError, match="nowhere"):
        ndl.report(loss, *w_and_x(), path=tmp_path / "nowhere" / "x.html", profile=False)
    made.write(tmp_path / "again.html")
    assert sorted(os.listdir(tmp_path)) == ["again.html", "report.html"]


def test_each_box_of_a_picture_has_its_values():
    html = ndl.report(loss, *w_and_x(), path=None, pipeline="lower, simplify", profile=False).html
    data, found = held_in(html)
    stops = data["pictures"]
    assert [x["label"] for x in stops[0]] == ["Modules", "Ops", "Primitives"]
    assert stops[1] == []  # lower has nothing to do
    assert [x["label"] for x in stops[3]] == ["Modules", "Kernels"]
    assert found.keys() == {x["id"] for stop in stops for x in stop}
    for id, drawn in found.items():
        boxes = {g.get("data-box") for g in ET.fromstring(drawn["svg"]).iter()} - {None}
        assert boxes == drawn["values"].keys(), id
    change = found["picture-2-ops"]
    (gone,) = [box for box, mark in change["marks"].items() if mark == "removed"]
    assert [values_of(data, 1)[x]["op"] for x in change["values"][gone]] == ["multiply"]
    assert "constant" not in change["marks"].values()


def test_without_graphviz_it_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    made = ndl.report(loss, *w_and_x(), path=None, pipeline="cse", profile=False)
    _, found = held_in(made.html)
    told = f"{len(found)} pictures laid out without Graphviz, which is not installed"
    assert made.notes == (told,)
    for drawn in found.values():
        assert set(drawn["values"]) == {
            g.get("data-box") for g in ET.fromstring(drawn["svg"]).iter() if g.get("data-box")
        }


def test_pictures_of_too_many_boxes_are_left_out(monkeypatch):
    monkeypatch.setattr(picture, "MAX_BOXES", 3)
    monkeypatch.setattr(pictures, "MAX_BOXES", 3)
    made = ndl.report(loss, *w_and_x(), path=None, pipeline="cse", profile=False)
    data, found = held_in(made.html)
    assert [(x["label"], x["id"] is None) for x in data["pictures"][0]] == [
        ("Modules", False),
        ("Ops", True),
        ("Primitives", True),
    ]
    assert made.notes == ("3 pictures left out: more than 3 boxes",)
    assert set(found) == {x["id"] for x in (*data["pictures"][0], *data["pictures"][-1]) if x["id"]}


def test_a_layout_that_takes_too_long_is_not_tried_again(monkeypatch):
    limits = picture.Limits(1.0)
    limits.refuse("composite", 300)
    limits.refuse("composite", 400)
    assert [limits.allow("composite", n) for n in (299, 300, 500)] == [True, False, False]
    assert limits.allow("module", 500)


def test_nothing_of_a_program_is_taken_for_html():
    evil = '</script><img src=x onerror="document.title=1">'

    class Module(nn.Module):
        def forward(self, x):
            return ndl.exp(x)  # </script><script>alert(1)</script>

    module = nn.Sequential(Module())
    fn = lambda x: module(x)  # noqa: E731
    fn.__name__ = evil
    html = ndl.report(fn, ndl.Tensor([1.0]), path=None, pipeline="cse").html
    assert "onerror" not in html.replace(
        "&lt;/script&gt;&lt;img src=x onerror=&quot;document.title=1&quot;&gt;", ""
    )
    assert "alert(1)" not in html
    assert html.count("</script>") == html.count("<script")


def test_the_names_of_files_are_short_below_the_working_directory(tmp_path, monkeypatch):
    here = os.path.dirname(__file__)
    monkeypatch.chdir(here)
    assert [name for name, _ in data_of(loss, *w_and_x(), profile=False)["files"]] == [
        "test_report.py"
    ]
    monkeypatch.chdir(tmp_path)
    assert data_of(loss, *w_and_x(), profile=False)["files"][0][0] == __file__


def test_the_version_is_in_the_page():
    assert data_of(loss, *w_and_x(), profile=False)["version"] == reporting.VERSION == 1
