"""Whether all contenders compute the same thing: their first losses, without dropout."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.configurations import Configuration
from benchmarks.contender import Contender
from benchmarks.cores import pick_cores
from benchmarks.measure import Settings
from benchmarks.processes import AbsentError, FailedError, Process, TimeLimitError
from benchmarks.tables import Table

# Relative to the reference: about ten times the largest difference that was seen, 2e-6. In a deep
# network a rounding error that moves one ReLU across 0 grows on the way: there only the first loss
# is judged, which needs the forward pass alone.
TOLERANCES = (2e-5, 2e-5, 2e-5)
DEEP_TOLERANCES = (2e-5, math.inf, math.inf)
DEEP = 10  # blocks
# Masks differ from one random generator to the next, so there is no dropout. With its usual eps of
# 1e-8 Adam moves a parameter by the learning rate however small its gradient is, and so turns the
# rounding error of a gradient near 0 into a whole step; a larger eps does not. The weight decay is
# large enough to be seen.
COMPARABLE = {"dropout": 0.0, "adam_eps": 1e-2, "weight_decay": 1.0, "lr": 1e-4}


def check_agreement(
    runs: Sequence[tuple[Configuration, int]],
    contenders: Sequence[Contender],
    settings: Settings,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Table, bool]:
    """A table of the first losses, and whether they agree with those of the first that ran.

    A contender that is absent or out of time agrees; one that fails does not.
    """
    rows: list[tuple[str, ...]] = []
    agrees = True
    for configuration, cores in runs:
        tolerances = TOLERANCES if configuration.blocks < DEEP else DEEP_TOLERANCES
        reference: list[float] | None = None
        for contender in contenders:
            say(f"{configuration.name}: {contender.label}")
            try:
                losses = _first_losses(configuration, cores, contender, settings)
            except (AbsentError, TimeLimitError, FailedError) as error:
                agrees = agrees and not isinstance(error, FailedError)
                reason = str(error).splitlines()[-1]
                rows.append((configuration.name, contender.label, reason, "", ""))
                continue
            reference = losses if reference is None else reference
            differences = relative_differences(losses, reference)
            same = all(d <= t for d, t in zip(differences, tolerances, strict=True))
            agrees = agrees and same
            shown = " ".join(f"{loss:.5f}" for loss in losses)
            off = " ".join(f"{d:.1e}" for d in differences)
            rows.append((configuration.name, contender.label, shown, off, "yes" if same else "no"))
    columns = ("configuration", "contender", "losses", "relative differences", "agrees")
    return Table("The first losses, without dropout", columns, tuple(rows), left=2), agrees


def relative_differences(losses: Sequence[float], reference: Sequence[float]) -> list[float]:
    """|a - b| / |b| for each pair; infinite where one is not finite."""
    differences = [abs(a - b) / abs(b) for a, b in zip(losses, reference, strict=True)]
    return [d if math.isfinite(d) else math.inf for d in differences]


def _first_losses(
    configuration: Configuration, cores: int, contender: Contender, settings: Settings
) -> list[float]:
    plain = replace(configuration, **COMPARABLE)
    python = settings.python_for(contender)
    with Process(contender, plain, pick_cores(cores), settings.limit, python) as process:
        losses: list[float] = process.ask("losses", len(TOLERANCES))
        return losses
