"""`explain`: the table, the changes with their rules and lines, the options, the JSON."""

import json
import re
from dataclasses import dataclass, field

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, nn, ops, optim
from needle_ir.compiler import read_pipeline
from needle_ir.explanation.report import amount
from needle_ir.ir import Graph
from needle_ir.passes import DEFAULT_PIPELINE, Rule, rewrite


@dataclass(frozen=True)
class Rules:
    """A pass made of rules."""

    name: str = field(repr=False)
    rules: tuple = field(repr=False)

    def run(self, graph):
        return rewrite(graph, self.rules)


LOG_SUM_EXP = Rule(
    "log-sum-exp",
    lambda x, axes, keepdims: ops.log(ops.sum(ops.exp(x), axes, keepdims)),
    lambda x, axes, keepdims: ops.logsumexp(x, axes, keepdims),
)
TIMES_ONE = Rule("times-one", lambda x: x * 1.0, lambda x: x)


def loss(x, w):
    y = x @ w * 1.0
    z = ndl.log(ndl.exp(y).sum(1))
    return z.sum() * 1.0


def x_and_w():
    return Tensor(np.ones((2, 3), np.float32)), Tensor(np.ones((3, 4), np.float32))


def line_of(text):
    with open(__file__) as file:
        return next(i for i, line in enumerate(file, 1) if line.strip() == text)


LINES = ("y = x @ w * 1.0", "z = ndl.log(ndl.exp(y).sum(1))", "return z.sum() * 1.0")
PASSES = (Rules("tidy", (TIMES_ONE,)), Rules("nothing", ()), Rules("stable", (LOG_SUM_EXP,)))


def sections(report):
    """The lines of a report from the first change on."""
    lines = report.splitlines()
    return lines[lines.index("", 2) + 1 :]


def test_the_table_counts_nodes_costs_and_rewrites():
    table = str(ndl.explain(loss, *x_and_w(), pipeline=PASSES)).splitlines()[:8]
    assert re.fullmatch(r"@loss: 10 nodes recorded, 5 after 3 passes in \d+\.\d ms", table.pop(0))
    rows = [re.sub(r" \d+\.\d\d\b", " t", row).split() for row in table[1:]]
    # x @ w is 2·2·3·4 operations on 24 + 48 + 32 bytes; each of exp, sum and the products is one
    # an element.
    assert rows == [
        ["#", "pass", "ms", "nodes", "FLOPs", "bytes", "moved", "peak", "bytes", "rewrites"],
        ["0", "recorded", "10", "77", "316", "40"],
        ["1", "tidy", "t", "7", "68", "236", "40", "times-one", "×2"],
        ["2", "nothing", "t", "7", "68", "236", "40"],
        ["3", "stable", "t", "5", "58", "156", "40", "log-sum-exp", "×1"],
        ["plan", "t"],
    ]


def test_the_changes_have_their_rule_their_line_and_nothing_else():
    y, z, r = (f"test_explain.py:{line_of(text)} in loss" for text in LINES)
    assert sections(str(ndl.explain(loss, *x_and_w(), pipeline=PASSES))) == [
        "1  tidy: 2 gone, 0 new; times-one ×2",
        f"   times-one, {y}",
        "     | y = x @ w * 1.0",
        "     - %2 = multiply(%0, 1.0) : f32[2,4]",
        "     → %2 is %0",
        f"   times-one, {r}",
        "     | return z.sum() * 1.0",
        "     - %7 = multiply(%6, 1.0) : f32[]",
        "     → %7 is %6",
        "",
        "3  stable: 3 gone, 1 new; log-sum-exp ×1",
        f"   log-sum-exp, {z}",
        "     | z = ndl.log(ndl.exp(y).sum(1))",
        "     - %3 = exp(%0) : f32[2,4]",
        "     - %4 = sum(%3) {axes=[1], keepdims=false} : f32[2]",
        "     - %5 = log(%4) : f32[2]",
        "     + %5 = logsumexp(%0) {axes=[1], keepdims=false} : f32[2]",
    ]


def test_full_shows_whole_graphs():
    explanation = ndl.explain(loss, *x_and_w(), pipeline=PASSES)
    lines = sections(explanation.show(only="stable", full=True))
    y, z, r = (f"test_explain.py:{line_of(text)} in loss" for text in LINES)
    assert [re.sub(" +#", " #", line) for line in lines] == [
        "3  stable: 3 gone, 1 new; log-sum-exp ×1",
        "   @loss(%x: f32[2,3], %w: f32[3,4])",
        f"       %0 = matmul(%x, %w) : f32[2,4] # {y}",
        f"     - %3 = exp(%0) : f32[2,4] # {z}",
        f"     - %4 = sum(%3) {{axes=[1], keepdims=false}} : f32[2] # {z}",
        f"     - %5 = log(%4) : f32[2] # {z}",
        f"     + %5 = logsumexp(%0) {{axes=[1], keepdims=false}} : f32[2] # {z}",
        f"       %6 = sum(%5) {{axes=[0], keepdims=false}} : f32[] # {r}",
        "       return %6",
    ]


