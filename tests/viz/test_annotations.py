"""What a plan and a profile add to a picture."""

import re
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings

import needle_ir as ndl
from needle_ir.ir import Graph, Place
from needle_ir.passes import make_plan
from needle_ir.viz import Heat, Timed, to_dot
from needle_ir.viz.annotate import held_before
from needle_ir.viz.scale import (
    arena_colour,
    bytes_text,
    edge_width,
    heat_colour,
    seconds_text,
)
from tests.passes.random_graphs import samples
from tests.passes.training_step import optimized, training_step
from tests.viz.dot_text import DotText
from tests.viz.sample_graphs import EXP, SUM, TRANSPOSE, fused, leaf, node
from tests.viz.test_dot import contrast

FILL = re.compile(r'fillcolor="(#\w+)"')


def fills(dot):
    """The fill of each node."""
    found = re.findall(r'\t(\w+) \[label=.*? fillcolor="(#\w+)"', dot.source)
    return dict(found)


def chain():
    """Four results of 512 bytes; the third one takes the first one's place."""
    x = h = leaf("x", 128)
    for i in range(4):
        h = node(SUM, h, shape=(128,), step=i)
    return make_plan(Graph([x], [h], name="chain"))


def test_a_plan_says_where_each_step_writes():
    plan = chain()
    text = DotText(to_dot(plan))
    assert text.labels["n1"][1:] == ["step=0", "step 0 · arena 0‥512"]
    assert text.labels["n2"][1:] == ["step=1", "step 1 · arena 512‥1,024"]
    assert text.labels["n3"][1:] == ["step=2", "step 2 · arena 0‥512", "reuses bytes of step 0"]
    assert text.labels["n4"][-1] == "step 3 · output"
    assert text.labels["n0"] == ["%x"]
    assert text.heading()[1:3] == [
        "5 nodes",
        "4 steps; arena 1.02 kB, 1.54 kB without reuse; peak 1.02 kB alive at step 1",
    ]


def test_the_fill_is_the_place_in_the_arena():
    plan = chain()
    colours = fills(to_dot(plan))
    assert colours["n1"] == colours["n3"] != colours["n2"]
    assert colours["n0"] == colours["n4"] == "#ffffff", "they are not in the arena"
    assert colours["n1"] == arena_colour(0)
    assert colours["n2"] == arena_colour(0.5)


def test_dashed_edges_go_to_what_takes_over_bytes():
    text = DotText(to_dot(chain()))
    dashed = [edge[:2] for edge in text.edges if "style=dashed" in edge[3]]
    assert dashed == [("n1", "n3")]
    assert all("constraint=false" in e[3] for e in text.edges if "style=dashed" in e[3])
    assert "takes over bytes" in text.heading()


def test_large_plans_say_it_in_words_only():
    recorded, _ = training_step()
    text = DotText(to_dot(make_plan(optimized(recorded))))
    assert not any("style=dashed" in edge[3] for edge in text.edges)
    assert sum("reuses bytes of step" in line for x in text.labels.values() for line in x) > 20
    assert "takes over bytes" not in text.heading()


def test_a_view_has_no_place_of_its_own():
    x = leaf("x", 2, 2)
    plan = make_plan(Graph([x], [node(EXP, node(TRANSPOSE, node(EXP, x)))]))
    text = DotText(to_dot(plan))
    assert text.labels.keys() == {"n0", "n1", "n3"}
    assert text.between("n1", "n3") == ["transpose|f32[2,2]"]


def test_modules_say_which_steps_they_are():
    recorded, _ = training_step()
    plan = make_plan(optimized(recorded))
    text = DotText(to_dot(plan, level="module"))
    steps = [line for lines in text.labels.values() for line in lines if " steps, " in line]
    assert steps
    count = sum(int(line.split(" ")[0]) for line in steps)
    count += sum(line.startswith("step ") for x in text.labels.values() for line in x)
    views = sum(plan.slots[step.output].place is Place.VIEW for step in plan.steps)
    assert count == len(plan.steps) - views


