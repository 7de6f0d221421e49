"""The executor: straight-line Python generated from a plan."""

import linecache
import threading
import weakref
from collections.abc import Callable, Sequence
from itertools import count, zip_longest
from types import TracebackType
from typing import Any

import numpy as np

from needle_ir.ir import (
    CONSTANT,
    Array,
    Graph,
    HandedBack,
    Node,
    Place,
    Plan,
    TensorType,
    Trait,
)
from needle_ir.ops.cluster import FUSED, cluster_results
from needle_ir.ops.packing import PACK, allocated_parts
from needle_ir.runtime.failures import told
from needle_ir.runtime.inline import ByName, Inline, Kernel, Lines, as_bits
from needle_ir.runtime.kernels import VIEWS, kernel_row, pack_the_rest
from needle_ir.runtime.neighbours import packing
from needle_ir.runtime.pool import pool
from needle_ir.runtime.recycle import RECYCLED_BYTES, Leases, Recycler
from needle_ir.runtime.source import Body, Function, Source, Written
from needle_ir.runtime.tiles import (
    Temporaries,
    TileMemory,
    Tiling,
    result_arrays,
    scratch,
    temporaries,
    tiling,
)

# Puts something around a kernel: a counter, a timer.
Wrap = Callable[[Node, Kernel], Kernel]

_share = pool.share
_numbers = count()


