"""From a subject to a drawing: what is in the scene, with its words, its colours and its layout."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from needle_ir.ir import INPUT, Node, Op
from needle_ir.viz.annotate import Annotations
from needle_ir.viz.change import Mark, op_counts
from needle_ir.viz.drawing import Arrow, Box, Drawing, LegendCell, small
from needle_ir.viz.label import Words, elide, short_name
from needle_ir.viz.layout import layout_of
from needle_ir.viz.places import module_names
from needle_ir.viz.scale import edge_width
from needle_ir.viz.scene import Edge, Scene, scene_of
from needle_ir.viz.style import LINE, LOOKS, MARKS, Kind, Look, heaviest, kind_of
from needle_ir.viz.subject import Drawable, Level, Subject, check_level, subject_of
from needle_ir.viz.units import LEAVES, decomposition, nested_graphs

_MAX_HEADING = 80

Far = tuple[int, tuple[str, ...]]


def draw(
    drawable: Drawable,
    *,
    level: Level | None = None,
    collapse: Sequence[str] | None = None,
    title: str | None = None,
    legend: bool = True,
    max_label: int = 32,
    names: Mapping[Node, str] | None = None,
) -> Drawing:
    """The drawing of a graph, a plan, a change or a profile: see `to_dot`.

    `names` are those of the values, such as keep through several passes; by default they are
    numbered.
    """
    subject = subject_of(drawable)
    shown = subject.level if level is None else check_level(level)
    scene = scene_of(subject, shown, collapse, names)
    return _Drawer(subject, shown, scene, max_label).drawing(title, legend)


class _Drawer:
    def __init__(self, subject: Subject, level: Level, scene: Scene, max_label: int):
        self.subject = subject
        self.level = level
        self.scene = scene
        self.words = Words(scene, max_label)
        self.notes = Annotations.of(subject, scene)
        self.typed = {use.source for edge in scene.edges for use in edge.uses if not use.via}
        self.kinds: dict[str, Kind] = {}
        self._kinds: dict[Op, Kind] = {}
        self._decomposed: dict[object, Kind] = {}

    def drawing(self, title: str | None, legend: bool) -> Drawing:
        layout = layout_of(self.scene)
        far = self._far_readers()
        boxes = [self._stand_in(i, unit) for i, unit in self.scene.stand_ins.items()]
        boxes += [self._box(box, members, far) for box, members in self.scene.boxes.items()]
        arrows = [
            self._arrow(edge, *how)
            for edge, *how in zip(
                self.scene.edges, layout.pushes, layout.is_upward, layout.is_level, strict=True
            )
        ]
        arrows += self.notes.arrows()
        graph = self.subject.graph
        return Drawing(
            name=graph.name,
            heading=(f"@{graph.name}" if title is None else title, *self._counts()),
            warnings=(),
            legend=tuple(self._legend()) if legend else (),
            boxes=tuple(boxes),
            arrows=tuple(arrows),
            frames=self.notes.frames,
            pairs=layout.pairs,
            rows=layout.rows,
        )

    def _box(self, box: str, members: list[int], far: dict[int, Far]) -> Box:
        scene = self.scene
        units = tuple(map(scene.unit, members))
        place = scene.places[box]
        marks = {unit.mark for unit in units if unit.mark is not None}
        self.kinds[box] = kind = heaviest(self._kind(unit.node) for unit in units)
        if scene.is_group(box):
            phases = dict.fromkeys(phase for i in members for phase in far.get(i, (0, ()))[1])
            roles = [f"→ {', '.join(phases)}"] if phases else []
            lines = self.words.of_group(box, self._title(box), roles)
            is_output = False  # nearly every module has some
        else:
            (i,) = members
            count, others = far.get(i, (0, ()))
            roles = [*scene.roles.get(i, ()), *self.words.handed(i)]
            roles += [f"→ {count} reader{'s' * (count > 1)}"] if count else []
            roles += [f"→ {', '.join(others)}"] if others else []
            lines = self.words.of_op(i, place, roles, i in self.typed)
            is_output = self._is_output(i)
        lines += self.notes.lines(box)
        look = replace(LOOKS[kind], is_double=is_output)
        fill = self.notes.fill(box)
        if fill is not None:
            look = replace(look, fill=fill)
        look = _marked(look, marks, scene.is_group(box))
        return Box(box, place, tuple(lines), self.words.tooltip(members), units, look)

    def _title(self, box: str) -> str:
        """The name of a collapsed module, as seen from the frame around it."""
        group = self.scene.groups[box]
        last = group[-1]
        above = module_names(group)[-1].split(".")[:-1]
        is_index = last.split(" ")[0].isdecimal()
        return f"{above[-1]}.{last}" if is_index and above else last

    def _stand_in(self, id: str, i: int) -> Box:
        place = self.scene.places[id]
        unit = self.scene.unit(i)
        name = self.words.stand_in(i)
        if unit.node.op is INPUT:
            name = elide(short_name(unit, place), self.words.limit)
        return Box(id, place, (small(name),), self.words.tooltip([i]), (unit,), None)

    def _arrow(self, edge: Edge, pushes: bool, upward: bool, level: bool) -> Arrow:
        marks = {use.mark for use in edge.uses}
        mark = marks.pop() if len(marks) == 1 else None
        sources = {use.source for use in edge.uses}
        nbytes = sum(self.scene.unit(i).node.type.nbytes for i in sources)
        return Arrow(
            tail=edge.tail,
            head=edge.head,
            lines=tuple(self.words.of_edge(edge)),
            width=edge_width(nbytes),
            colour=LINE if mark is None else MARKS[mark][0],
            is_dashed=mark is Mark.REMOVED,
            pushes=pushes,
            is_upward=upward,
            is_level=level,
            uses=edge.uses,
        )

    def _far_readers(self) -> dict[int, Far]:
        """For every unit that is read without an edge: by how many boxes of its phase, and in which
        other phases. Leaves say only the first.
        """
        scene = self.scene
        heads: dict[int, list[str]] = defaultdict(list)
        for edge in scene.edges:
            if edge.tail in scene.stand_ins:
                heads[scene.stand_ins[edge.tail]].append(edge.head)
        for box, uses in scene.told.items():
            for source in dict.fromkeys(use.source for use in uses):
                heads[source].append(box)
        box_of = {i: box for box, members in scene.boxes.items() for i in members}
        result: dict[int, Far] = {}
        for i, readers in heads.items():
            if i not in box_of:
                continue
            own = scene.places[box_of[i]][0]
            here = [box for box in readers if scene.places[box][0] == own]
            phases = dict.fromkeys(scene.places[box][0] for box in readers)
            is_leaf = scene.unit(i).node.op in LEAVES
            result[i] = (len(here), () if is_leaf else tuple(x for x in phases if x != own))
        return result

    def _is_output(self, i: int) -> bool:
        return any(role.startswith("output") for role in self.scene.roles.get(i, ()))

    def _kind(self, node: Node) -> Kind:
        """The kind of a node. A fused kernel has that of what is in it, and at the module level so
        has a composite.
        """
        kind = self._kinds.get(node.op) or self._kinds.setdefault(node.op, kind_of(node.op))
        if kind is not Kind.COMPOSITE or not (self.level == "module" or nested_graphs(node)):
            return kind
        key = (node.op, node.attrs.key, *[operand.type for operand in node.inputs])
        if key not in self._decomposed:
            inside = decomposition(node)
            assert inside is not None
            ops = [x.op for x in inside.nodes if x.op not in LEAVES]
            self._decomposed[key] = heaviest(map(kind_of, ops)) if ops else kind
        return self._decomposed[key]

    def _counts(self) -> list[str]:
        """The lines of the heading that say how large the graph is, and what is special in it."""
        scene, graph, change = self.scene, self.subject.graph, self.subject.change
        nodes = f"{len(graph.nodes):,} nodes"
        lines = []
        if change is not None:
            lines.append(f"{len(change.before.nodes):,} → {nodes}: {change}")
            if change.removed:
                lines.append(elide(f"removed: {op_counts(change.removed)}", _MAX_HEADING))
        elif len(scene.boxes) < len(graph.nodes) // 2:
            lines.append(f"{nodes} in {len(scene.boxes)} boxes")
        else:
            lines.append(nodes)
        if scene.depth is not None:
            lines.append(f"modules are drawn to depth {scene.depth}")
        return lines + self.notes.heading()

    def _legend(self) -> list[LegendCell]:
        used = set(self.kinds.values())
        is_heat = self.notes.replaces_fill
        cells = [_legend_cell(kind, is_heat) for kind in Kind if kind in used]
        if self.subject.change is not None:
            found = {unit.mark for unit in self.scene.units.all}
            for mark, (colour, sign) in MARKS.items():
                if mark in found:
                    text = f"{sign} {mark.value}"
                    cells.append(LegendCell(text, "#ffffff", colour, width=2))
        return cells + self.notes.legend()


def _marked(look: Look, marks: set[Mark], is_group: bool) -> Look:
    """A look with the border of a mark; of what was touched where there are several."""
    if not marks:
        return look
    mark = marks.pop() if len(marks) == 1 and not is_group else Mark.TOUCHED
    if mark is Mark.REMOVED:
        return replace(look, border=MARKS[mark][0], fill="#ffffff", style="filled,dashed", width=2)
    return replace(look, border=MARKS[mark][0], width=3)


def _legend_cell(kind: Kind, is_white: bool) -> LegendCell:
    look = LOOKS[kind]
    style = next((word for word in ("rounded", "dashed") if word in look.style), "")
    width = 2 if "bold" in look.style else 1
    return LegendCell(kind.value, "#ffffff" if is_white else look.fill, look.border, style, width)