def test_what_is_shown_can_be_narrowed():
    explanation = ndl.explain(loss, *x_and_w(), pipeline=PASSES)
    heads = [line for line in sections(str(explanation)) if re.match(r"\d", line)]
    assert [head.split(":")[0] for head in heads] == ["1  tidy", "3  stable"]
    only = explanation.show(only="tidy")
    assert "3  stable: " not in only
    assert "log-sum-exp ×1" in only  # the table stays whole
    assert explanation.show(only=1) == explanation.show(only="1") == only
    until = explanation.show(until="nothing")
    assert "1  tidy: " in until
    assert "stable" not in until
    assert "plan" not in until
    rule = explanation.show(rule="log-sum-exp")
    assert "3  stable: " in rule
    assert "1  tidy: " not in rule
    assert explanation.show(only="nothing") == explanation.show(only=2)


def test_names_that_are_not_there():
    explanation = ndl.explain(loss, *x_and_w(), pipeline=PASSES)
    with pytest.raises(ValueError, match="no pass 'fuse' here; the passes are tidy, nothing, st"):
        explanation.show(only="fuse")
    with pytest.raises(ValueError, match=r"no pass 'stable' here; .*, and 1 to 2"):
        explanation.show(only="stable", until="nothing")
    with pytest.raises(ValueError, match="no pass '4'"):
        explanation.to_json(until="4")
    with pytest.raises(ValueError, match="'fold' was applied; those that were are log-sum-exp, t"):
        explanation.show(rule="fold")
    with pytest.raises(ValueError, match="no rule 'times-one' was applied, nor any other"):
        explanation.show(rule="times-one", only="nothing")


def test_json():
    explanation = ndl.explain(loss, *x_and_w(), pipeline=PASSES)
    found = json.loads(explanation.to_json())
    assert found.keys() == {"version", "graph", "pipeline", "stages", "plan"}
    assert (found["version"], found["graph"]) == (1, "loss")
    assert found["pipeline"] == "tidy, nothing, stable"
    assert [stage["pass"] for stage in found["stages"]] == ["recorded", "tidy", "nothing", "stable"]
    recorded, _, nothing, stable = found["stages"]
    assert "changes" not in recorded
    assert nothing["changes"] == []
    assert stable | {"changes": None, "seconds": 0} == {
        "number": 3,
        "pass": "stable",
        "text": "stable",
        "seconds": 0,
        "nodes_before": 7,
        "nodes": 5,
        "flops": 58,
        "bytes_moved": 156,
        "peak_bytes": 40,
        "rules": {"log-sum-exp": 1},
        "changes": None,
    }
    (change,) = stable["changes"]
    assert change["rules"] == {"log-sum-exp": 1}
    assert [line["sign"] for line in change["lines"]] == ["-", "-", "-", "+"]
    assert change["lines"][-1] == {
        "sign": "+",
        "value": "%5",
        "text": "%5 = logsumexp(%0) {axes=[1], keepdims=false} : f32[2]",
        "op": "logsumexp",
        "type": "f32[2]",
        "source": {
            "file": __file__,
            "line": line_of(LINES[1]),
            "function": "loss",
            "text": LINES[1],
            "module": "",
            "phase": "forward",
        },
    }
    assert found["plan"] | {"seconds": 0} == {
        "seconds": 0,
        "steps": 3,
        "arena_bytes": 128,
        "naive_bytes": 128,
        "peak_bytes": 40,
    }


def test_json_can_be_narrowed_and_full():
    explanation = ndl.explain(loss, *x_and_w(), pipeline=PASSES)
    until = json.loads(explanation.to_json(until="tidy", only=1))
    assert [stage["pass"] for stage in until["stages"]] == ["recorded", "tidy"]
    assert until["plan"] is None
    only = json.loads(explanation.to_json(only="stable", full=True))["stages"]
    assert ["changes" in stage for stage in only] == [False, False, False, True]
    assert [line["sign"] for line in only[3]["lines"]] == [" ", "-", "-", "-", "+", " "]
    rule = json.loads(explanation.to_json(rule="log-sum-exp"))["stages"]
    assert [len(stage.get("changes", ())) for stage in rule] == [0, 0, 0, 1]


# What can be explained ----------------------------------------------------------------------------


