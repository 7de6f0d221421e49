"""What is drawn: boxes, edges, and what stands in for an edge that would be too long.

Every operand of every op is in the scene in one of these ways: as a use that an edge carries, as a
literal that its reader's label spells out, as a use that a box names in words, or because operand
and reader share a box. Views are folded into the uses that look through them, and views that are
outputs and nothing else into what they look at, where these are many.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from needle_ir.ir import CONSTANT, INPUT, Node, Place, Trait
from needle_ir.viz.change import Mark
from needle_ir.viz.collapse import Grouping, grouping_of
from needle_ir.viz.places import PHASES, Path, readers_of
from needle_ir.viz.subject import Level, Subject
from needle_ir.viz.units import LEAVES, Unit, Units, units_of

_MAX_LITERALS = 4
_MAX_VIEWS = 4
_MAX_READERS = 6
_MAX_OPERANDS = 8
_MAX_OUTPUT_VIEWS = 3


class Use(NamedTuple):
    """What the unit `reader` reads at `position`: the unit `source`, through the views `via`.

    `mark` says what became of the edge itself.
    """

    source: int
    via: tuple[int, ...]
    reader: int
    position: int
    mark: Mark | None = None


class Edge(NamedTuple):
    """An arrow between two ids, and what it carries. `ordered` where the positions matter."""

    tail: str
    head: str
    uses: tuple[Use, ...]
    ordered: bool


@dataclass(frozen=True)
class Scene:
    """What is drawn.

    `boxes` are the units in each box, by its id, operands before users; `groups` names those that
    collapse a module. `stand_ins` are the small names drawn for a unit near one of its readers,
    `places` the frame of both. `literals` are the constants that a unit's label spells out, by
    position. `told` are the uses that a box names in words, `inside` those with both ends in one
    box. `handed` are the views of a unit that are outputs and are not drawn. `roles` say what else
    a unit is: `output 0`, `effect 0`, `unused`.

    `is_mirrored` where the phases stand side by side, each module's forward pass beside its
    backward pass and its update; there, edges between phases are drawn.
    """

    units: Units
    boxes: dict[str, list[int]]
    groups: dict[str, Path]
    lines: frozenset[Path]
    depth: int | None
    stand_ins: dict[str, int]
    places: dict[str, Path]
    edges: list[Edge]
    literals: dict[int, dict[int, Use]]
    told: dict[str, list[Use]]
    inside: list[Use]
    handed: dict[int, list[Use]]
    roles: dict[int, list[str]]
    is_mirrored: bool

    def unit(self, i: int) -> Unit:
        """The unit at a position."""
        return self.units.all[i]

    def is_group(self, box: str) -> bool:
        """Whether a box collapses a module."""
        return box in self.groups


def scene_of(
    subject: Subject,
    level: Level,
    collapse: Sequence[str] | None = None,
    names: Mapping[Node, str] | None = None,
) -> Scene:
    """The scene of a subject. `names` are those of the values; by default they are numbered.

    An edge from phase to phase, and an edge from a unit that many boxes read, starts at a
    stand-in: such edges would run across the whole picture and pull its parts out of their order.
    A box that collapses a module names in words what it would have a stand-in for, and every box
    that reads from many others, or many inputs, names these.
    """
    units = units_of(subject.graph, level, subject.change, names)
    if subject.change is None and collapse is None:
        collapse = ()
    grouping = grouping_of(units.all, level, collapse)
    return _Builder(subject, level, units, grouping).scene()


class _Builder:
    """A scene, while it is made."""

    def __init__(self, subject: Subject, level: Level, units: Units, grouping: Grouping):
        self.units = units
        self.all = units.all
        self.grouping = grouping
        self.readers = readers_of(self.all)
        self.working = _working(subject)
        self.roles = _roles(subject, units)
        self.literals: dict[int, dict[int, Use]] = defaultdict(dict)
        self.boxes: dict[str, list[int]] = {}
        self.groups: dict[str, Path] = {}
        self.places: dict[str, Path] = {}
        self.box_of: list[str | None] = [None] * len(self.all)
        self.edges: list[Edge] = []
        self.stand_ins: dict[str, int] = {}
        self.told: dict[str, list[Use]] = defaultdict(list)
        self.inside: list[Use] = []
        self.handed: dict[int, list[Use]] = defaultdict(list)
        phases = {path[0] for path in grouping.places}
        self.is_mirrored = level == "module" and phases.issuperset(PHASES[:2])

    def scene(self) -> Scene:
        self.kept_lost = {operand for operand, _, _ in self.units.lost}
        self.output_views = self._find_output_views()
        self.sources = self._fold_views()
        uses = self._uses()
        self._fold_constants(uses)
        self._make_boxes(uses)
        self._connect(uses)
        self._drop_told_inputs(uses)
        return Scene(
            units=self.units,
            boxes=self.boxes,
            groups=self.groups,
            lines=self.grouping.lines,
            depth=self.grouping.depth,
            stand_ins=self.stand_ins,
            places=self.places,
            edges=self.edges,
            literals=dict(self.literals),
            told=dict(self.told),
            inside=self.inside,
            handed=dict(self.handed),
            roles=self.roles,
            is_mirrored=self.is_mirrored,
        )

    def _find_output_views(self) -> set[int]:
        """Views that are outputs and have no other role, where one unit has many of them."""
        result: set[int] = set()
        for readers in self.readers:
            found = [
                i
                for i in readers
                if i in self.roles
                and all(role.startswith("output") for role in self.roles[i])
                and self._is_plain_view(i)
            ]
            result.update(found if len(found) > _MAX_OUTPUT_VIEWS else ())
        return result

    def _fold_views(self) -> list[tuple[int, tuple[int, ...]]]:
        """For every unit, what reads of it go back to, and the views in between."""
        sources: list[tuple[int, tuple[int, ...]]] = []
        for i, unit in enumerate(self.all):
            source, via = i, tuple[int, ...]()
            is_read = i not in self.roles and bool(self.readers[i])
            if i in self.output_views or (is_read and self._is_plain_view(i)):
                source, via = sources[unit.operands[0]]
            if source == i or len(via) >= _MAX_VIEWS:
                sources.append((i, ()))
                continue
            sources.append((source, (*via, i)))
            if i in self.output_views:
                self.handed[source].append(Use(source, via, i, 0))
        return sources

    def _is_plain_view(self, i: int) -> bool:
        """Whether a unit looks at one operand, and there is nothing else to say of it."""
        unit = self.all[i]
        return (
            unit.node.op.has(Trait.VIEW)
            and len(unit.operands) == 1
            and unit.mark is None
            and i not in self.kept_lost
            and unit.owner not in self.working
        )

    def _uses(self) -> list[Use]:
        """What is read, by units that are not folded themselves."""
        uses = []
        for i, unit in enumerate(self.all):
            if self.sources[i][0] != i:
                continue
            for position, operand in enumerate(unit.operands):
                source, via = self.sources[operand]
                uses.append(Use(source, via, i, position, self._mark_of(unit, operand)))
        self.lost = {Use(x, (), reader, at, Mark.REMOVED) for x, reader, at in self.units.lost}
        return [*uses, *sorted(self.lost)]

    def _mark_of(self, reader: Unit, operand: int) -> Mark | None:
        """What became of an edge: it is as new as its newer end, and as old as its older one."""
        marks = {reader.mark, self.all[operand].mark}
        return next((mark for mark in (Mark.REMOVED, Mark.ADDED) if mark in marks), None)

    def _fold_constants(self, uses: list[Use]) -> None:
        """Spell out the constants that a label has room for."""
        constants: dict[int, list[Use]] = defaultdict(list)
        for use in uses:
            if self.all[use.source].node.op is CONSTANT and use.source not in self.roles:
                removed = self.all[use.source].mark is Mark.REMOVED
                if not removed or self.all[use.reader].mark is Mark.REMOVED:
                    constants[use.reader].append(use)
        for reader, literals in constants.items():
            if len(literals) <= _MAX_LITERALS or self.grouping.groups[reader] is not None:
                self.literals[reader] = {use.position: use for use in literals}

    def _make_boxes(self, uses: list[Use]) -> None:
        spelled = {use.source for found in self.literals.values() for use in found.values()}
        drawn = {use.source for use in uses if not self._is_spelled(use)}
        is_own = [source == i for i, (source, _) in enumerate(self.sources)]
        # A module that does nothing but look at its operand, or hold weights, is not drawn.
        busy = {
            group
            for group, unit, own in zip(self.grouping.groups, self.all, is_own, strict=True)
            if own and unit.node.op not in LEAVES
        }
        readers: dict[int, set[Path | None]] = defaultdict(set)
        places = self.grouping.places
        for use in uses:
            if places[use.source][0] == places[use.reader][0]:
                readers[use.source].add(self.grouping.groups[use.reader])
        ids: dict[Path, str] = {}
        for i, unit in enumerate(self.all):
            group = self.grouping.groups[i]
            if group is None and len(readers[i]) == 1 and _is_state(unit):
                (group,) = readers[i]
            if not is_own[i] or (i in spelled and i not in drawn):
                continue
            box = unit.id
            if group in busy and group is not None and unit.node.op is not CONSTANT:
                box = ids.setdefault(group, f"m{unit.id}")
                self.groups[box] = group
            self.box_of[i] = box
            self.boxes.setdefault(box, []).append(i)
            self.places[box] = self.grouping.places[i] if box == unit.id else self.groups[box][:-1]

    def _connect(self, uses: list[Use]) -> None:
        between: dict[tuple[str, str], list[Use]] = defaultdict(list)
        order: list[tuple[str, str]] = []
        popular = self._popular(uses)
        self._find_hubs(uses)
        drawn: dict[int, int] = defaultdict(int)
        for use in uses:
            drawn[use.reader] += not self._is_spelled(use) and use not in self.lost
        for use in uses:
            tail, head = self._ends(use)
            if tail == head:
                self.inside += [] if self._is_spelled(use) else [use]
                continue
            node = self.all[use.reader].node
            ordered = drawn[use.reader] > 1 and not node.op.has(Trait.COMMUTATIVE)
            if (self._is_leaf(use.source), head) in self.hubs:
                self.told[head].append(use)
            elif self._is_far(use, tail, head, popular):
                if head in self.groups:
                    self.told[head].append(use)
                    continue
                stand_in = f"{self.all[use.source].id}_{head}"
                self.stand_ins[stand_in] = use.source
                self.places[stand_in] = self.places[head]
                self.edges.append(Edge(stand_in, head, (use,), ordered))
            elif tail in self.groups or head in self.groups:
                if (tail, head) not in between:
                    order.append((tail, head))
                between[tail, head].append(use)
            else:
                self.edges.append(Edge(tail, head, (use,), ordered))
        self.edges += [Edge(*ends, tuple(between[ends]), ordered=False) for ends in order]

    def _popular(self, uses: list[Use]) -> set[int]:
        """The units that too many boxes of their own phase read for edges: of several modules, or
        very many of one or two.
        """
        readers: dict[int, set[str]] = defaultdict(set)
        for use in uses:
            tail, head = self._ends(use)
            if tail == head:
                continue
            if self.is_mirrored or self.places[tail][0] == self.places[head][0]:
                readers[use.source].add(head)
        return {
            i
            for i, boxes in readers.items()
            if len(boxes) > _MAX_READERS
            and (len(boxes) > 2 * _MAX_READERS or len({*map(self._module, boxes)}) > 2)
        }

    def _module(self, box: str) -> Path:
        """The module that a box stands in, without what was opened in it."""
        unit = self.all[self.boxes[box][0]]
        place = self.places[box]
        return place if box in self.groups else place[: len(place) - len(unit.opened)]

    def _find_hubs(self, uses: list[Use]) -> None:
        """The boxes that read too many leaves for edges, or from too many other boxes."""
        read: dict[tuple[bool, str], set[str]] = defaultdict(set)
        for use in uses:
            tail, head = self._ends(use)
            if tail != head:
                is_leaf = self._is_leaf(use.source)
                read[is_leaf, head].add(self.all[use.source].id if is_leaf else tail)
        self.hubs = {key for key, found in read.items() if len(found) > _MAX_OPERANDS}

    def _is_leaf(self, i: int) -> bool:
        return self.all[i].node.op in LEAVES

    def _drop_told_inputs(self, uses: list[Use]) -> None:
        """Inputs that are named in words wherever they are read are not drawn."""
        read = {use.source for use in uses} - self.roles.keys()
        needed = {use.source for use in [*self.inside, *(u for e in self.edges for u in e.uses)]}
        needed |= {
            use.source
            for head, found in self.told.items()
            if (True, head) not in self.hubs
            for use in found
        }
        for i in read - needed:
            box = self.box_of[i]
            if box is not None and box not in self.groups and self._is_leaf(i):
                del self.boxes[box], self.places[box]
                self.box_of[i] = None

    def _is_spelled(self, use: Use) -> bool:
        return self.literals.get(use.reader, {}).get(use.position) == use

    def _ends(self, use: Use) -> tuple[str, str]:
        """The boxes of a use: the same one twice where no edge is to be drawn."""
        tail, head = self.box_of[use.source], self.box_of[use.reader]
        assert head is not None, "a reader has a box"
        return (head, head) if tail is None or self._is_spelled(use) else (tail, head)

    def _is_far(self, use: Use, tail: str, head: str, popular: set[int]) -> bool:
        if use.source in popular:
            return True
        if self.places[tail][0] == self.places[head][0]:
            return False
        return not self.is_mirrored or self._is_leaf(use.source)


def _is_state(unit: Unit) -> bool:
    """Whether a unit is an input that a module or an optimizer keeps, by the dots in its name."""
    return unit.node.op is INPUT and "." in (unit.node.attrs.get("name") or "")


def _working(subject: Subject) -> set[Node]:
    """The nodes that were seen to do something, views among them that have to copy."""
    measured = subject.seconds or {}
    nodes = {node for node, seconds in measured.items() if seconds > 0}
    if subject.plan is not None:
        slots = subject.plan.slots
        nodes |= {x.node for x in slots if x.place not in (Place.VIEW, Place.INPUT, Place.CONSTANT)}
    return nodes


def _roles(subject: Subject, units: Units) -> dict[int, list[str]]:
    """What a unit is besides an op: by the graph's lists of outputs, effects and unused nodes."""
    roles: dict[int, list[str]] = defaultdict(list)

    def tell(role: str, node: Node) -> None:
        roles[units.of[node]].append(role)

    for i, node in enumerate(subject.graph.effects):
        tell(f"effect {i}", node)
    for i, node in enumerate(subject.graph.outputs):
        tell(f"output {i}", node)
    for node in subject.graph.unused:
        tell("unused", node)
    return dict(roles)
