"""The process of one contender: it builds the step and then takes turns on command.

Its argument is JSON: contender, configuration, cores. It answers in lines of JSON on the pipe that
is its standard output: first what its start took, then one line for each command that it reads. It
ends where its standard input does.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from benchmarks.configurations import Configuration
from benchmarks.contender import CONTENDERS, Step
from benchmarks.cores import pin

# A sample is as many steps as take this long, and waits for the last one only: a loop that reads
# the loss now and then. JAX computes on while Python goes on to the next step.
SAMPLE_SECONDS = 0.01
WARM_UP_STEPS = 2


def main() -> None:
    """Serve the commands of the process that started this one."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    request = json.loads(sys.argv[1])
    pin(request["cores"])
    contender = CONTENDERS[request["contender"]]
    clock = [time.perf_counter()]
    try:
        module = import_module(f"benchmarks.{contender.module}")
    except ModuleNotFoundError as error:
        if contender.package is None or error.name != contender.package:
            raise
        answers.write(json.dumps({"absent": contender.package}) + "\n")
        return
    clock.append(time.perf_counter())
    step = module.make_step(Configuration(**request["configuration"]), contender.variant)
    clock.append(time.perf_counter())
    losses = [step.loss(step.run(0))]
    clock.append(time.perf_counter())
    phases = ("import", "build", "first step")
    seconds = {name: clock[i + 1] - clock[i] for i, name in enumerate(phases)}
    answers.write(json.dumps({"seconds": seconds}) + "\n")
    for line in sys.stdin:
        name, argument = json.loads(line)
        answers.write(json.dumps(COMMANDS[name](step, argument, losses)) + "\n")


def _turn(step: Step, seconds: float, losses: list[float]) -> list[float]:
    """Seconds a step, of samples that together take `seconds`; at least one sample."""
    number = 0

    def steps(count: int) -> float:
        nonlocal number
        started = time.perf_counter()
        for _ in range(count):
            result = step.run(number)
            number += 1
        step.wait(result)
        return time.perf_counter() - started

    once = steps(1)
    if once < seconds:
        once = min(once, steps(WARM_UP_STEPS) / WARM_UP_STEPS)
    count = max(1, round(SAMPLE_SECONDS / once))
    samples: list[float] = []
    ends = time.perf_counter() + seconds
    while not samples or time.perf_counter() < ends:
        samples.append(steps(count) / count)
    return samples


def _losses(step: Step, count: int, losses: list[float]) -> list[float]:
    """The losses of the first `count` steps."""
    losses += [step.loss(step.run(number)) for number in range(len(losses), count)]
    return losses[:count]


# What is called for a command, with the step, the command's argument and the losses so far.
COMMANDS: dict[str, Callable[[Step, Any, list[float]], Any]] = {
    "turn": _turn,
    "losses": _losses,
    "facts": lambda step, argument, losses: step.facts(),
    "memory": lambda step, argument, losses: step.memory(),
}

if __name__ == "__main__":
    main()
