"""`trace`, `compile`, `jit`: a function's graph, its program, its program kept up to date."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import update_wrapper
from types import MethodType
from typing import Any

import numpy as np

from needle_ir.compiler import Pipeline, Program, compile_graph
from needle_ir.ir import INPUT, Graph, Instrument, Plan, TensorType
from needle_ir.passes import Record, Stage
from needle_ir.pytree import flatten
from needle_ir.recording import state
from needle_ir.tensor import Tensor
from needle_ir.tracing import Recording, argument_arrays, is_dynamic, record, type_of

# How many signatures a jitted function keeps, and how many programs for each.
JIT_CAPACITY = 64


def trace(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Graph:
    """The graph that `fn` records for these arguments.

    `fn` runs once. Tensors and arrays among the arguments are inputs; so are the tensors from
    outside that it reads, such as parameters. Nothing is computed and nothing is assigned.
    """
    return record(fn, (args, kwargs)).graph


@dataclass(frozen=True)
class _Specialization:
    """A recording and its program."""

    recording: Recording
    program: Program

    def __call__(self, leaves: Sequence[Any]) -> Any:
        arrays = self.program(self.recording.gather(argument_arrays(leaves)))
        # An input that is returned as it is must not be shared with whoever passed it in.
        outputs = zip(self.program.graph.outputs, arrays, strict=True)
        results = [a.copy() if n.op is INPUT else a for n, a in outputs]
        return self.recording.scatter(results, [leaf for leaf in leaves if is_dynamic(leaf)])


class Compiled:
    """A compiled graph or function that can be called, and looked into.

    `stages` are the graphs after each pass, `graph` is the last of them, `plan` what runs, and
    `source` the generated Python. `str()` shows the passes and the plan.
    """

    def __init__(
        self,
        graph_or_fn: Graph | Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        pipeline: Pipeline | None,
        instruments: Sequence[Instrument],
    ):
        self._recording: Recording | None = None
        if isinstance(graph_or_fn, Graph):
            if args or kwargs:
                raise TypeError("compile(graph) takes no example arguments: a graph has types")
            graph = graph_or_fn
            self._signature: Any = tuple(node.type for node in graph.inputs)
        else:
            self._recording = record(graph_or_fn, (args, kwargs))
            graph = self._recording.graph
            self._signature = _signature(*flatten((args, kwargs)))
        passes = Record()
        self.program = compile_graph(graph, pipeline, (passes, *instruments))
        self.stages: list[Stage] = passes.stages
        self._passes = str(passes)

    @property
    def graph(self) -> Graph:
        """The optimized graph."""
        return self.program.graph

    @property
    def plan(self) -> Plan:
        """The steps and the memory they use."""
        return self.program.plan

    @property
    def source(self) -> str:
        """The generated Python that runs."""
        return self.program.executor.source

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result for arguments of the types it was compiled for.

        A compiled graph gives one tensor, or a tuple of them. Raises TypeError for other types.
        """
        if self._recording is None:
            leaves: list[Any] = list(args)
            given: Any = tuple(type_of(x) if is_dynamic(x) else type(x) for x in args)
        else:
            leaves, tree = flatten((args, kwargs))
            given = _signature(leaves, tree)
        if given != self._signature or (self._recording is None and kwargs):
            expected, got = self._signature, given
            if self._recording is not None:
                expected, got = self._signature[1], given[1]
            raise TypeError(
                f"compiled for {_show(expected)}, called with {_show(got)}; "
                "compile again for other types, or use jit, which does"
            )
        if self._recording is not None:
            changed = self._recording.what_changed()
            if changed is not None:
                raise TypeError(f"compiled for another state: {changed}; compile again or use jit")
            return _Specialization(self._recording, self.program)(leaves)
        results = self.program(argument_arrays(leaves))
        tensors = tuple(Tensor(array, requires_grad=False) for array in results)
        return tensors[0] if len(tensors) == 1 else tensors

    def __str__(self) -> str:
        return f"{self._passes}\n\n{self.plan}"


