"""`trace` and `compile`: the graph that is shown, and the program that can be looked into."""

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, nn
from needle_ir.passes import DEFAULT_PIPELINE

LAST = DEFAULT_PIPELINE.rpartition(", ")[2]


def test_the_text_of_a_traced_function():
    def affine(x, scale, *rest, shift=0):
        return x * scale + rest[0] - shift

    x = Tensor(np.zeros((2, 3), np.float32))
    graph = ndl.trace(affine, x, 2.0, np.ones(3), shift=Tensor([1.0]))
    line = affine.__code__.co_firstlineno + 1
    where = f"# test_compile.py:{line} in affine"
    text = "\n".join(row.rstrip() for row in str(graph).splitlines())
    assert [row.split() for row in text.splitlines()] == [
        row.split()
        for row in f"""
graph @affine(%x: f32[2,3], %rest_0: f64[3], %shift: f32[1]) -> f64[2,3] {{
  %0 = constant {{value=2.0}} : f32[]
  %1 = multiply(%x, %0) : f32[2,3]          {where}
  %2 = cast(%1) {{dtype=f64}} : f64[2,3]    {where}
  %3 = add(%2, %rest_0) : f64[2,3]          {where}
  %4 = cast(%shift) {{dtype=f64}} : f64[1]  {where}
  %5 = subtract(%3, %4) : f64[2,3]          {where}
  return %5
}}""".strip().splitlines()
    ]


def test_nested_arguments_are_numbered():
    def f(pair, table):
        return pair[0] + pair[1] + table["a"]

    one = Tensor([1.0])
    graph = ndl.trace(f, (one, one), table={"a": one, "n": 3})
    assert str(graph).startswith("graph @f(%pair_0: f32[1], %pair_1: f32[1], %table_0: f32[1])")


class Net(nn.Module):
    def __init__(self):
        self.blocks = [nn.Linear(3, 8), nn.BatchNorm1d(8)]
        self.dropout = nn.Dropout(0.25)
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.out(self.dropout(ndl.relu(x)))


def test_parameters_are_named_by_their_module_path():
    x = Tensor(np.ones((6, 3), np.float32), requires_grad=False)
    model = Net()
    text = str(ndl.trace(lambda x: model(x), x))
    names = ("blocks.0.weight", "blocks.0.bias", "blocks.1.weight", "blocks.1.bias")
    for name in (*names, "out.weight", "out.bias", "blocks.1.running_mean"):
        assert f"%{name}: f32[" in text
    assert "linear(%x, %blocks.0.weight, %blocks.0.bias)" in text
    rows = {row.split(" = ")[1].split("(")[0]: row for row in text.splitlines() if " = " in row}
    assert rows["linear"].endswith(", out")
    assert rows["batch_norm"].endswith(", blocks.1")
    assert rows["dropout"].endswith(", dropout")


def test_what_is_unused_stays_visible_until_dce():
    def wasteful(x):
        x.exp().tanh()
        return x + 1

    compiled = ndl.compile(wasteful, Tensor([1.0]))
    assert ndl.trace(wasteful, Tensor([1.0])).count("exp") == 1
    counts = {stage.name: stage.graph.count("exp") for stage in compiled.stages}
    assert counts["recorded"] == 1
    names = list(counts)
    assert counts[names[names.index("dce") - 1]] == 1
    assert counts["dce"] == 0
    assert compiled.graph.count("exp") == 0
    assert " = tanh(%" in str(compiled.stages[0].graph)
    assert " = tanh(%" not in str(compiled.graph)


def test_a_compiled_function():
    compiled = ndl.compile(lambda x, k: {"y": x * k, "k": k}, Tensor([1.0, 2.0]), 3.0)
    result = compiled(Tensor([5.0, 6.0]), 3.0)
    np.testing.assert_array_equal(result["y"].numpy(), [15, 18])
    assert result["k"] == 3
    assert [compiled.stages[0].name, compiled.stages[-1].name] == ["recorded", LAST]
    assert compiled.graph is compiled.stages[-1].graph
    assert compiled.plan.graph is compiled.graph
    assert "def run(" in compiled.source
    shown = str(compiled)
    for part in ("recorded", "autodiff", "multiply", "arena"):
        assert part in shown


def test_a_compiled_graph():
    x = Tensor([1.0, 2.0])
    one = ndl.compile(ndl.trace(lambda x: x * 2, x))
    np.testing.assert_array_equal(one(Tensor([3.0, 4.0])).numpy(), [6, 8])
    np.testing.assert_array_equal(one(np.array([3.0, 4.0], np.float32)).numpy(), [6, 8])
    two = ndl.compile(ndl.trace(lambda x, y: (x + y, x - y), x, x))
    total, difference = two(Tensor([3.0, 4.0]), Tensor([1.0, 1.0]))
    np.testing.assert_array_equal(total.numpy(), [4, 5])
    np.testing.assert_array_equal(difference.numpy(), [2, 3])


def test_what_was_compiled_for_other_types_says_so():
    x = Tensor([1.0, 2.0])
    function = ndl.compile(lambda x, k: x * k, x, 3.0)
    other = Tensor([1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match=r"compiled for \(f32\[2\].*3\.0\), called with \(f32\[3\]"):
        function(other, 3.0)
    with pytest.raises(TypeError, match=r"3\.0\), called with .*4\.0\)"):
        function(x, 4.0)
    with pytest.raises(TypeError, match="compiled for"):
        function(x)
    graph = ndl.compile(ndl.trace(lambda x, y: x + y, x, x))
    message = r"compiled for \(f32\[2\], f32\[2\]\), called with \(f32\[2\], f32\[3\]\)"
    with pytest.raises(TypeError, match=message):
        graph(x, other)
    with pytest.raises(TypeError, match=r"called with \(f32\[2\], list\)"):
        graph(x, [1.0, 2.0])
    with pytest.raises(TypeError, match="takes no example arguments"):
        ndl.compile(ndl.trace(lambda x: x, x), x)


def test_a_pipeline_of_ones_own():
    compiled = ndl.compile(lambda x: (x * 1) * 1, Tensor([2.0]), pipeline="lower, simplify, dce")
    assert [stage.name for stage in compiled.stages] == ["recorded", "lower", "simplify", "dce"]
    assert compiled(Tensor([3.0])).item() == 3
    plain = ndl.compile(lambda x: (x * 1) * 1, Tensor([2.0]), pipeline="dce")
    assert plain.graph.count("multiply") == 2
    with pytest.raises(ValueError, match="no pass 'nonsense'"):
        ndl.compile(lambda x: x, Tensor([2.0]), pipeline="nonsense")


def test_record_passes_keeps_what_was_compiled_inside():
    ndl.clear_cache()
    with ndl.record_passes() as record:
        (Tensor([1.0, 2.0]) + 1).sum().item()
    assert record.stages[0].graph.count("sum") == 1
    assert record.stages[-1].name == LAST
    stages = list(record.stages)
    (Tensor([1.0, 2.0]) * 5).sum().item()
    assert record.stages == stages
