"""What became of values: what each value of a graph was made of by the pass before it."""

from collections import defaultdict
from collections.abc import Hashable

from needle_ir.explanation import Stage
from needle_ir.explanation.changes import Hunk, Kind, Line
from needle_ir.explanation.naming import Transition
from needle_ir.ir import Graph, Node, Origin

_MOST = 12  # values that one is said to come from


def lineage(stage: Stage) -> dict[str, list[str]]:
    """For what the pass of `stage` made or changed, by name: the names of the values before the
    pass that it comes from. What is not in it comes from the value of its own name.

    A rewrite says what it made of what. A node that stands for a graph comes from the ops in it.
    Where a pass says nothing, a new value comes from what the same instruction of the user's
    program recorded under the same module: a derivative from the op that it is the derivative of.
    """
    transition = stage.transition
    if transition is None or stage.change is None:
        return {}
    same_place = _by_place(transition)
    gone_alike = _by_looks(stage.hunks)
    found: dict[str, dict[str, None]] = defaultdict(dict)
    names_before = set(transition.before.values())
    was = {name: node.op for node, name in transition.before.items()}
    for hunk in stage.hunks:
        gone = [line for line in hunk.lines if line.kind is Kind.REMOVED]
        for line in hunk.lines:
            if line.kind is Kind.REPLACED:
                now = transition.now(line.name)
                if now in names_before:
                    found[now][now] = None
                found[now][line.name] = None
            elif line.kind is Kind.ADDED:
                sources = _inside(line.node, gone_alike)
                if was.get(line.name) is line.node.op:
                    sources.append(line.name)
                elif not sources and hunk.rules:
                    sources = _of_rewrite(line, gone)
                if not sources:
                    kept = [line.name] if line.name in names_before else []
                    sources = kept or same_place.get(_place(line.origin), [])
                found[line.name] |= dict.fromkeys(sources[:_MOST])
    return {name: [*sources] for name, sources in found.items() if [*sources] != [name]}


def _of_rewrite(line: Line, gone: list[Line]) -> list[str]:
    """What a rewrite took away; of many that ran into each other, what this line recorded."""
    if len(gone) > _MOST:
        gone = [x for x in gone if _line(x.origin) == _line(line.origin)] or gone
    return [x.name for x in gone]


def _inside(node: Node, gone: dict[Hashable, list[str]]) -> list[str]:
    """The names of what is gone and is now inside of a node."""
    bodies = [value for value in node.attrs.values() if isinstance(value, Graph)]
    inner = [x for body in bodies for x in body.nodes]
    return [names.pop(0) for x in inner if (names := gone.get(_looks(x)))]


def _by_looks(hunks: tuple[Hunk, ...]) -> dict[Hashable, list[str]]:
    gone: dict[Hashable, list[str]] = defaultdict(list)
    for hunk in hunks:
        for line in hunk.lines:
            if line.kind is Kind.REMOVED:
                gone[_looks(line.node)].append(line.name)
    return gone


def _by_place(transition: Transition) -> dict[Hashable, list[str]]:
    """The names of the values before the pass, by what recorded them."""
    found: dict[Hashable, list[str]] = defaultdict(list)
    for node, name in transition.before.items():
        if node.origin is not None and name.startswith("%"):
            found[_place(node.origin)].append(name)
    return found


def _looks(node: Node) -> Hashable:
    return (node.op, node.attrs.key, node.type, _place(node.origin))


def _line(origin: Origin | None) -> Hashable:
    return None if origin is None else (id(origin.code), origin.line, origin.module)


def _place(origin: Origin | None) -> Hashable:
    """The instruction and the module, in whatever phase."""
    return None if origin is None else (id(origin.code), origin.instruction, origin.module)