def compile(
    graph_or_fn: Graph | Callable[..., Any],
    *args: Any,
    pipeline: Pipeline | None = None,
    instruments: Sequence[Instrument] = (),
    **kwargs: Any,
) -> Compiled:
    """Compile a graph, or a function for example arguments.

    `pipeline` is a list of passes or its text, the default one where None. `instruments` look on
    after every pass. What a compiled function reads and assigns besides its arguments
    (parameters, running statistics) it reads and assigns at every call.
    """
    return Compiled(graph_or_fn, args, kwargs, pipeline, instruments)


class JitFunction:
    """A function that is traced on its first call and replayed on the next ones.

    It is traced again for arguments of another structure or other types, other static values, or
    when something it read has changed, such as a `training` flag. `retraces` says why, in words,
    as compared with the last call of the same types. The programs used last are kept.
    """

    def __init__(self, fn: Callable[..., Any], pipeline: Pipeline | None = None):
        update_wrapper(self, fn)
        self._fn = fn
        self._pipeline = pipeline
        self._kept: OrderedDict[Hashable, list[_Specialization]] = OrderedDict()
        self.retraces: list[str] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns, computed by its program."""
        leaves, tree = flatten((args, kwargs))
        if state.trace is not None or (state.grad_enabled and any(map(_has_history, leaves))):
            return self._fn(*args, **kwargs)
        signature = _signature(leaves, tree)
        kept = self._kept.setdefault(signature, [])
        reason = "first call" if len(self._kept) == 1 else f"called with {_show(signature[1])}"
        self._kept.move_to_end(signature)
        changes: list[str] = []
        for i in reversed(range(len(kept))):
            changed = kept[i].recording.what_changed()
            if changed is None:
                kept.append(kept.pop(i))
                return kept[-1](leaves)
            changes.append(changed)
        self.retraces.append(changes[0] if changes else reason)
        recording = record(self._fn, (args, kwargs))
        kept.append(_Specialization(recording, compile_graph(recording.graph, self._pipeline)))
        del kept[:-JIT_CAPACITY]
        while len(self._kept) > JIT_CAPACITY:
            self._kept.popitem(last=False)
        return kept[-1](leaves)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)


def jit(fn: Callable[..., Any], *, pipeline: Pipeline | None = None) -> JitFunction:
    """`fn`, compiled as a whole: see JitFunction.

    Tensors and arrays among the arguments are inputs; other arguments are static and must be
    hashable. Parameters, moments and running statistics that `fn` touches are found by the trace.
    """
    return JitFunction(fn, pipeline)


def _signature(leaves: list[Any], tree: Hashable) -> tuple[Hashable, tuple[Any, ...]]:
    """What must be the same for a program to serve another call."""
    parts: list[Hashable] = []
    for leaf in leaves:
        if is_dynamic(leaf):
            requires_grad = isinstance(leaf, Tensor) and leaf.requires_grad
            parts.append((type_of(leaf), requires_grad))
            continue
        try:
            hash(leaf)
        except TypeError:
            raise TypeError(
                f"an argument of type {type(leaf).__name__} is neither a tensor, an array nor "
                "hashable: pass a tensor for data, a hashable value for a static argument"
            ) from None
        # Python's own equality would merge 0.0 with -0.0.
        is_float = isinstance(leaf, float | np.floating)
        parts.append((type(leaf), float(leaf).hex() if is_float else leaf))
    return (tree, tuple(parts))


def _has_history(leaf: Any) -> bool:
    """Whether a derivative flows back through an argument: then the call is recorded, not run."""
    return isinstance(leaf, Tensor) and leaf.requires_grad and not leaf.is_leaf


def _show(parts: Any) -> str:
    return f"({', '.join(map(_show_part, parts))})"


def _show_part(part: Any) -> str:
    if isinstance(part, TensorType):
        return str(part)
    if isinstance(part, type):
        return part.__name__
    kind, value = part
    if isinstance(kind, TensorType):
        return f"{kind} with requires_grad" if value else str(kind)
    return repr(float.fromhex(value) if issubclass(kind, float | np.floating) else value)