class Executor:
    """A plan that can be called: arrays in, arrays out.

    Every kernel call is one line of generated Python, `source`; where these are many, `run` calls
    functions of some hundred lines each. What threads share is a function of its own in it, and a
    call of `share`. Arrays in the arena are made once and written again in every run; what is
    returned is allocated anew. One run at a time: a second thread waits. `wrap(node, kernel)` gives
    the kernel to use in a kernel's place.
    """

    def __init__(self, plan: Plan, wrap: Wrap | None = None):
        self.plan = plan
        code = _Code(plan, wrap)
        self.source = code.source.text
        self._lock = threading.Lock()
        self._nodes = code.source.nodes()
        self._donors = code.donors()
        filename = self._filename = f"<needle_ir plan {next(_numbers)}>"
        self._run: Callable[..., tuple[Array, ...]] = code.source.define(filename, code.bound)
        weakref.finalize(self, linecache.cache.pop, filename, None)

    def __call__(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """The outputs for `arrays`, one for each input of the plan, of its shape and dtype and
        contiguous. Floating-point errors give inf and NaN, as IEEE 754 has it, without a warning.

        Raises OperandValueError or OperandIndexError, with the user's line, for values that an op
        does not take: an index out of range, an integer to a negative power.
        """
        return self.replace(arrays, ())[0]

    def replace(self, arrays: Sequence[Array], leases: Leases) -> tuple[tuple[Array, ...], Leases]:
        """The outputs, and the leases on the memory in which the donated ones lie.

        Given the leases of an earlier run, they are computed there, in the place of the inputs that
        lie there: the caller makes sure that nobody else holds an array of them. An error on the
        way leaves that memory half-written. Raises as a call does.
        """
        if len(arrays) != len(self.plan.inputs):
            raise TypeError(f"{len(arrays)} arrays for a plan of {len(self.plan.inputs)} inputs")
        donors = self._donors
        try:
            with self._lock, np.errstate(all="ignore"):
                for donor, lease in zip_longest(donors, leases):
                    donor.lend(lease)
                outputs = self._run(*arrays)
                return outputs, tuple([donor.latest for donor in donors])
        except Exception as error:
            node = self._failed_at(error.__traceback__)
            if node is None or (better := told(error, node)) is error:
                raise
            raise better from None

    def _failed_at(self, traceback: TracebackType | None) -> Node | None:
        """The node whose kernel stands in the line where a run ended: the innermost one."""
        node = None
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename == self._filename:
                node = self._nodes[traceback.tb_lineno - 1]
            traceback = traceback.tb_next
        return node


class _Code:
    """The source, while it is written."""

    def __init__(self, plan: Plan, wrap: Wrap | None):
        self.bound: dict[str, Any] = {"empty": np.empty, "as_bits": as_bits}
        self._plan = plan
        self._wrap = wrap
        self._arena = scratch(plan.arena_bytes)
        # One for each thread.
        self._temporaries = [scratch(_scratch_bytes(plan))]
        self._found_temporaries: dict[tuple[Graph | Node, ...], Temporaries] = {}
        self._names: dict[int, str] = {}  # of the slots that have an array by now
        self._arrays: dict[str, Array] = {}  # those that are the same in every run, by name
        self._arena_names: dict[tuple[int, Any], str] = {}
        self._object_names: dict[int, str] = {}
        self._parts = allocated_parts(plan)
        self._replaced = {x.whole: {given for given, _ in x.replaced} for x in plan.donations}
        self._recyclers: dict[int, Recycler] = {}
        self._handed_back = {} if wrap else {x.packed: x for x in plan.handed_back}
        self._body = Body([f"i{number}" for number in plan.inputs])
        self._functions: list[Function] = []  # what threads share
        self._inside: list[Node] = []  # for each line at the end of the last step: a cluster's
        self.source = self._write()

    def _write(self) -> Source:
        slots = self._plan.slots
        for number, slot in enumerate(slots):
            if slot.place is Place.INPUT:
                self._names[number] = f"i{number}"
            elif slot.place is Place.CONSTANT:
                self._fix(number, f"c{number}", slot.node.attrs["value"])
        for number, step in enumerate(self._plan.steps):
            self._inside = []
            lines = self._step(number, step.node, step.inputs, step.output)
            nodes = [step.node] * (len(lines) - len(self._inside)) + self._inside
            names = [self._names[i] for i in (*step.inputs, step.output)]
            names += _results(names[-1], step.node)
            self._body.write([*zip(lines, nodes, strict=True)], names)
        results = [self._names[i] for i in self._plan.outputs]
        return Source([*self._body.functions("run", results), *self._functions])

    def _step(self, number: int, node: Node, inputs: tuple[int, ...], output: int) -> list[str]:
        if self._plan.slots[output].place is Place.VIEW:
            return self._view(number, node, inputs[0], output)
        if output in self._handed_back:
            return self._find(self._handed_back[output], inputs)
        row = kernel_row(node)
        allocation = self._allocation(output)
        operands, out = [self._names[i] for i in inputs], self._names[output]
        if self._wrap is None and isinstance(row, Inline):
            return [*allocation, *self._fill(row.lines(node), operands, out, self.bits)]
        if self._wrap is None and node.op is FUSED:
            return [*allocation, *self._cluster(number, node, inputs, output)]
        if node.op is PACK:
            in_place = self._plan.in_place(self._plan.steps[number])
            if all(in_place):
                return allocation
            kernel = pack_the_rest(node, in_place) if any(in_place) else row(node)
        else:
            kernel = row(node)
        name = f"{node.op.name}{number}"
        self.bound[name] = self._wrap(node, kernel) if self._wrap else kernel
        return [*allocation, f"{name}({', '.join([*operands, out])})"]

    def _fill(
        self, lines: Lines, operands: Sequence[str], out: str, bits: Callable[[str], str]
    ) -> list[str]:
        """The lines of a kernel over the arrays of these names."""
        names = _Names(bits)
        names.update({f"x{i}": name for i, name in enumerate(operands)})
        names["out"] = out
        names.update({hint: self.bind(hint, value) for hint, value in lines.bound.items()})
        return lines.fill(names)

    def _cluster(self, number: int, node: Node, inputs: tuple[int, ...], output: int) -> list[str]:
        """The calls of a cluster's body, in a loop over tiles where the arrays are large."""
        cut = tiling(node, [self._is_contiguous(i) for i in inputs])
        body = node.attrs["body"]
        names = dict(zip(body.inputs, [self._names[i] for i in inputs], strict=True))
        places = self._temporaries_of(body, self._overwritten(body, inputs, output))
        shape = cluster_results(body)[0].shape
        shapes = [shape] if cut is None else cut.tile_shapes()
        memory = TileMemory(places, shapes, self._temporaries)
        loop = _Shared(self, cut, number) if cut and cut.is_shared else _Loop(self, cut, number)
        names = {x: loop.variable(name, x.shape) for x, name in names.items()}
        results = self._results(node, output)
        labels = [
            *loop.temporaries([f"t{number}_{i}" for i in range(len(places.dtypes))], memory),
            *[loop.variable(name, shape) for name in results],
        ]
        calls: list[str] = []
        nodes: list[Node] = []  # for each call
        for inner in body.nodes:
            if inner.op is CONSTANT:
                names[inner] = self.bind("k", inner.attrs["value"])
            elif inner.op.has(Trait.ELEMENTWISE):
                row = kernel_row(inner)
                names[inner] = labels[places.number[inner]]
                operands = [names[x] for x in inner.inputs]
                if isinstance(row, Inline):
                    calls += self._fill(row.lines(inner), operands, names[inner], loop.bits)
                else:
                    kernel = self.bind(inner.op.name, row(inner))
                    calls.append(f"{kernel}({', '.join([*operands, names[inner]])})")
                nodes += [inner] * (len(calls) - len(nodes))
        if isinstance(loop, _Shared):
            self._functions.append(loop.function([*zip(calls, nodes, strict=True)], node))
            return [loop.call()]
        self._inside = nodes
        return loop.around(calls)

    def _temporaries_of(self, body: Graph, overwritten: Sequence[Node]) -> Temporaries:
        """As `temporaries`; equal clusters have one body, and share what is found for it."""
        key: tuple[Graph | Node, ...] = (body, *overwritten)
        if key not in self._found_temporaries:
            self._found_temporaries[key] = temporaries(body, overwritten)
        return self._found_temporaries[key]

    def _overwritten(self, body: Graph, inputs: tuple[int, ...], output: int) -> list[Node]:
        """The operands in whose memory the last result of a cluster may be computed."""
        slots = self._plan.slots
        result = cluster_results(body)[-1]
        target = slots[output]
        whole = output if target.inside is None else target.inside
        replaced = self._replaced.get(whole, set())
        return [
            x
            for x, i in zip(body.inputs, inputs, strict=True)
            if x.type == result.type
            and (
                (slots[i].place is Place.ARENA is target.place and slots[i].offset == target.offset)
                or i in replaced
                or (replaced and slots[i].place is Place.HANDED_BACK)
            )
        ]

    def _results(self, node: Node, output: int) -> list[str]:
        """The names of the arrays of a cluster's results. Those of an allocated slot are parts that
        were made with it.
        """
        out = self._names[output]
        names = [*_results(out, node)] or [out]
        if len(names) > 1 and out in self._arrays:
            for name, part in zip(names, result_arrays(node, self._arrays[out]), strict=True):
                self.fix(name, part)
        return names

    def _find(self, back: HandedBack, inputs: tuple[int, ...]) -> list[str]:
        """The line that finds inputs packed where an earlier run handed them out."""
        name = self._assign(back.packed, f"p{back.packed}")
        names = [f"o{i}" for i in back.parts]
        find = self._recycler(back.whole).finder(f"{name}_next", names)
        # Kernels are numbered by their step: `pack` might be the name of another one.
        self.bound[f"packing{back.packed}"] = packing(find)
        operands = ", ".join(self._names[i] for i in inputs)
        return [f"{name} = packing{back.packed}({operands})"]

    def _view(self, number: int, node: Node, base: int, output: int) -> list[str]:
        if output in self._names:
            return []
        look = VIEWS[node.op.name](node)
        name = self._names[base]
        if name in self._arrays:
            self._fix(output, f"v{output}", look(self._arrays[name]))
            return []
        self._assign(output, f"v{output}")
        look_name = f"{node.op.name}{number}"
        self.bound[look_name] = look
        return [f"v{output} = {look_name}({name})"]

    def _allocation(self, output: int) -> list[str]:
        """The lines that make the array of a slot, where it is not there yet."""
        slot = self._plan.slots[output]
        if output in self._names:
            return []
        if slot.place is Place.ARENA:
            self._arena_array(output)
            return []
        if slot.inside is not None:
            return self._allocation(slot.inside)
        name = self._assign(output, f"o{output}")
        parts = self._parts.get(output, {})
        if parts or slot.nbytes >= RECYCLED_BYTES or _results("", slot.node):
            recycler = self.bound[f"new{output}"] = self._recycler(output)
            self._names.update({i: f"o{i}" for i in parts})
            self._body.assign(recycler.layout)
            return [f"{', '.join(recycler.layout)}, = new{output}()"]
        self.bound[f"shape{output}"] = slot.node.shape
        dtype = self.bind(slot.node.dtype.name, slot.node.dtype)
        return [f"{name} = empty(shape{output}, {dtype})"]

    def _recycler(self, whole: int) -> Recycler:
        """What makes the array of this slot, its parts, and the arrays around parts that are handed
        back.
        """
        if whole not in self._recyclers:
            slots = self._plan.slots
            layout = {f"o{whole}": (slots[whole].node.type, 0)}
            layout |= {f"o{i}": part for i, part in self._parts.get(whole, {}).items()}
            layout |= _results(f"o{whole}", slots[whole].node)
            for back in self._handed_back.values():
                if back.whole == whole:
                    start = layout[f"o{back.parts[0]}"][1]
                    layout[f"p{back.packed}_next"] = (slots[back.packed].node.type, start)
            self._recyclers[whole] = Recycler(layout)
        return self._recyclers[whole]

    def donors(self) -> list[Recycler]:
        """What makes the arrays of the plan's donations, where they are used again at all."""
        found = [self._recyclers.get(donation.whole) for donation in self._plan.donations]
        return [recycler for recycler in found if recycler is not None]

    def _arena_array(self, number: int) -> None:
        """Name the array of an arena slot. Slots at one offset and of one type share one array,
        so that a kernel can see that it works in place.
        """
        slot = self._plan.slots[number]
        assert slot.offset is not None
        key = (slot.offset, slot.node.type)
        if key in self._arena_names:
            self._names[number] = self._arena_names[key]
        else:
            memory = self._arena[slot.offset : slot.offset + slot.nbytes]
            array = memory.view(slot.node.dtype).reshape(slot.node.shape)
            self._arena_names[key] = f"a{number}"
            self._fix(number, f"a{number}", array)

    def _assign(self, number: int, name: str) -> str:
        """Name the array of a slot that the next line makes in every run."""
        self._names[number] = name
        self._body.assign([name])
        return name

    def _is_contiguous(self, number: int) -> bool:
        # A dense view is one of contiguous elements: the plan copies where it would not be.
        slot = self._plan.slots[number]
        return slot.place is not Place.VIEW or slot.node.op.has(Trait.DENSE)

    def _fix(self, number: int, name: str, array: Array) -> None:
        self._names[number] = name
        self.fix(name, array)

    def fix(self, name: str, array: Array) -> str:
        """Bind an array that is the same in every run."""
        self._arrays[name] = self.bound[name] = array
        return name

    def fixed(self, name: str) -> Array | None:
        """The array of this name, where it is the same in every run."""
        return self._arrays.get(name)

    def bind(self, hint: str, value: Any) -> str:
        """A name for an object that the lines use, like `hint`."""
        name = self._object_names.get(id(value))
        if name is None:
            name = hint if hint not in self.bound else f"{hint}_{len(self.bound)}"
            self._object_names[id(value)] = name
            self.bound[name] = value
            if isinstance(value, np.ndarray):
                self._arrays[name] = value
        return name

    def bits(self, name: str) -> str:
        """The array of this name looked at as integers: bound where it is always the same."""
        array = self._arrays.get(name)
        if array is None:
            return f"as_bits({name})"
        if f"{name}_bits" not in self.bound:
            self.fix(f"{name}_bits", as_bits(array))
        return f"{name}_bits"


class _Loop:
    """A loop over tiles, or none: what stands around the calls of a cluster."""

    def __init__(self, code: _Code, cut: Tiling | None, number: int):
        self._code = code
        self._cut = cut
        self._number = number
        self._variables: dict[str, list[Array] | str] = {}  # the tiles, or what makes them

    def variable(self, name: str, shape: tuple[int, ...]) -> str:
        """The name of one tile of an array that has a name already."""
        cut = self._cut
        if cut is None or not cut.cuts(shape):
            return name
        array = self._code.fixed(name)
        if array is not None:
            return self.fixed(f"{name}_tile", cut.cut(array))
        self._variables[f"{name}_tile"] = f"{self._code.bind('cut', cut.cut)}({name})"
        return f"{name}_tile"

    def fixed(self, name: str, tiles: list[Array]) -> str:
        """The name of one of `tiles`, which are the same in every run."""
        if self._cut is None:
            return self._code.fix(name, tiles[0])
        self._variables[name] = tiles
        return name

    def temporaries(self, names: list[str], memory: TileMemory) -> list[str]:
        """The names of the temporaries for one tile."""
        kept = memory(0)
        return [self.fixed(x, [arrays[i] for arrays in kept]) for i, x in enumerate(names)]

    def bits(self, name: str) -> str:
        """The tile of this name looked at as integers."""
        tiles = self._variables.get(name)
        if not isinstance(tiles, list):
            return self._code.bits(name)
        return self.fixed(f"{name}_bits", [as_bits(tile) for tile in tiles])

    def around(self, calls: list[str]) -> list[str]:
        """The calls, for every tile."""
        if self._cut is None:
            return calls
        names = "".join(f"{name}, " for name in self._variables)
        sources = ", ".join(self._sources())
        return [f"for {names}in zip({sources}):", *[f"    {call}" for call in calls]]

    def _sources(self) -> list[str]:
        """What the variables come from: names of lists of tiles, or what makes them."""
        sources = []
        for name, tiles in self._variables.items():
            if isinstance(tiles, list):
                tiles = f"{name}s{self._number}"
                self._code.bound[tiles] = self._variables[name]
            sources.append(tiles)
        return sources


class _Shared(_Loop):
    """A loop over tiles that threads share: a function of the tiles that fall to one of them, and
    a call of `share` with all of them. Each thread has temporaries of its own.
    """

    def __init__(self, code: _Code, cut: Tiling, number: int):
        super().__init__(code, cut, number)
        self._tiles = len(cut.tiles)
        self._temporaries: list[str] = []
        self._whole: list[str] = []  # arrays of this run that are not cut

    def variable(self, name: str, shape: tuple[int, ...]) -> str:
        """The name of one tile of an array that has a name already."""
        variable = super().variable(name, shape)
        if variable == name and self._code.fixed(name) is None and name not in self._whole:
            self._whole.append(name)
        return variable

    def temporaries(self, names: list[str], memory: TileMemory) -> list[str]:
        """The names of the temporaries for one tile."""
        self._code.bound[f"t{self._number}"] = memory
        self._temporaries = names
        return names

    def function(self, calls: Written, node: Node) -> Function:
        """The function of one thread's tiles, which has these calls for each of them."""
        parameters = ", ".join(["mine", "memory", *self._whole])
        names = ", ".join(["tile", *self._variables])
        temporaries = ", ".join(self._temporaries)
        name = f"fused{self._number}"
        lines: Written = [
            (f"def {name}({parameters}):", None),
            (f"    for {names} in mine:", node),
            *([(f"        [{temporaries}] = memory[tile]", node)] if self._temporaries else []),
            *[(f"        {call}", inner) for call, inner in calls],
        ]
        return Function(name, lines)

    def call(self) -> str:
        """The line that has threads share the tiles."""
        parts = f"[*zip({', '.join([f'range({self._tiles})', *self._sources()])})]"
        operands = ", ".join([f"fused{self._number}", parts, f"t{self._number}", *self._whole])
        return f"{self._code.bind('share', _share)}({operands})"


class _Names(ByName):
    """Names for the braces of a kernel's lines, where the arrays are known."""

    def __init__(self, bits: Callable[[str], str]):
        super().__init__()
        self._bits = bits

    def __missing__(self, key: str) -> str:
        kind, of = key[:4], key[4:]
        if kind != "bits":
            raise KeyError(key)
        return self._bits(self["out" if of == "_out" else "x" + of])


def _results(name: str, node: Node) -> dict[str, tuple[TensorType, int]]:
    """Where the array of this name has the results of a cluster that packs several."""
    results = cluster_results(node.attrs["body"]) if node.op is FUSED else ()
    if len(results) < 2:
        return {}
    return {f"{name}_{i}": (x.type, i * x.type.nbytes) for i, x in enumerate(results)}


def _scratch_bytes(plan: Plan) -> int:
    """The memory that a step needs at most for what it computes on the way."""
    # Equal clusters have one body.
    clusters = {x.node.attrs["body"]: x.node for x in plan.steps if x.node.op is FUSED}
    return max([_cluster_bytes(body, node) for body, node in clusters.items()], default=0)


def _cluster_bytes(body: Graph, node: Node) -> int:
    # At most: whether tiles are rows or flat is not known yet, and the result's array may be taken.
    whole = cluster_results(body)[0].shape
    cuts = [tiling(node, [flat] * len(node.inputs)) for flat in (False, True)]
    shapes = [whole if cut is None else cut.tile_shapes()[0] for cut in cuts]
    return max(map(temporaries(body, [node]).nbytes, shapes))