def test_the_default_pipeline():
    explanation = ndl.explain(ndl.value_and_grad(lambda x: (x * x).sum()), np.ones(3, np.float32))
    assert explanation.pipeline == DEFAULT_PIPELINE
    assert explanation.graph.count("grad") == 0
    assert explanation.stages[0].graph.count("grad") == 1
    assert ", ".join(stage.text for stage in explanation.stages[1:]) == DEFAULT_PIPELINE
    assert len(explanation.stages) == 1 + len(read_pipeline(DEFAULT_PIPELINE))


def test_a_graph_and_a_compiled_function():
    x, w = x_and_w()
    graph = ndl.trace(loss, x, w)
    compiled = ndl.compile(loss, x, w, pipeline="cse, dce")
    for what, pipeline in ((graph, DEFAULT_PIPELINE), (compiled, "cse, dce")):
        explanation = ndl.explain(what)
        assert explanation.pipeline == pipeline
        assert len(explanation.stages[0].graph.nodes) == 10
        with pytest.raises(TypeError, match="no example arguments"):
            ndl.explain(what, x)
    assert ndl.explain(compiled, pipeline="dce").pipeline == "dce"


def test_a_module_a_jitted_function_and_a_method():
    class Scale(nn.Module):
        def __init__(self):
            self.factor = nn.Parameter([2.0])

        def forward(self, x):
            return x * self.factor

        @ndl.jit
        def twice(self, x):
            return self(self(x))

    x, module = Tensor([1.0]), Scale()
    assert str(ndl.explain(module, x)).startswith("@Scale: 3 nodes")
    jitted = ndl.jit(loss, pipeline="cse")
    assert ndl.explain(jitted, *x_and_w()).pipeline == "cse"
    assert jitted.retraces == []
    assert len(ndl.explain(module.twice, x).stages[0].graph.nodes) == 4
    assert ndl.explain(lambda *, x: x + 1, x=x).graph.name == "<lambda>"
    with pytest.raises(TypeError, match="takes a function or a graph, not list"):
        ndl.explain([x])


def test_nothing_is_computed_and_nothing_assigned(kernel_calls):
    w = nn.Parameter([[1.0], [2.0]])
    opt = optim.SGD([w], lr=0.1)

    def step(x):
        (x @ w).sum().backward()
        opt.step()

    x = Tensor([[1.0, 1.0]])
    before = w.numpy()
    str(ndl.explain(step, x))
    assert not kernel_calls
    assert w.grad is None
    np.testing.assert_array_equal(w.numpy(), before)


def test_a_graph_without_changes():
    x = ndl.ir.input_node(ndl.ir.TensorType((2,), np.dtype(np.float32)), "x")
    explanation = ndl.explain(Graph([x], [x], name="same"))
    assert str(explanation).count("\n\n") == 1
    assert explanation.show(full=True) == str(explanation)
    assert explanation.stages[-1].hunks == ()


# Long ones ----------------------------------------------------------------------------------------


def test_the_same_change_in_many_places_is_shown_once():
    def step(x):
        for _ in range(5):
            x = ndl.exp(x * 1.0)
        return x

    explanation = ndl.explain(step, np.ones(2), pipeline=PASSES)
    lines = sections(str(explanation))
    assert lines[0] == "1  tidy: 5 gone, 0 new; times-one ×5"
    assert lines[-1] == "     the same at 4 more places"
    assert len(lines) == 6
    assert sum(line.startswith("     - ") for line in explanation.show(full=True).splitlines()) == 5


def test_a_whole_training_step_can_be_read(app):
    np.random.seed(0)
    model = app.MLPResNet(16, hidden_dim=8, num_blocks=4)
    opt = optim.Adam(model.parameters())
    images = Tensor(np.ones((4, 16), np.float32), requires_grad=False)
    explanation = ndl.explain(app.train_step, model, opt, images, Tensor(np.arange(4)))
    short, full = str(explanation), explanation.show(full=True)
    assert len(explanation.graph.nodes) > 400
    assert len(short.splitlines()) < 500 < len(full.splitlines())
    assert "   summed up by module; full shows every line" in short
    assert "summed up" not in full
    assert "     blocks.*.linear1 ×4" in short
    assert re.search(r"     stem\n       - 1 linear\n       \+ \d: ", short)
    assert "the same at" in short
    for stage in explanation.stages:
        for hunk in stage.hunks:
            for line in hunk.lines:
                assert line.name in line.text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1 k"),
        (1234, "1.23 k"),
        (999_499, "999 k"),
        (999_600, "1 M"),
        (12_345_678, "12.3 M"),
        (7 * 10**12, "7 T"),
        (10**21, "1e+03 E"),
    ],
)
def test_amounts(number, text):
    assert amount(number) == text
