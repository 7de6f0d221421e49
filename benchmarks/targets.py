"""What the step is meant to reach, as ratios measured in one run, and what it does reach."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from benchmarks.measure import Comparison, median_ratio
from benchmarks.tables import Table

Results = Mapping[str, Comparison]
Measure = Callable[[Results], float | None]


@dataclass(frozen=True)
class Target:
    """A figure and its bound. `measure` is None where the run has not measured it."""

    what: str
    at_most: float
    measure: Measure
    unit: str = ""
    digits: int = 2


def _measured(
    results: Results, configuration: str, contender: str, figure: str
) -> list[float] | None:
    """The figures `first` or `steps` of a contender; None where there are none."""
    comparison = results.get(configuration)
    outcome = comparison.outcomes.get(contender) if comparison else None
    return getattr(outcome, figure) or None if outcome else None


def _ratio(
    figure: str,
    configuration: str,
    contender: str,
    reference: str,
    reference_configuration: str | None = None,
) -> Measure:
    def measure(results: Results) -> float | None:
        ours = _measured(results, configuration, contender, figure)
        theirs = _measured(results, reference_configuration or configuration, reference, figure)
        return median_ratio(ours, theirs) if ours and theirs else None

    return measure


_steps = partial(_ratio, "steps")
_first = partial(_ratio, "first")


def _added(results: Results) -> list[float]:
    """Seconds that the eager-looking step takes more than the jitted one, in each round."""
    jit = _measured(results, "default", "needle-jit", "steps")
    eager = _measured(results, "default", "needle-eager", "steps")
    if not jit or not eager or len(jit) != len(eager):
        return []
    return [b - a for a, b in zip(jit, eager, strict=True)]


def _recording(results: Results) -> float | None:
    added = _added(results)
    return 1e3 * statistics.median(added) if added else None


def _recording_beside_torch(results: Results) -> float | None:
    added, torch = _added(results), _measured(results, "default", "torch-eager", "steps")
    return median_ratio(added, torch) if added and torch else None


def _reuse(results: Results) -> float | None:
    """Planned bytes over the sum of all intermediates."""
    memory = _memory(results, "needle-jit")
    if "without reuse" not in memory:
        return None
    return memory["temporaries"] / memory["without reuse"]


def _peak(results: Results) -> float | None:
    """Planned bytes over those of JAX."""
    ours, theirs = _memory(results, "needle-jit"), _memory(results, "jax")
    if not ours or not theirs.get("temporaries"):
        return None
    return ours["temporaries"] / theirs["temporaries"]


def _memory(results: Results, contender: str) -> dict[str, int]:
    if "default" not in results or contender not in results["default"].outcomes:
        return {}
    return results["default"].outcomes[contender].memory


TARGETS = (
    Target(
        "default step, jit, beside NumPy by hand", 1.05, _steps("default", "needle-jit", "numpy")
    ),
    Target("default step, jit, beside JAX", 1.05, _steps("default", "needle-jit", "jax")),
    Target(
        "default step, jit, beside PyTorch eager",
        0.45,
        _steps("default", "needle-jit", "torch-eager"),
    ),
    Target(
        "default step, no decorator, beside PyTorch eager",
        0.60,
        _steps("default", "needle-eager", "torch-eager"),
    ),
    Target("what recording and cache look-up add to a step", 0.25, _recording, " ms"),
    # The bound above was set where a step of PyTorch eager takes 1.61 ms.
    Target("the same, beside PyTorch eager", 0.155, _recording_beside_torch, digits=3),
    Target("hidden 512, batch 512, beside JAX", 0.90, _steps("hidden-512", "needle-jit", "jax")),
    Target(
        "hidden 1000, batch 1000, two cores, beside JAX",
        0.95,
        _steps("hidden-1000:2", "needle-jit", "jax"),
    ),
    Target("cold process to first step, beside JAX", 0.25, _first("default", "needle-jit", "jax")),
    Target("100 blocks: first step, beside JAX", 0.04, _first("blocks-100", "needle-jit", "jax")),
    Target(
        "100 blocks: a step, beside PyTorch eager",
        0.5,
        _steps("blocks-100", "needle-jit", "torch-eager"),
    ),
    Target(
        "1,000 blocks: first step over that of 100 blocks",
        12,
        _first("blocks-1000", "needle-jit", "needle-jit", "blocks-100"),
    ),
    Target("planned arena bytes over all intermediates, default step", 0.5, _reuse),
    Target("planned arena bytes beside JAX's temporaries, default step", 1.0, _peak),
)


def target_table(results: Results) -> Table:
    """Every target, what was measured, and whether it is reached."""
    rows = []
    for target in TARGETS:
        value, digits = target.measure(results), target.digits
        if value is None:
            measured, reached = "not measured", ""
        else:
            measured = f"{value:.{digits}f}{target.unit}"
            reached = "yes" if value <= target.at_most else "no"
        bound = f"{target.at_most:.{digits}f}{target.unit}"
        rows.append((target.what, bound, measured, reached))
    return Table("Targets", ("what", "at most", "measured", "reached"), tuple(rows))
