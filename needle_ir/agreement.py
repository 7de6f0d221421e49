"""Do two graphs compute the same? Numbers are compared up to rounding.

Both are run node by node with no optimization: requests expanded, composites opened. What counts as
rounding is measured. The first graph is run again with its inputs and every result of a node moved
by up to one rounding error at random (Monte Carlo arithmetic, Parker 1997). Where this moves an
output by s, two correct compilations may differ by as much: up to 16 s, at least 8 ε of the
output's largest element, and never more than 32 ε · depth · the largest number in the run (or 1,
where that is larger): a moved number may take the other branch. ε is that of the coarsest float
dtype in the graph, depth its longest chain of nodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from needle_ir.ir import CONSTANT, Array, Graph, Node, Trait, is_floating
from needle_ir.passes import Autodiff, Lower
from needle_ir.runtime import draws, evaluate

_MOVED_RUNS = 3


@dataclass(frozen=True)
class Difference:
    """How far one array is from what it should be.

    `count` of `size` elements differ by more than `tolerance`, most at `index`, where `found` is in
    the place of `expected`. Where `count` is 0, the difference is rounding.
    """

    name: str
    count: int
    size: int
    index: tuple[int, ...]
    expected: object
    found: object
    tolerance: float

    def __str__(self) -> str:
        place = f" at [{', '.join(map(str, self.index))}]" if self.index else ""
        values = f"{self.expected!s} before, {self.found!s} now"
        if not self.count:
            return f"{self.name}: only rounding, most{place}: {values}"
        of = f"{self.count} of {self.size} elements" if self.size > 1 else "the value"
        differ = "differ" if self.count > 1 else "differs"
        most = f" (tolerance {self.tolerance:.1e})" if self.tolerance else ""
        return f"{self.name}: {of} {differ}, most{place}: {values}{most}"


class Reference:
    """What a graph computes of `arrays`, and how far rounding may move that."""

    def __init__(self, graph: Graph, arrays: Sequence[Array], seed: int = 0):
        self.arrays = arrays
        self.seed = seed
        plain = runnable(graph)
        met = [1.0]
        self.outputs = run_nodes(plain, arrays, seed, met=met)
        dtypes = {node.dtype for node in plain.nodes if is_floating(node.dtype)}
        epsilon = max([float(np.finfo(dtype).eps) for dtype in dtypes], default=0.0)
        moved = [
            run_nodes(plain, arrays, seed, moved_by=epsilon, stream=i) for i in range(_MOVED_RUNS)
        ]
        most = 32 * epsilon * _depth(plain) * max(met)
        self.tolerances = [
            _tolerance(output, [run[i] for run in moved], epsilon, most)
            for i, output in enumerate(self.outputs)
        ]

    def differences(self, found: Sequence[Array]) -> list[Difference]:
        """What is not the same bits in `found`, output by output."""
        names = [f"output {i}" for i in range(len(self.outputs))]
        pairs = zip(names, self.outputs, found, self.tolerances, strict=True)
        compared = [compare(name, a, b, tolerance) for name, a, b, tolerance in pairs]
        return [difference for difference in compared if difference is not None]


def runnable(graph: Graph) -> Graph:
    """`graph` in primitives with kernels: requests expanded, composites and clusters opened."""
    return Lower().run(Autodiff().run(graph))


def run_nodes(
    graph: Graph,
    arrays: Sequence[Array],
    seed: int,
    moved_by: float = 0.0,
    stream: int = 0,
    met: list[float] | None = None,
) -> tuple[Array, ...]:
    """The outputs of `graph`, node by node. Random draws are those of `seed`.

    With `moved_by`, float inputs and the results of float nodes that compute are multiplied by
    1 + u · moved_by, u uniform in [-1, 1]. The largest magnitudes of floats are added to `met`.
    """
    numbers = np.random.default_rng([seed, stream])

    def moved(value: Array) -> Array:
        if not moved_by or not is_floating(value.dtype):
            return value
        factor = 1 + moved_by * numbers.uniform(-1, 1, value.shape)
        return np.asarray(value * factor, value.dtype)

    values = {node: moved(x) for node, x in zip(graph.inputs, arrays, strict=True)}
    if met is not None:
        met += [_largest(x) for x in arrays if is_floating(x.dtype)]
    reads = {node: len(users) for node, users in graph.users.items()}
    kept = {*graph.outputs, *graph.inputs}
    with draws.repeatable(seed), np.errstate(all="ignore"):
        for node in graph.nodes[len(graph.inputs) :]:
            if node.op is CONSTANT:
                values[node] = node.attrs["value"]
                continue
            value = evaluate(node, [values[operand] for operand in node.inputs])
            values[node] = value if node.op.has(Trait.VIEW) else moved(value)
            if met is not None and is_floating(node.dtype):
                met.append(_largest(value))
            for operand in dict.fromkeys(node.inputs):
                reads[operand] -= 1
                if not reads[operand] and operand not in kept:
                    del values[operand]
    return tuple([values[node] for node in graph.outputs])


def compare(name: str, expected: Array, found: Array, tolerance: float) -> Difference | None:
    """How `found` differs from `expected`; None where all of it is the same, NaN for NaN."""
    if (expected.dtype, expected.shape) != (found.dtype, found.shape):
        types = [f"{x.dtype}{list(x.shape)}" for x in (expected, found)]
        return Difference(name, found.size or 1, found.size, (), types[0], types[1], tolerance)
    same = (expected == found) | ((expected != expected) & (found != found))
    if bool(np.all(same)):
        return None
    with np.errstate(all="ignore"):
        wide = [np.asarray(x, np.float64) for x in (expected, found)]
        distance = np.where(same, 0.0, np.abs(wide[0] - wide[1]))
    # A NaN in the place of a number, or an infinity, is infinitely far away.
    distance = np.where(np.isnan(distance), np.inf, distance)
    worst = np.unravel_index(int(np.argmax(distance)), distance.shape)
    count = int(np.count_nonzero(distance > tolerance))
    index = tuple(map(int, worst))
    return Difference(
        name, count, found.size, index, expected[index][()], found[index][()], tolerance
    )


def _tolerance(expected: Array, moved: list[Array], epsilon: float, most: float) -> float:
    if not is_floating(expected.dtype):
        return 0.0
    largest = _largest(expected)
    with np.errstate(all="ignore"):
        spread = max(_largest(x.astype(np.float64) - expected) for x in moved)
    return min(max(16 * spread, 8 * epsilon * largest), most)


def _largest(array: Array) -> float:
    """The largest finite magnitude."""
    return float(np.max(np.abs(array[np.isfinite(array)]), initial=0))


def _depth(graph: Graph) -> int:
    """The nodes on the longest way through a graph."""
    depth: dict[Node, int] = {}
    for node in graph.nodes:
        depth[node] = 1 + max([depth[operand] for operand in node.inputs], default=0)
    return max(depth.values(), default=1)
