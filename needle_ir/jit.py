"""`trace`, `compile`, `jit`: a function's graph, its program, its program kept up to date."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, update_wrapper
from types import MethodType
from typing import TYPE_CHECKING, Any

from needle_ir.arguments import check_function
from needle_ir.compiler import Pipeline, Program, collector_paused, compile_graph
from needle_ir.ir import INPUT, Array, Graph, Instrument, Plan, Representable, capture_origin
from needle_ir.pytree import flatten
from needle_ir.recompiles import Dropped, dropped_words, log, warn_of_number
from needle_ir.recording import thread
from needle_ir.signature import Mismatch, Signature, mismatch, signature
from needle_ir.tensor import Tensor
from needle_ir.tracing import (
    Arguments,
    Recording,
    argument_arrays,
    argument_names,
    is_dynamic,
    record,
    type_of,
)

if TYPE_CHECKING:
    from needle_ir.runtime import Leases

# How many signatures a jitted function keeps, and how many programs for each.
JIT_CAPACITY = 64
REASONS_CAPACITY = 1000


def trace(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Graph:
    """The graph that `fn` records for these arguments.

    `fn` runs once. Tensors and arrays among the arguments are inputs; so are the tensors from
    outside that it reads, such as parameters. Nothing is computed and nothing is assigned. Raises
    TypeError for what can not be called.
    """
    check_function("trace", fn)
    return _record(fn, (args, kwargs)).graph


@dataclass(frozen=True)
class _Specialization:
    """A recording and its program."""

    recording: Recording
    program: Program

    def __call__(self, leaves: Sequence[Any]) -> Any:
        arrays = self.recording.gather(argument_arrays(leaves))
        own = self.recording.leaves
        if own is None:
            return self._run(leaves, arrays, ())
        with own.lock:
            try:
                return self._run(leaves, arrays, own.claim(arrays))
            except BaseException:
                own.restore()
                raise

    def _run(self, leaves: Sequence[Any], arrays: Sequence[Array], leases: "Leases") -> Any:
        results, leases = self.program.replace(arrays, leases)
        if self._returned_inputs:
            given = self._returned_inputs
            results = tuple([a.copy() if i in given else a for i, a in enumerate(results)])
        arguments = [leaf for leaf in leaves if is_dynamic(leaf)]
        return self.recording.scatter(results, arguments, leases)

    @cached_property
    def _returned_inputs(self) -> frozenset[int]:
        """The outputs that are inputs: they must not be shared with whoever passed them in."""
        outputs = enumerate(self.program.graph.outputs)
        return frozenset([i for i, node in outputs if node.op is INPUT])


class Compiled(Representable):
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
        self.pipeline = pipeline
        if isinstance(graph_or_fn, Graph):
            if args or kwargs:
                raise TypeError("compile(graph) takes no example arguments: a graph has types")
            graph = graph_or_fn
            self._signature = Signature(None, tuple(node.type for node in graph.inputs))
        else:
            self._recording = _record(graph_or_fn, (args, kwargs))
            graph = self._recording.graph
            self._signature = signature(*flatten((args, kwargs)))
        from needle_ir.passes import Record

        passes = Record()
        replaced = () if self._recording is None else self._recording.replaced
        self.program = compile_graph(graph, pipeline, (passes, *instruments), replaced)
        self.stages = passes.stages
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
            types = tuple(type_of(x) if is_dynamic(x) else type(x) for x in args)
            given = Signature(None, types)
        else:
            leaves, tree = flatten((args, kwargs))
            given = signature(leaves, tree)
        if given != self._signature or (self._recording is None and kwargs):
            raise TypeError(
                f"compiled for {self._signature}, called with {given}; "
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
    (parameters, running statistics) it reads and assigns at every call. Raises TypeError for what
    is neither a graph nor a function.
    """
    if not isinstance(graph_or_fn, Graph):
        check_function("compile", graph_or_fn)
    return Compiled(graph_or_fn, args, kwargs, pipeline, instruments)


class JitFunction:
    """A function that is traced on its first call and replayed on the next ones.

    It is traced again for arguments of another structure or other types, other static values, or
    when something it read has changed, such as a `training` flag. `retraces` says why, in words,
    as compared with the nearest call before. The programs used last are kept.
    """

    def __init__(self, fn: Callable[..., Any], pipeline: Pipeline | None = None):
        check_function("jit", fn)
        update_wrapper(self, fn)
        self._fn = fn
        self.pipeline = pipeline
        self._kept: OrderedDict[Signature, list[_Specialization]] = OrderedDict()
        self._dropped = Dropped()
        self._hits = 0
        self._reasons: deque[str] = deque(maxlen=REASONS_CAPACITY)

    @property
    def retraces(self) -> list[str]:
        """Why each program was compiled, oldest first, the last 1,000."""
        return [*self._reasons]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns, computed by its program."""
        leaves, tree = flatten((args, kwargs))
        now = thread.state
        if now.trace is not None or (now.grad_enabled and any(map(_has_history, leaves))):
            return self._fn(*args, **kwargs)
        called = signature(leaves, tree)
        kept = self._kept.get(called, [])
        changes: list[str] = []
        for i in reversed(range(len(kept))):
            changed = kept[i].recording.what_changed()
            if changed is None:
                self._hits += 1
                self._kept.move_to_end(called)
                kept.append(kept.pop(i))
                return kept[-1](leaves)
            changes.append(changed)
        why = Mismatch(changes[0]) if changes else self._why_not(called, (args, kwargs))
        return self._compile(called, (args, kwargs), why)(leaves)

    def _why_not(self, called: Signature, arguments: Arguments) -> Mismatch:
        """Why no program that is kept serves this call."""
        if not self._kept:
            return Mismatch("first call")
        if called in self._dropped:
            return Mismatch(dropped_words(JIT_CAPACITY))
        return mismatch(called, self._kept, argument_names(self._fn, arguments))

    def _compile(self, called: Signature, arguments: Arguments, why: Mismatch) -> _Specialization:
        started = time.perf_counter()
        recording = _record(self._fn, arguments)
        program = compile_graph(recording.graph, self.pipeline, (), recording.replaced)
        new = _Specialization(recording, program)
        seconds = time.perf_counter() - started
        kept = self._kept.setdefault(called, [])
        self._kept.move_to_end(called)
        kept.append(new)
        del kept[:-JIT_CAPACITY]
        while len(self._kept) > JIT_CAPACITY:
            self._dropped.add(self._kept.popitem(last=False)[0])
        self._reasons.append(why.words)
        site, name = capture_origin(), recording.graph.name
        where = name if site is None else f"{name}, called at {site}"
        log.add("jit", where, why.words, len(recording.graph.nodes), seconds)
        if why.number is not None and log.streak((id(self), why.number), self._hits):
            warn_of_number(site, f"the argument {why.number} of {name}")
        return new

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)


def jit(fn: Callable[..., Any], *, pipeline: Pipeline | None = None) -> JitFunction:
    """`fn`, compiled as a whole: see JitFunction.

    Tensors and arrays among the arguments are inputs; other arguments are static and must be
    hashable. Parameters, moments and running statistics that `fn` touches are found by the trace.
    """
    return JitFunction(fn, pipeline)


def _record(fn: Callable[..., Any], arguments: Arguments) -> Recording:
    # Nothing is computed meanwhile: what is made is small, and is there until the end.
    with collector_paused():
        return record(fn, arguments)


def _has_history(leaf: Any) -> bool:
    """Whether a derivative flows back through an argument: then the call is recorded, not run."""
    return isinstance(leaf, Tensor) and leaf.requires_grad and not leaf.is_leaf