@settings(deadline=None, max_examples=60)
@given(samples())
def test_who_held_the_bytes_before(sample):
    """Against the definition, step by step and byte by byte. What is computed in its place in a
    packed array holds no bytes of its own.
    """
    plan = make_plan(optimized(sample.graph))
    holders = {}
    wanted = {}
    arena = [slot for slot in plan.slots if slot.place is Place.ARENA and slot.nbytes]
    slots = [slot for slot in arena if slot.inside is None]
    for slot in sorted(slots, key=lambda slot: slot.start):
        held = range(slot.offset, slot.offset + slot.nbytes)
        wanted[slot.node] = list(dict.fromkeys(holders[b] for b in held if b in holders))
        holders |= dict.fromkeys(held, slot.node)
    assert held_before(plan) == {node: olds for node, olds in wanted.items() if olds}


def heated():
    x = leaf("x", 2)
    a = node(EXP, x, module="a")
    b = node(SUM, node(TRANSPOSE, a), module="b")
    return Heat(Graph([x], [b]), {a: 0.003, b: 0.001})


def test_a_profile_says_how_long_each_box_took():
    text = DotText(to_dot(heated()))
    assert text.labels["n1"] == ["%0 exp", "f32[2]", "3 ms · 75 %"]
    assert text.labels["n3"][-1] == "1 ms · 25 %"
    assert text.heading()[1:3] == ["4 nodes", "4 ms in 2 measured nodes"]
    assert text.heading()[-5:] == ["0 µs", "750 µs", "1.50 ms", "2.25 ms", "3 ms"]


def test_the_fill_is_the_share_of_the_longest_time():
    colours = fills(to_dot(heated()))
    assert colours["n0"] == "#ffffff"
    assert colours["n1"] == heat_colour(1.0)
    assert colours["n3"] == heat_colour(1 / 3)


def test_modules_are_the_sum_of_their_ops():
    heat = heated()
    text = DotText(to_dot(heat, level="module"))
    assert text.labels["mn1"][-1] == "3 ms · 75 %"
    graph = heat.graph
    x, a = graph.inputs[0], graph.nodes[1]
    again = node(SUM, a, module="a")
    both = Heat(Graph([x], [again]), {a: 0.002, again: 0.002})
    assert DotText(to_dot(both, level="module")).labels["mn1"][-1] == "4 ms · 100 %"


@pytest.mark.parametrize("level", ["kernel", "primitive"])
def test_an_opened_kernel_has_its_time_on_its_frame(level):
    x = leaf("x", 2)
    a = fused(x, x)
    b = node(EXP, a)
    text = DotText(to_dot(Heat(Graph([x], [b]), {a: 0.009, b: 0.001}), level=level))
    assert text.frames["n1_2"] == ["fused %0 · 9 ms · 90 %"]
    assert not any("ms" in line for line in text.labels["n1_2"])
    assert text.labels["n2"][-1] == "1 ms · 10 %"
    frame = next(line for line in text.source.splitlines() if "fused %0 · 9 ms" in line)
    assert FILL.search(frame)[1] == heat_colour(1.0)


def test_an_opened_kernel_has_its_step_on_its_frame():
    x = leaf("x", 2)
    plan = make_plan(Graph([x], [node(SUM, fused(x, x), shape=(2,))]))
    text = DotText(to_dot(plan))
    assert text.frames["n1_2"] == ["fused %0 · step 0 · arena 0‥8"]


def test_any_object_with_a_graph_and_times_can_be_drawn():
    class Measured:
        graph = heated().graph

        def node_seconds(self):
            return {}

    assert isinstance(Measured(), Timed)
    assert not isinstance(heated().graph, Timed)
    text = DotText(to_dot(Measured()))
    assert text.heading()[2] == "0 µs in 0 measured nodes"


