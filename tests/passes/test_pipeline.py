"""Pipelines as text, and the instruments that watch them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import (
    NO_ATTRS,
    Graph,
    Node,
    Pass,
    TensorType,
    VerificationError,
    structurally_equal,
)
from needle_ir.passes import (
    CSE,
    DCE,
    DEFAULT_PIPELINE,
    Autodiff,
    Fold,
    Lower,
    Record,
    RulePass,
    Simplify,
    Stabilize,
    Verify,
    format_pipeline,
    parse_pipeline,
    pass_table,
    run_pipeline,
)
from needle_ir.runtime import evaluate
from tests.passes.graph_text import arg

TABLE = pass_table(evaluate)


# Text ---------------------------------------------------------------------------------------------


def test_every_pass_has_its_own_name() -> None:
    for name, make in TABLE.items():
        options = {"budget": 4096} if name == "remat" else {}
        pass_ = make(**options)
        text = name + "".join(f"{{{key}={value}}}" for key, value in options.items())
        assert pass_.name == name
        assert format_pipeline([pass_]) == text
        assert parse_pipeline(text, TABLE) == [pass_]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fold",
        DEFAULT_PIPELINE,
        "lower{keep_vjp=true}, autodiff, lower",
        "simplify{fast_math=true}, fold{max_bytes=0}, cse",
        "fold{max_bytes=1024}, fold",
    ],
)
def test_round_trip(text: str) -> None:
    assert format_pipeline(parse_pipeline(text, TABLE)) == text


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("lower{keep_vjp=true}", [Lower(keep_vjp=True)]),
        ("lower{keep_vjp=false}", [Lower()]),
        ("simplify{fast_math=true}", [Simplify(fast_math=True)]),
        ("simplify{cse=true, stabilize=true}", [Simplify(stabilize=True, cse=True)]),
        ("fold{max_bytes=12}", [Fold(evaluate, max_bytes=12)]),
        ("  cse ,dce{ }  ,\n stabilize,autodiff ", [CSE(), DCE(), Stabilize(), Autodiff()]),
    ],
)
def test_parsed(text: str, passes: list[Pass]) -> None:
    assert parse_pipeline(text, TABLE) == passes


def test_options_at_their_defaults_are_not_shown() -> None:
    passes = [Lower(keep_vjp=False), Fold(evaluate, max_bytes=65536), Simplify(fast_math=False)]
    assert format_pipeline(passes) == "lower, fold, simplify"


@dataclass(frozen=True)
class Tile:
    """A pass with several options, one of them without a default."""

    rows: int
    columns: int = 8
    pad: bool = False
    name = "tile"

    def run(self, graph: Graph) -> Graph:
        return graph


def test_several_options() -> None:
    text = "tile{rows=4, columns=16, pad=true}"
    passes = parse_pipeline(text, {"tile": Tile})
    assert passes == [Tile(4, 16, True)]
    assert format_pipeline(passes) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fuze", r"no pass 'fuze'; did you mean fuse\? the passes are autodiff, cse, dce, fold"),
        ("fold, fusion{size=3}", r"no pass 'fusion'"),
        ("cse{fast=true}", r"pass 'cse': .*'fast'"),
        ("fold{evaluate=1}", r"pass 'fold': .*'evaluate'"),
        ("tile", r"pass 'tile': .*'rows'"),
        ("lower{keep_vjp}", r"option 'keep_vjp': write name=true, name=false or name=NUMBER"),
        ("lower{keep_vjp=yes}", r"option 'keep_vjp=yes'"),
        ("lower{keep_vjp=}", r"option 'keep_vjp='"),
        ("fold{max_bytes=-1}", r"option 'max_bytes=-1'"),
        ("fold{max_bytes=1.5}", r"option 'max_bytes=1.5'"),
        ("fold{max_bytes=²}", r"option 'max_bytes=²'"),
        ("fold{max_bytes=true}", r"pass 'fold': option max_bytes=true; .* like 65536"),
        ("lower{keep_vjp=1}", r"pass 'lower': option keep_vjp=1; .* like false"),
        ("fold cse", r"can not read it at 'fold cse'"),
        ("fold, , cse", r"can not read it at ' , cse'"),
        ("fold, {max_bytes=1}", r"can not read it at ' \{max_bytes=1\}'"),
        ("fold{max_bytes=1", r"can not read it at 'fold\{max_bytes=1'"),
        ("fold}", r"can not read it at 'fold\}'"),
        ("fold; cse", r"can not read it at 'fold; cse'"),
        ("Fold", r"can not read it at 'Fold'"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_pipeline(text, {**TABLE, "tile": Tile})


def test_names_and_passes_in_one_list() -> None:
    mine = RulePass("mine-2", [])
    parts: list[str | Pass] = ["lower, fold", mine, Simplify(), "cse"]
    passes = parse_pipeline(parts, TABLE)
    assert [pass_.name for pass_ in passes] == ["lower", "fold", "mine-2", "simplify", "cse"]
    assert passes[2] is mine
    assert parse_pipeline([], TABLE) == []
    assert format_pipeline(passes) == "lower, fold, mine-2, simplify, cse"


def test_a_pass_of_the_user_has_a_name_in_the_text() -> None:
    mine = RulePass("mine-2", [])
    table = {**TABLE, "mine-2": lambda: mine, "tile": Tile}
    text = "lower, mine-2, tile{rows=2}, cse"
    passes = parse_pipeline(text, table)
    assert passes[1] is mine
    assert format_pipeline(passes) == text
    with pytest.raises(ValueError, match="no pass 'mine-2'; the passes are autodiff"):
        parse_pipeline(text, TABLE)


class Plain:
    """A pass that is no dataclass."""

    name = "plain"

    def run(self, graph: Graph) -> Graph:
        return graph


def test_a_pass_need_be_no_dataclass() -> None:
    table = {"plain": Plain}
    (pass_,) = parse_pipeline("plain", table)
    assert format_pipeline([pass_]) == "plain"
    with pytest.raises(ValueError, match="pass 'plain'"):
        parse_pipeline("plain{fast=true}", table)


# Running ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken:
    """Makes a node of a type that its op does not give."""

    name = "broken"

    def run(self, graph: Graph) -> Graph:
        def bend(node: Node, inputs: tuple[Node, ...]) -> Node:
            wrong = TensorType((7,), node.dtype)
            return Node(node.op, inputs, NO_ATTRS, wrong, node.origin)

        return graph.rebuild(bend)


@dataclass
class Diary:
    """Notes everything that it is told."""

    name: str
    pages: list[tuple[Any, ...]] = field(default_factory=list)

    def start(self, graph: Graph) -> None:
        self.pages.append((self.name, "start", graph))

    def after(self, pass_: Pass, before: Graph, after: Graph, seconds: float) -> None:
        assert seconds >= 0
        self.pages.append((self.name, pass_.name, before, after))


def small_graph() -> Graph:
    x = arg("x", 3)
    return Graph([x], [-ops.negative(ops.exp(x)) + ops.exp(x)])


def test_passes_run_in_order() -> None:
    graph = small_graph()
    result = run_pipeline(graph, [Simplify(), CSE()])
    assert structurally_equal(result, CSE().run(Simplify().run(graph)))
    assert [node.op.name for node in result.nodes] == ["input", "exp", "add"]


def test_no_passes() -> None:
    graph = small_graph()
    assert run_pipeline(graph, []) is graph


def test_instruments_are_told_in_order() -> None:
    pages: list[tuple[Any, ...]] = []
    first, second = Diary("first", pages), Diary("second", pages)
    graph = small_graph()
    result = run_pipeline(graph, [Simplify(), CSE()], [first, second])
    between = pages[2][3]
    assert pages == [
        ("first", "start", graph),
        ("second", "start", graph),
        ("first", "simplify", graph, between),
        ("second", "simplify", graph, between),
        ("first", "cse", between, result),
        ("second", "cse", between, result),
    ]


def test_verify_names_the_pass_that_broke_the_graph() -> None:
    with pytest.raises(VerificationError, match=r"after the pass broken: @graph: .*exp.*f32\[3\]"):
        run_pipeline(small_graph(), [Simplify(), Broken(), CSE()], [Verify()])


def test_verify_refuses_a_graph_that_was_recorded_broken() -> None:
    with pytest.raises(VerificationError) as caught:
        run_pipeline(Broken().run(small_graph()), [CSE()], [Verify()])
    assert "after the pass" not in str(caught.value)


def test_without_the_verifier_nobody_notices() -> None:
    assert run_pipeline(small_graph(), [Broken()]).outputs[0].shape == (7,)


def test_record_keeps_every_stage() -> None:
    record = Record()
    graph = small_graph()
    for _ in range(2):  # a second run begins a new record
        result = run_pipeline(graph, [Simplify(), CSE()], [record])
        assert [stage.name for stage in record.stages] == ["recorded", "simplify", "cse"]
        assert record.stages[0].graph is graph
        assert record.stages[-1].graph is result
    header, *rows = str(record).splitlines()
    assert header.split() == ["pass", "nodes", "ms"]
    assert [row.split()[:2] for row in rows] == [["recorded", "6"], ["simplify", "4"], ["cse", "3"]]
    assert all(float(row.split()[2]) >= 0 for row in rows)


def test_the_graph_given_is_as_it_was() -> None:
    x = arg("x", 2, dtype=np.float64)
    graph = Graph([x], [ops.grad(ops.sum(ops.exp(x) * 1.0), x)], unused=[-x])
    before = str(graph)
    run_pipeline(graph, parse_pipeline(DEFAULT_PIPELINE, TABLE), [Verify()])
    assert str(graph) == before
