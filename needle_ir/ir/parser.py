"""The text form read back: a recursive-descent parser. It evaluates nothing.

docs/inspection.md has the grammar. A text has one graph, whose nodes stand in any order in which
operands come before their users.
"""

import re
from collections.abc import Mapping
from typing import Any

from needle_ir.ir.attrs import NO_ATTRS, Attrs
from needle_ir.ir.errors import OpError
from needle_ir.ir.graph import Graph, topological
from needle_ir.ir.lexer import Lexer, ParseError
from needle_ir.ir.literals import (
    Elements,
    check_depth,
    read_name,
    read_string,
    read_type,
    read_value,
)
from needle_ir.ir.node import CONSTANT, INPUT, Array, Node, Op, Trait, constant_node, input_node
from needle_ir.ir.origin import Origin, written_origin
from needle_ir.ir.printer import input_name
from needle_ir.ir.registry import registered_names, registered_ops
from needle_ir.ir.types import TensorType
from needle_ir.ir.verify import is_promoted

__all__ = ["ParseError", "parse"]

_ORIGIN = re.compile(
    r"(?P<file>.+):(?P<line>[0-9]+) in (?P<function>[^,\s]+)"
    r"(?:, (?P<module>.+?))?(?: \((?P<phase>backward|update)\))?"
)


def parse(text: str, ops: Mapping[str, Op] | None = None) -> Graph:
    """The graph that `text` is the text form of: structurally equal to the one that was printed.

    Ops are found by name: those of the library, the composites of all modules that were imported,
    and before these `ops`. Comments of the form that is printed become the origins of the nodes.
    A node that nothing reads and that no line lists is unused, or an effect where its op has one.

    Raises ParseError, with line and column, for anything that is no graph of the IR: syntax, names
    that are not defined, ops that are not known, types that are not those of the type rules, and
    constants that were left out when the graph was printed.
    """
    return _Parser(Lexer(text), ops or {}).read_text()


class _Values:
    """The values of one graph by name, while it is read."""

    def __init__(self) -> None:
        self.by_name: dict[str, Node] = {}
        self.nodes: list[Node] = []  # without the inputs, in the order of the text