def test_a_profile_can_be_drawn():
    # The graph that takes longest is drawn: this product takes far longer than the sum after it.
    x = ndl.Tensor(np.full((800, 800), 0.01, np.float32))
    with ndl.profile(show=False) as profile:
        ndl.exp(x @ x).sum().item()
        (x + 1.0).sum().item()
    text = DotText(to_dot(profile))
    assert any("matmul" in lines[0] for lines in text.labels.values())
    assert any(line.endswith(" %") for lines in text.labels.values() for line in lines)
    assert " in other graphs" in text.heading()[2]
    with ndl.profile(show=False) as nothing:
        pass
    with pytest.raises(ValueError, match="nothing ran while the profile was taken"):
        to_dot(nothing)


@pytest.mark.parametrize("value", [-1e-9, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(value):
    x = leaf("x", 2)
    graph = Graph([x], [node(EXP, x)])
    with pytest.raises(ValueError, match=r"time of <exp\(f32\[2\]\).*> is .* s; expected 0"):
        to_dot(Heat(graph, {graph.nodes[1]: value}))


def test_times_of_other_graphs_are_told():
    heat = heated()
    other = node(SUM, leaf("y", 2))
    text = DotText(to_dot(Heat(heat.graph, {**heat.seconds, other: 0.5})))
    assert text.heading()[2] == "4 ms in 2 measured nodes; 500 ms in other graphs"
    assert text.labels["n1"][-1] == "3 ms · 75 %"


def test_times_of_another_graph_alone_are_refused():
    x = leaf("x", 2)
    with pytest.raises(ValueError, match="none of the 1 nodes that have times is in <Graph"):
        to_dot(Heat(Graph([x], [node(EXP, x)]), {node(SUM, x): 1.0}))


def test_a_real_program_can_be_drawn_with_times():
    x = np.ones((3, 4), np.float32)
    compiled = ndl.compile(lambda x: ndl.log(ndl.exp(x).sum() + 1.0), x)
    seconds = {step.node: 1e-6 for step in compiled.plan.steps}
    for level in ("module", "composite", "primitive", "kernel"):
        text = DotText(to_dot(Heat(compiled.graph, seconds), level=level))
        assert any("µs" in line for lines in text.labels.values() for line in lines)


def test_scales():
    assert [bytes_text(n) for n in (0, 1, 999, 1000, 25_600, 1_234_567, 12 * 10**9)] == [
        "0 B",
        "1 B",
        "999 B",
        "1 kB",
        "25.6 kB",
        "1.23 MB",
        "12 GB",
    ]
    assert [seconds_text(s) for s in (0, 4e-7, 1.5e-6, 0.00123, 0.5, 2.0, 123.4)] == [
        "0 µs",
        "0.40 µs",
        "1.50 µs",
        "1.23 ms",
        "500 ms",
        "2 s",
        "123 s",
    ]
    assert edge_width(0) == edge_width(64) < edge_width(6400)


@pytest.mark.parametrize("colour", [heat_colour, arena_colour])
def test_ramps(colour):
    steps = [colour(share / 10) for share in range(11)]
    assert all(a != b for a, b in combinations(steps, 2))
    assert colour(-1) == steps[0]
    assert colour(2) == steps[-1]
    assert min(contrast("#222222", step) for step in steps) > 4.5, "text is readable (WCAG AA)"


def test_a_view_that_has_to_copy_is_a_box():
    """A dense view of a transposed array is a kernel call."""
    x = leaf("x", 2, 2)
    reshape = ndl.ops.reshape(ndl.ops.permute(x, (1, 0)), (4,))
    plan = make_plan(Graph([x], [node(EXP, reshape)]))
    assert [slot.place for slot in plan.slots[1:3]] == [Place.VIEW, Place.ARENA]
    text = DotText(to_dot(plan))
    assert text.labels["n2"][-1].startswith("step 1 · arena")
    assert text.between("n0", "n2") == ["transpose|f32[2,2]"]


def test_a_view_that_took_time_is_a_box():
    x = leaf("x", 2)
    view = node(TRANSPOSE, x)
    graph = Graph([x], [node(EXP, view)])
    assert "n1" not in DotText(to_dot(Heat(graph, {}))).labels
    assert DotText(to_dot(Heat(graph, {view: 1e-3}))).labels["n1"][-1] == "1 ms · 100 %"
