"""`trace`, `compile`, `jit`: a function's graph, its program, its program kept up to date."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any

from needle_ir.compiler import Pipeline, Program, compile_graph
from needle_ir.ir import INPUT, Array, Graph, Instrument, Plan
from needle_ir.passes import Record, Stage
from needle_ir.pytree import flatten
from needle_ir.recording import state
from needle_ir.tensor import Tensor
from needle_ir.tracing import Recording, argument_arrays, is_dynamic, record, type_of


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

    def __call__(self, arguments: Sequence[Array]) -> Any:
        arrays = self.program(self.recording.gather(arguments))
        # An input that is returned as it is must not be shared with whoever passed it in.
        outputs = zip(self.program.graph.outputs, arrays, strict=True)
        return self.recording.scatter([a.copy() if n.op is INPUT else a for n, a in outputs])


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
            self._signature: Hashable = tuple(node.type for node in graph.inputs)
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
            given: Hashable = tuple(type_of(x) if is_dynamic(x) else type(x) for x in args)
        else:
            leaves, tree = flatten((args, kwargs))
            given = _signature(leaves, tree)
        if given != self._signature or (self._recording is None and kwargs):
            raise TypeError(
                f"compiled for {_show(self._signature)}, called with {_show(given)}; "
                "compile again for other types, or use jit, which does"
            )
        if self._recording is not None:
            changed = self._recording.what_changed()
            if changed is not None:
                raise TypeError(f"compiled for another state: {changed}; compile again or use jit")
            return _Specialization(self._recording, self.program)(argument_arrays(leaves))
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
    when something it read has changed, such as a `training` flag. `retraces` says why, in words.
    """

    def __init__(self, fn: Callable[..., Any], pipeline: Pipeline | None = None):
        update_wrapper(self, fn)
        self._fn = fn
        self._pipeline = pipeline
        self._kept: dict[Hashable, list[_Specialization]] = {}
        self.retraces: list[str] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns, computed by its program."""
        if state.trace is not None:
            return self._fn(*args, **kwargs)
        leaves, tree = flatten((args, kwargs))
        signature = _signature(leaves, tree)
        kept = self._kept.setdefault(signature, [])
        reason = "first call" if len(self._kept) == 1 else f"called with {_show(signature)}"
        for specialization in kept:
            changed = specialization.recording.what_changed()
            if changed is None:
                return specialization(argument_arrays(leaves))
            reason = changed
        self.retraces.append(reason)
        recording = record(self._fn, (args, kwargs))
        kept.append(_Specialization(recording, compile_graph(recording.graph, self._pipeline)))
        return kept[-1](argument_arrays(leaves))


def jit(fn: Callable[..., Any], *, pipeline: Pipeline | None = None) -> JitFunction:
    """`fn`, compiled as a whole: see JitFunction.

    Tensors and arrays among the arguments are inputs; other arguments are static and must be
    hashable. Parameters, moments and running statistics that `fn` touches are found by the trace.
    """
    return JitFunction(fn, pipeline)


def _signature(leaves: list[Any], tree: Hashable) -> Hashable:
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
        parts.append((type(leaf), leaf))
    return (tree, tuple(parts))


def _show(signature: Any) -> str:
    parts = signature[1] if len(signature) == 2 and isinstance(signature[1], tuple) else signature
    return f"({', '.join(_show_part(part) for part in parts)})"


def _show_part(part: Any) -> str:
    if isinstance(part, tuple) and len(part) == 2:
        kind, value = part
        return repr(value) if isinstance(kind, type) else str(kind)
    return str(part)
