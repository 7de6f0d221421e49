"""What the step is meant to reach, as ratios measured in one run, and what it does reach."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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


def _steps(configuration: str, contender: str, reference: str) -> Measure:
    def measure(results: Results) -> float | None:
        if configuration not in results:
            return None
        outcomes = results[configuration].outcomes
        if contender not in outcomes or reference not in outcomes:
            return None
        return median_ratio(outcomes[contender].steps, outcomes[reference].steps)

    return measure


def _first(
    configuration: str, contender: str, reference: str, other_configuration: str | None = None
) -> Measure:
    def measure(results: Results) -> float | None:
        other = other_configuration or configuration
        if configuration not in results or other not in results:
            return None
        ours, theirs = results[configuration].outcomes, results[other].outcomes
        if contender not in ours or reference not in theirs:
            return None
        return median_ratio(ours[contender].first, theirs[reference].first)

    return measure


def _recording(results: Results) -> float | None:
    """Milliseconds that the eager-looking step takes more than the jitted one."""
    if "default" not in results:
        return None
    outcomes = results["default"].outcomes
    jit, eager = (outcomes.get(name) for name in ("needle-jit", "needle-eager"))
    if jit is None or eager is None or not jit.steps or len(jit.steps) != len(eager.steps):
        return None
    extra = sorted(b - a for a, b in zip(jit.steps, eager.steps, strict=True))
    return 1e3 * extra[len(extra) // 2]


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
        value = target.measure(results)
        if value is None:
            measured, reached = "not measured", ""
        else:
            measured = f"{value:.2f}{target.unit}"
            reached = "yes" if value <= target.at_most else "no"
        rows.append((target.what, f"{target.at_most:.2f}{target.unit}", measured, reached))
    return Table("Targets", ("what", "at most", "measured", "reached"), tuple(rows))
