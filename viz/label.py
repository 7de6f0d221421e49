"""The words on boxes and edges, and what they say under the mouse."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from needle_ir.ir import CONSTANT, INPUT, Graph, Node, print_attr
from needle_ir.viz.change import Mark
from needle_ir.viz.drawing import Line, Span, small
from needle_ir.viz.places import Path, name_inside
from needle_ir.viz.scene import Edge, Scene, Use
from needle_ir.viz.style import FAINT, MARKS, SMALL_SIZE, TEXT
from needle_ir.viz.units import LEAVES, Unit

_MAX_ATTRIBUTE_LINES = 3
_MAX_ELEMENTS = 3
_MAX_OPS = 3
_MAX_INPUTS = 4
_MAX_TOLD = 4
_MAX_NUMBERS = 3
_MAX_TOOLTIP_LINES = 24
_MAX_TOOLTIP_LINE = 160
_OPERAND = "·"


@dataclass(frozen=True)
class Words:
    """What is said of a scene. Names, attributes and types are cut to `limit` characters."""

    scene: Scene
    limit: int

    def of_op(self, i: int, place: Path, roles: Iterable[str], has_type: bool) -> list[Line]:
        """The label of a single op: what it does to what, its attributes, what it reads without an
        edge, its roles; its type where no edge that leaves it has it.
        """
        unit = self.scene.unit(i)
        lines = [self._call(i, place)]
        lines += [small(line) for line in self._attribute_lines(unit.node)]
        if not has_type:
            lines.append(small(elide(str(unit.node.type), self.limit)))
        lines += self._told_lines(unit.id, place)
        return lines + [small(role, TEXT, True) for role in roles]

    def handed(self, i: int) -> list[str]:
        """What is said of the views of an op that are outputs and are not drawn."""
        views = [self.scene.unit(use.reader).node.op.name for use in self.scene.handed.get(i, ())]
        return [f"{len(views)} outputs by {', '.join(dict.fromkeys(views))}"] if views else []

    def of_group(self, box: str, title: str, roles: Iterable[str]) -> list[Line]:
        """The label of a collapsed module: its ops, its weights, what it reads from far away."""
        scene, units = self.scene, [self.scene.unit(i) for i in self.scene.boxes[box]]
        ops = op_summary([unit.node.op.name for unit in units if unit.node.op not in LEAVES])
        is_line = scene.groups[box] in scene.lines
        if is_line:
            first, _, ops = ops.partition(": ")
            lines: list[Line] = [(Span(elide(first, self.limit)),)]
            lines += [small(elide(line, self.limit + 8)) for line in (ops, title) if line]
        else:
            lines = [(Span(elide(title, self.limit), is_bold=True),)]
            lines.append(small(elide(ops, self.limit + 8)))
        counts = Counter(unit.mark for unit in units if unit.mark is not None)
        spans = [
            Span(f"{MARKS[mark][1]}{counts[mark]} {mark.value}  ", SMALL_SIZE, MARKS[mark][0], True)
            for mark in Mark
            if counts[mark]
        ]
        if spans:
            lines.append(tuple(spans))
        inputs = [unit for unit in units if unit.node.op is INPUT]
        for unit in inputs[:_MAX_INPUTS]:
            name = short_name(unit, scene.groups[box])
            lines.append(small(elide(f"{name} {unit.node.type}", self.limit)))
        if len(inputs) > _MAX_INPUTS:
            lines.append(small(f"and {len(inputs) - _MAX_INPUTS} more inputs"))
        lines += self._told_lines(box, scene.groups[box])
        return lines + [small(role, TEXT, True) for role in (*self._group_roles(box), *roles)]

    def of_edge(self, edge: Edge) -> list[str]:
        """The words beside an edge: the views that it looks through, and the type that is read."""
        if len(edge.uses) == 1:
            (use,) = edge.uses
            lines = self._of_use(use)
            return [f"{use.position}: {lines[0]}", *lines[1:]] if edge.ordered else lines
        units = [self.scene.unit(i) for i in dict.fromkeys(use.source for use in edge.uses)]
        types = {unit.node.type for unit in units}
        if len(types) > 1:
            return [f"{len(units)} tensors"]
        times = f"{len(units)} × " if len(units) > 1 else ""
        return [elide(f"{times}{types.pop()}", self.limit)]

    def stand_in(self, i: int) -> str:
        """The small name that stands in for an op: `%x` for an input, `%7 exp` for another one."""
        unit = self.scene.unit(i)
        is_input = unit.node.op is INPUT
        return elide(unit.name if is_input else f"{unit.name} {unit.node.op.name}", self.limit)

    def tooltip(self, members: Sequence[int]) -> str:
        """The ops in a box as the text form has them, with the user's lines; of the operands of an
        op with very many, the first.
        """
        lines = [self.scene.unit(i).text for i in members]
        for i in members[:1] if len(members) == 1 else ():
            constants = [self.scene.unit(x.source) for x in self.scene.literals.get(i, {}).values()]
            lines += dict.fromkeys(unit.text for unit in constants)
        if len(lines) > _MAX_TOOLTIP_LINES:
            lines[_MAX_TOOLTIP_LINES:] = [f"… and {len(lines) - _MAX_TOOLTIP_LINES} more"]
        return "\n".join(elide_middle(line, _MAX_TOOLTIP_LINE) for line in lines)

    def _call(self, i: int, place: Path) -> Line:
        unit = self.scene.unit(i)
        sign = [] if unit.mark is None else [_sign(unit.mark)]
        if unit.node.op is INPUT:
            return (*sign, Span(elide(short_name(unit, place), self.limit)))
        name = Span(f"{unit.name} ", SMALL_SIZE, FAINT)
        title = elide(unit.node.op.name, self.limit)
        literals = self.scene.literals.get(i)
        if unit.node.op is CONSTANT:
            text = constant_text(unit.node)
            return (*sign, *([] if unit.name == text else [name]), Span(text))
        if not literals:
            return (*sign, name, Span(title))
        spans = [*sign, name, Span(f"{title}(")]
        if len(unit.operands) <= len(literals) + 2:
            for position in range(len(unit.operands)):
                spans.append(Span(", " if position else ""))
                spans.append(self._operand(literals.get(position)))
        else:
            for position, use in literals.items():
                spans.append(Span(f"{'' if spans[-1].text.endswith('(') else ', '}{position}="))
                spans.append(self._operand(use))
        return (*spans, Span(")"))

    def _operand(self, use: Use | None) -> Span:
        if use is None:
            return Span(_OPERAND)
        constant = self.scene.unit(use.source)
        if constant.mark is None:
            return Span(constant_text(constant.node))
        return Span(constant_text(constant.node), colour=MARKS[constant.mark][0], is_bold=True)

    def _attribute_lines(self, node: Node) -> list[str]:
        """The attributes that tell something, in lines of at most `limit` characters."""
        if node.op in LEAVES:
            return []
        lines: list[str] = []
        for name, value in node.attrs.items():
            if _says_nothing(node, value):
                continue
            is_graph = isinstance(value, Graph)
            text = _graph_text(value) if is_graph else f"{name}={print_attr(value)}"
            text = elide(text, self.limit)
            if lines and len(lines[-1]) + len(text) + 2 <= self.limit:
                lines[-1] += f", {text}"
            else:
                lines.append(text)
        if len(lines) > _MAX_ATTRIBUTE_LINES:
            lines[_MAX_ATTRIBUTE_LINES - 1 :] = ["…"]
        return lines

    def _of_use(self, use: Use) -> list[str]:
        views = [self.scene.unit(i).node for i in use.via]
        read = views[-1] if views else self.scene.unit(use.source).node
        lines = [elide(" · ".join(view.op.name for view in views), self.limit)] if views else []
        return [*lines, elide(str(read.type), self.limit)]

    def _told_lines(self, box: str, place: Path) -> list[Line]:
        """What a box reads and no edge says."""
        sources = dict.fromkeys(use.source for use in self.scene.told.get(box, ()))
        if not sources:
            return []
        units = [self.scene.unit(i) for i in sources]
        inputs = [short_name(x, place) for x in units if x.node.op is INPUT]
        others = [f"{x.name} {x.node.op.name}" for x in units if x.node.op is not INPUT]
        words = [
            text
            for names, what in ((inputs, "inputs"), (others, "tensors"))
            for text in (names if len(names) <= _MAX_TOLD else [f"{len(names)} {what}"])
        ]
        return [small(elide(f"reads {', '.join(words)}", self.limit + 8))]

    def _group_roles(self, box: str) -> list[str]:
        """The roles in a module, those of one word together: `outputs 3, 4`, `6 outputs`."""
        numbers: dict[str, list[str]] = defaultdict(list)
        for i in self.scene.boxes[box]:
            handed = [use.reader for use in self.scene.handed.get(i, ())]
            for role in (role for x in (i, *handed) for role in self.scene.roles.get(x, ())):
                word, _, number = role.partition(" ")
                numbers[word].append(number)
        lines = []
        for word, found in numbers.items():
            if not found[0]:
                lines.append(f"{len(found)} {word}")
            elif len(found) > _MAX_NUMBERS:
                lines.append(f"{len(found)} {word}s")
            else:
                lines.append(f"{word}{'s' * (len(found) > 1)} {', '.join(sorted(found, key=int))}")
        return lines


def short_name(unit: Unit, place: Path) -> str:
    """An input's name as it is called in a place: `weight` in `blocks.0.linear1`."""
    return name_inside(unit, place) or unit.name


