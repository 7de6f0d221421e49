"""Chains of 100,000 nodes go through every pass and the planner."""

import time
from typing import Any

import pytest

from needle_ir import ops
from needle_ir.ir import Graph, Node
from needle_ir.passes import (
    DEFAULT_PIPELINE,
    Rule,
    make_plan,
    parse_pipeline,
    pass_table,
    run_pipeline,
)
from needle_ir.runtime import evaluate
from tests.passes.graph_text import arg

DEPTH = 100_000
# Of processor time, for one test; it takes about a sixth of that. A busy machine counts for little.
SECONDS = 60.0


@pytest.fixture(autouse=True)
def in_time() -> Any:
    started = time.process_time()
    yield
    assert time.process_time() - started < SECONDS


def chain(step: Any, start: Node, depth: int = DEPTH) -> Node:
    for _ in range(depth):
        start = step(start)
    return start


def test_every_pass_and_the_planner() -> None:
    # Half of the chain is recorded, the other half is its derivative: all that x gets, added up.
    x = arg("x", 4)
    y = chain(lambda node: node + x, x, DEPTH // 2)
    graph = Graph([x], [y, ops.grad(ops.sum(y), x, ops.sum(y))])
    for pass_ in parse_pipeline(DEFAULT_PIPELINE, pass_table(evaluate)):
        graph = run_pipeline(graph, [pass_])
    assert graph.count("add") == DEPTH
    plan = make_plan(graph)
    assert len(plan.steps) > DEPTH
    assert plan.arena_bytes <= 256


def test_a_chain_that_a_rule_shortens() -> None:
    x = arg("x", 4)
    graph = Graph([x], [chain(ops.negative, x, 30_000)])
    for pass_ in parse_pipeline("lower, fold, simplify, cse, stabilize, dce", pass_table(evaluate)):
        graph = run_pipeline(graph, [pass_])
    assert graph.outputs == (x,)


def test_a_pattern_that_is_deep() -> None:
    x = arg("x", 4)
    rule = Rule("r", lambda a: chain(ops.exp, a, 20_000), lambda a: a)
    assert rule.apply(chain(ops.exp, x, 20_000)) is x
    assert rule.apply(chain(ops.exp, x, 19_999)) is None


def test_views_of_views() -> None:
    x = arg("x", 2, 3)
    y = chain(ops.permute, ops.exp(x), 30_000)
    plan = make_plan(Graph([x], [y * 2.0]))
    assert len(plan.steps) == 30_002
    assert [slot.node.op.name for slot in plan.slots if slot.offset is not None] == ["exp"]
