"""The executor: straight-line Python generated from a plan."""

import itertools
import linecache
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from needle_ir.ir import ALIGNMENT, Array, Node, Place, Plan
from needle_ir.ops.packing import PACK
from needle_ir.runtime.kernels import VIEWS, Kernel, make_kernel, pack_the_rest

# Puts something around a kernel: a counter, a timer.
Wrap = Callable[[Node, Kernel], Kernel]

_numbers = itertools.count()


class Executor:
    """A plan that can be called: arrays in, arrays out.

    Every kernel call is one line of generated Python, `source`. Arrays in the arena are made once
    and written again in every run; what is returned is allocated anew. One run at a time: a second
    thread waits. `wrap(node, kernel)` gives the kernel to use in a kernel's place.
    """

    def __init__(self, plan: Plan, wrap: Wrap | None = None):
        self.plan = plan
        code = _Code(plan, wrap)
        self.source = code.source
        self._lock = threading.Lock()
        self._run = code.compile()
        weakref.finalize(self, linecache.cache.pop, code.filename, None)

    def __call__(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """The outputs for `arrays`, one for each input of the plan, of its shape and dtype and
        contiguous. Floating-point errors give inf and NaN, as IEEE 754 has it, without a warning.
        """
        with self._lock, np.errstate(all="ignore"):
            return self._run(*arrays)


class _Code:
    """The generated function, while it is written."""

    def __init__(self, plan: Plan, wrap: Wrap | None):
        self.bound: dict[str, Any] = {"empty": np.empty, "ndarray": np.ndarray}
        self._plan = plan
        self._wrap = wrap
        self._arena = np.empty(plan.arena_bytes + ALIGNMENT, np.uint8)
        self._arena_start = -self._arena.ctypes.data % ALIGNMENT
        self.filename = f"<needle_ir plan {next(_numbers)}>"
        self._arena_arrays: dict[tuple[int, Any], str] = {}
        self._names: dict[int, str] = {}
        self._fixed: dict[int, Array] = {}  # the arrays that are the same in every run
        self.source = self._write()

    def compile(self) -> Callable[..., tuple[Array, ...]]:
        """The function that `source` defines, with everything it names bound."""
        lines = self.source.splitlines(keepends=True)
        # A traceback through the plan shows the generated line.
        linecache.cache[self.filename] = (len(self.source), None, lines, self.filename)
        namespace: dict[str, Any] = {}
        exec(compile(self.source, self.filename, "exec"), namespace)
        run: Callable[..., tuple[Array, ...]] = namespace["bind"](**self.bound)
        return run

    def _write(self) -> str:
        slots = self._plan.slots
        for number, slot in enumerate(slots):
            if slot.place is Place.INPUT:
                self._names[number] = f"i{number}"
            elif slot.place is Place.CONSTANT:
                self._fix(number, f"c{number}", slot.node.attrs["value"])
        lines: list[str] = []
        for number, step in enumerate(self._plan.steps):
            lines += self._step(number, step.node, step.inputs, step.output)
        parameters = ", ".join(self._names[i] for i in self._plan.inputs)
        results = "".join(f"{self._names[i]}, " for i in self._plan.outputs)
        body = "".join(f"        {line}\n" for line in lines)
        return (
            f"def bind({', '.join(self.bound)}):\n"
            f"    def run({parameters}):\n"
            f"{body}"
            f"        return ({results})\n"
            f"    return run\n"
        )

    def _step(self, number: int, node: Node, inputs: tuple[int, ...], output: int) -> list[str]:
        if self._plan.slots[output].place is Place.VIEW:
            return self._view(number, node, inputs[0], output)
        lines = self._allocation(output)
        operands = [self._names[i] for i in inputs]
        kernel = make_kernel(node)
        if node.op is PACK:
            in_place = self._plan.in_place(self._plan.steps[number])
            if all(in_place):
                return lines
            if any(in_place):
                kernel = pack_the_rest(node, in_place)
        name = f"{node.op.name}{number}"
        self.bound[name] = self._wrap(node, kernel) if self._wrap else kernel
        lines.append(f"{name}({', '.join([*operands, self._names[output]])})")
        return lines

    def _allocation(self, output: int) -> list[str]:
        """The lines that make the array of a slot, where it is not there yet."""
        slot = self._plan.slots[output]
        if output in self._names:
            return []
        if slot.place is Place.ARENA:
            self._names[output] = self._arena_array(output)
            return []
        name = self._names[output] = f"o{output}"
        self.bound[f"shape{output}"] = slot.node.shape
        self.bound[f"dtype{output}"] = slot.node.dtype
        if slot.inside is None:
            return [f"{name} = empty(shape{output}, dtype{output})"]
        lines = self._allocation(slot.inside)
        whole = self._names[slot.inside]
        return [*lines, f"{name} = ndarray(shape{output}, dtype{output}, {whole}, {slot.offset})"]

    def _view(self, number: int, node: Node, base: int, output: int) -> list[str]:
        look = VIEWS[node.op.name](node)
        if base in self._fixed:
            self._fix(output, f"v{output}", look(self._fixed[base]))
            return []
        self._names[output] = f"v{output}"
        name = f"{node.op.name}{number}"
        self.bound[name] = look
        return [f"v{output} = {name}({self._names[base]})"]

    def _arena_array(self, number: int) -> str:
        """The name of the array of an arena slot. Slots at one offset and of one type share one
        array, so that a kernel can see that it works in place.
        """
        slot = self._plan.slots[number]
        assert slot.offset is not None
        key = (slot.offset, slot.node.type)
        if key not in self._arena_arrays:
            start = self._arena_start + slot.offset
            memory = self._arena[start : start + slot.nbytes]
            array = memory.view(slot.node.dtype).reshape(slot.node.shape)
            self._arena_arrays[key] = f"a{number}"
            self._fix(number, f"a{number}", array)
        name = self._arena_arrays[key]
        self._fixed[number] = self.bound[name]
        return name

    def _fix(self, number: int, name: str, array: Array) -> None:
        self._names[number] = name
        self._fixed[number] = array
        self.bound[name] = array