def constant_text(node: Node) -> str:
    """A constant in few words: its number, its few numbers, or its type."""
    value = node.attrs["value"]
    if value.ndim == 0:
        return _scalar(value)
    if value.size <= _MAX_ELEMENTS:
        return print_attr(value)
    if value.size and (value == value.flat[0]).all():
        return f"{_scalar(value.flat[0])}…"
    return f"constant {node.type}"


def op_summary(names: Sequence[str]) -> str:
    """The ops of a box: the names where they are few, else how many, the most frequent first."""
    counts = Counter(names)
    parts = [f"{n} {name}" if n > 1 else name for name, n in counts.most_common(_MAX_OPS)]
    if len(counts) <= _MAX_OPS:
        return ", ".join(parts)
    return f"{len(names)} ops: {', '.join(parts)} …"


def elide(text: str, limit: int) -> str:
    """`text`, cut to `limit` characters with an ellipsis at the end."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def elide_middle(text: str, limit: int) -> str:
    """`text`, cut to `limit` characters with an ellipsis in the middle."""
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]}…{text[half + 1 - limit :]}"


def printable(text: str) -> str:
    """`text` with every character that can not be shown written as Python writes it: `\\n`."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def _sign(mark: Mark) -> Span:
    colour, sign = MARKS[mark]
    return Span(f"{sign} ", colour=colour, is_bold=True)


def _scalar(value: Any) -> str:
    """A scalar in as few digits as its own dtype needs: 0.1, not 0.10000000149011612."""
    return str(value[()]).lower()


def _graph_text(graph: Graph) -> str:
    return op_summary([node.op.name for node in graph.nodes if node.op not in LEAVES])


def _says_nothing(node: Node, value: Any) -> bool:
    """Whether an attribute is an option that is off, or is seen in the result's type."""
    if value is None or value is False:
        return True
    if isinstance(value, tuple):
        return value == node.shape
    return isinstance(value, type(node.dtype)) and value == node.dtype
