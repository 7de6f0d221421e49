"""One configuration, measured: every contender started, then turns in rounds A B C, A B C."""

import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from benchmarks.configurations import Configuration
from benchmarks.contender import Contender
from benchmarks.cores import load_average, pick_cores
from benchmarks.processes import AbsentError, FailedError, Process, TimeLimitError

# A contender that took this long to its first step is started once, and not asked for its memory,
# which may take as long again.
LONG_START = 20.0


@dataclass(frozen=True)
class Settings:
    """How to measure: interpreters, cores, rounds and time limits, in seconds."""

    rounds: int = 15
    turn_seconds: float = 0.2
    starts: int = 3
    limit: float = 120.0
    own_python: str = sys.executable
    peer_python: str = sys.executable

    def python_for(self, contender: Contender) -> str:
        """The interpreter that has what a contender needs."""
        return self.own_python if contender.package is None else self.peer_python


@dataclass
class Outcome:
    """What was measured of one contender; `reason` says why a figure is missing.

    `steps` has a median per round, `first` the seconds from each start to the end of the first
    step, `phases` what of them went where.
    """

    contender: str
    reason: str | None = None
    failed: bool = False
    first: list[float] = field(default_factory=list)
    phases: list[dict[str, float]] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)


@dataclass
class Comparison:
    """The outcomes of the contenders on one configuration and a number of cores."""

    configuration: Configuration
    cores: int
    outcomes: dict[str, Outcome]
    load: float | None = None

    @property
    def name(self) -> str:
        """Such as `default`, or `default:2` on two cores."""
        name = self.configuration.name
        return name if self.cores == 1 else f"{name}:{self.cores}"


def median_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """The median of what is measured pair by pair: what slows a round down slows both.

    Lists of unequal lengths are not paired: their medians are divided. Raises StatisticsError where
    one is empty.
    """
    if len(numerator) == len(denominator):
        pairs = zip(numerator, denominator, strict=True)
        return statistics.median(a / b for a, b in pairs)
    return statistics.median(numerator) / statistics.median(denominator)


def compare(
    configuration: Configuration,
    cores: int,
    contenders: Sequence[Contender],
    settings: Settings,
    say: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Measure `contenders` beside each other. `say` is told what is going on.

    Raises ValueError where there are not as many cores.
    """
    pinned = pick_cores(cores)
    outcomes = {contender.name: Outcome(contender.name) for contender in contenders}
    comparison = Comparison(configuration, cores, outcomes)
    with ExitStack() as stack:
        processes: dict[str, Process] = {}
        for number in range(settings.starts):
            for contender in contenders:
                outcome = outcomes[contender.name]
                if outcome.reason or (outcome.first and outcome.first[0] > LONG_START):
                    continue
                say(f"{comparison.name}: start {number + 1} of {contender.label}")
                if contender.name in processes:
                    processes.pop(contender.name).close()
                process = _guard(
                    outcome,
                    lambda c=contender: Process(
                        c, configuration, pinned, settings.limit, settings.python_for(c)
                    ),
                )
                if process is not None:
                    processes[contender.name] = stack.enter_context(process)
                    outcome.first.append(process.first_seconds)
                    outcome.phases.append(process.phases)
        take_turns(processes, outcomes, settings, lambda text: say(f"{comparison.name}: {text}"))
        comparison.load = load_average()
        for name, process in processes.items():
            outcome = outcomes[name]
            outcome.facts = _guard(outcome, lambda p=process: p.ask("facts")) or {}
            if outcome.first[0] < LONG_START and not outcome.reason:
                outcome.memory = _guard(outcome, lambda p=process: p.ask("memory")) or {}
    return comparison


def take_turns(
    processes: dict[str, Process],
    outcomes: dict[str, Outcome],
    settings: Settings,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Let every process run in every round, one at a time. Each round turns the order around."""
    order = list(processes)
    for number in range(settings.rounds):
        say(f"round {number + 1} of {settings.rounds}")
        for name in order:
            if outcomes[name].reason:
                continue
            samples = _guard(
                outcomes[name], lambda n=name: processes[n].ask("turn", settings.turn_seconds)
            )
            if samples is not None:
                outcomes[name].steps.append(statistics.median(samples))
        order.reverse()


def _guard(outcome: Outcome, action: Callable[[], Any]) -> Any:
    """What `action` gives; None where it fails, with the reason noted."""
    try:
        return action()
    except (AbsentError, TimeLimitError) as error:
        outcome.reason = str(error)
    except FailedError as error:
        outcome.reason, outcome.failed = str(error), True
    return None