class _Parser:
    def __init__(self, lexer: Lexer, ops: Mapping[str, Op]):
        self._lexer = lexer
        self._given = ops
        self._ops: dict[str, Op] = {}
        self._inferred: dict[tuple[Any, ...], tuple[Attrs, TensorType]] = {}

    def read_text(self) -> Graph:
        graph = self._graph(0)
        if self._lexer.kind != "end":
            self._lexer.missing("the end of the text after the graph")
        return graph

    # graph @name(%x: f32[2], …) -> (f32[], …) { … } ----------------------------------------------

    def _graph(self, depth: int) -> Graph:
        lexer = self._lexer
        check_depth(lexer, depth)
        lexer.expect("graph", "`graph`, which every graph begins with")
        lexer.expect("@", "`@` and the name of the graph")
        name = read_name(lexer, "the name of the graph")
        values = _Values()
        inputs = self._inputs(values)
        lexer.expect("->", "`->` and the types of the results")
        results = self._result_types()
        lexer.expect("{")
        listed: dict[str, list[Node]] = {}
        while not lexer.at("return"):
            word = lexer.word
            if lexer.kind == "value":
                self._statement(values, depth)
            elif word in ("effects", "unused") and word not in listed:
                listed[word] = self._listed(values)
            else:
                lexer.missing("a node such as `%0 = exp(%x) : f32[2]`, or `return`")
        outputs = self._outputs(values, results)
        lexer.expect("}")
        effects, unused = _loose_ends(values.nodes, outputs, listed)
        return Graph(inputs, outputs, effects, unused, name)

    def _inputs(self, values: _Values) -> list[Node]:
        lexer = self._lexer
        inputs: list[Node] = []
        lexer.expect("(", "`(` and the inputs")
        while not lexer.take(")"):
            start = lexer.start
            written = lexer.read("value", "an input, such as %x, or `)`")
            lexer.expect(":", "`:` and the type of the input")
            type_, name = read_type(lexer), input_name(len(inputs), written[1:])
            if lexer.take("{"):
                lexer.expect("name", "`name`: an input has no other attribute")
                lexer.expect("=")
                name = None if lexer.take("none") else read_string(lexer)
                lexer.expect("}")
            inputs.append(input_node(type_, name))
            self._define(values, written, inputs[-1], start)
            if not lexer.at(")"):
                lexer.expect(",", "`,` or `)`")
        return inputs

    def _result_types(self) -> list[TensorType]:
        lexer = self._lexer
        if not lexer.take("("):
            return [read_type(lexer)]
        types: list[TensorType] = []
        while not lexer.take(")"):
            types.append(read_type(lexer))
            if not lexer.at(")"):
                lexer.expect(",", "`,` or `)`")
        return types

    def _outputs(self, values: _Values, types: list[TensorType]) -> list[Node]:
        lexer = self._lexer
        start = lexer.start
        lexer.expect("return")
        outputs: list[Node] = []
        while lexer.kind == "value":
            at = lexer.start
            outputs.append(self._operand(values))
            if len(outputs) <= len(types) and outputs[-1].type != types[len(outputs) - 1]:
                lexer.fail(
                    f"this is {outputs[-1].type}, and the head of the graph promises "
                    f"{types[len(outputs) - 1]}",
                    at,
                )
            if lexer.at("}"):
                break
            lexer.expect(",", "`,` or `}`")
        if len(outputs) != len(types):
            counts = f"{len(outputs)} values, and its head promises {len(types)}"
            lexer.fail(f"the graph returns {counts}", start)
        return outputs

    def _listed(self, values: _Values) -> list[Node]:
        """`effects %0, %1` or `unused %0`."""
        lexer = self._lexer
        word = lexer.advance()
        nodes: list[Node] = []
        seen: set[Node] = set()
        while not nodes or lexer.take(","):
            start = lexer.start
            nodes.append(self._operand(values))
            if word == "effects":
                if not nodes[-1].op.has(Trait.EFFECT):
                    lexer.fail(f"{nodes[-1].op.name} has no effect", start)
                if nodes[-1] in seen:
                    lexer.fail("this effect is listed twice", start)
                seen.add(nodes[-1])
        return nodes

    # %0 = exp(%x) {…} : f32[2]  # mlp.py:12 in f --------------------------------------------------

    def _statement(self, values: _Values, depth: int) -> None:
        lexer = self._lexer
        start, name = lexer.start, lexer.advance()
        lexer.expect("=", "`=` and what the value is")
        at = lexer.start
        op = self._op(read_name(lexer, "the name of an op"), at)
        if op is CONSTANT:
            node = constant_node(self._constant(), _origin(lexer.comment))
        else:
            operands = self._operands(values)
            attrs = self._attrs(depth)
            lexer.expect(":", "`:` and the type of the result")
            type_at, declared = lexer.start, read_type(lexer)
            attrs, expected = self._type(op, attrs, operands, at)
            if declared != expected:
                shown = ", ".join(str(x.type) for x in operands)
                lexer.fail(f"{op.name}({shown}) is {expected}, not {declared}", type_at)
            node = Node(op, operands, attrs, expected, _origin(lexer.comment))
        self._define(values, name, node, start)
        values.nodes.append(node)

    def _constant(self) -> Array:
        lexer = self._lexer
        lexer.expect("{", "`{value=` and the elements of the constant")
        lexer.expect("value", "`value`: a constant has no other attribute")
        lexer.expect("=")
        elements = Elements(lexer)
        lexer.expect("}")
        lexer.expect(":", "`:` and the type of the constant")
        return elements.array(read_type(lexer))

    def _operands(self, values: _Values) -> tuple[Node, ...]:
        lexer = self._lexer
        operands: list[Node] = []
        lexer.expect("(", "`(` and the operands")
        while not lexer.take(")"):
            operands.append(self._operand(values))
            if not lexer.at(")"):
                lexer.expect(",", "`,` or `)`")
        return tuple(operands)

    def _operand(self, values: _Values) -> Node:
        lexer = self._lexer
        start, name = lexer.start, lexer.read("value", "a value, such as %x or %0")
        node = values.by_name.get(name)
        if node is None:
            near = _near(name, list(values.by_name)[-1000:])
            lexer.fail(f"{name} is not defined before it is read{near}", start)
        return node

    def _attrs(self, depth: int) -> Attrs:
        lexer = self._lexer
        if not lexer.take("{"):
            return NO_ATTRS
        attrs: dict[str, Any] = {}
        while not lexer.take("}"):
            start, name = lexer.start, read_name(lexer, "the name of an attribute, or `}`")
            if name in attrs:
                lexer.fail(f"the attribute {name} is given twice", start)
            lexer.expect("=", f"`=` and the value of {name}")
            attrs[name] = read_value(lexer, lambda inner: self._graph(depth + inner))
            if not lexer.at("}"):
                lexer.expect(",", "`,` or `}`")
        return Attrs(attrs)

    def _op(self, name: str, start: int) -> Op:
        op = self._ops.get(name)
        if op is None:
            op = self._ops[name] = self._look_up(name, start)
        return op

    def _look_up(self, name: str, start: int) -> Op:
        if name == INPUT.name:
            self._lexer.fail("inputs stand in the head of the graph: graph @f(%x: f32[2])", start)
        if name == CONSTANT.name:
            return CONSTANT
        if name in self._given:
            return self._given[name]
        found = registered_ops(name)
        if len(found) > 1:
            places = " and ".join(sorted(found.values()))
            self._lexer.fail(
                f"{len(found)} ops are called {name}, defined by {places}: say which one is meant, "
                f'with parse(text, ops={{"{name}": op}})',
                start,
            )
        if not found:
            known = [CONSTANT.name, *self._given, *registered_names()]
            self._lexer.fail(
                f"there is no op {name}{_near(name, known)} (a composite is known once the module "
                "is imported that defines it; the command line takes --load FILE.py)",
                start,
            )
        return next(iter(found))

    def _type(
        self, op: Op, attrs: Attrs, operands: tuple[Node, ...], start: int
    ) -> tuple[Attrs, TensorType]:
        """The attributes in normal form, and the type that the op's rule gives."""
        types = [operand.type for operand in operands]
        key = (op, attrs, *types)
        found = self._inferred.get(key)
        if found is None:
            shown = f"{op.name}({', '.join(map(str, types))})"
            try:
                normal = attrs if op.normalize is None else Attrs(op.normalize(*types, **attrs))
                found = normal, op.infer(*types, **normal)
            except OpError as error:
                self._lexer.fail(f"{shown}: {error.reason}", start)
            except Exception as error:
                # Attributes that are missing, too many, or of another kind than the op expects.
                words = re.sub(r"^\S+\(\) ", "", str(error)) or type(error).__name__
                raise ParseError(f"{shown}: {words}", self._lexer.text, start) from error
            if not is_promoted(op, types):
                self._lexer.fail(f"{shown}: the operands need one dtype; write casts", start)
            self._inferred[key] = found
        return found

    def _define(self, values: _Values, name: str, node: Node, start: int) -> None:
        if name in values.by_name:
            self._lexer.fail(f"{name} is defined twice", start)
        values.by_name[name] = node


def _loose_ends(
    nodes: list[Node], outputs: list[Node], listed: Mapping[str, list[Node]]
) -> tuple[list[Node], list[Node]]:
    """Effects and unused nodes: those that are listed, and the others that there are."""
    effects = list(listed.get("effects", []))
    known = set(effects)
    effects += [node for node in nodes if node.op.has(Trait.EFFECT) and node not in known]
    unused = list(listed.get("unused", []))
    needed = set(topological([*effects, *outputs, *unused]))
    left = [node for node in nodes if node not in needed]
    read = {operand for node in left for operand in node.inputs}
    return effects, [*unused, *[node for node in left if node not in read]]


def _origin(comment: str) -> Origin | None:
    match = _ORIGIN.fullmatch(comment) if comment else None
    if match is None:
        return None
    place = match["file"], int(match["line"]), match["function"]
    return written_origin(*place, match["module"] or "", match["phase"] or "forward")


def _near(name: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else ""
