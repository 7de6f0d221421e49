"""Contenders in processes of their own, which take turns on command."""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from benchmarks.configurations import Configuration
from benchmarks.contender import Contender
from benchmarks.cores import environment

ROOT = Path(__file__).resolve().parent.parent


class TimeLimitError(Exception):
    """A contender did not answer in time. It was ended."""


class AbsentError(Exception):
    """What a contender needs is not installed."""


class FailedError(Exception):
    """A contender ended with an error, which is in the message."""


class Process:
    """A contender that was started. `first_seconds` is the time from the start to the end of its
    first step, `phases` what of it went where. It waits, and uses no processor, between commands.

    Raises AbsentError, TimeLimitError or FailedError. `python` is the interpreter.
    """

    def __init__(
        self,
        contender: Contender,
        configuration: Configuration,
        cores: Sequence[int],
        limit: float,
        python: str = sys.executable,
    ):
        request = {
            "contender": contender.name,
            "configuration": asdict(configuration),
            "cores": list(cores),
        }
        self.contender = contender
        self._limit = limit
        self._scratch = tempfile.TemporaryDirectory(prefix="needle_ir-benchmark-")
        scratch = Path(self._scratch.name)
        self._errors = open(scratch / "stderr", "w+b")  # noqa: SIM115 - closed in close()
        self._answers = b""
        started = time.perf_counter()
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", json.dumps(request)],
            cwd=scratch,
            env=environment(len(cores), ROOT, scratch),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            start_new_session=True,  # so that the compilers it starts end with it
        )
        try:
            answer = self._answer()
            if "absent" in answer:
                raise AbsentError(f"{answer['absent']} is not installed")
        except BaseException:
            self.close()
            raise
        self.first_seconds = time.perf_counter() - started
        self.phases: dict[str, float] = answer["seconds"]

    def ask(self, command: str, argument: Any = None) -> Any:
        """What the contender answers to a command (see worker.py)."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([command, argument]).encode() + b"\n")
            return self._answer()
        except BrokenPipeError:
            raise self._failure() from None
        except TimeLimitError:
            self.close()
            raise

    def close(self) -> None:
        """End the process and whatever it started."""
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                pipe.close()
        self._scratch.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _answer(self) -> Any:
        stdout = self._process.stdout
        assert stdout is not None
        deadline = time.perf_counter() + self._limit
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while b"\n" not in self._answers:
                if not selector.select(max(0.0, deadline - time.perf_counter())):
                    raise TimeLimitError(f"none within {self._limit:g} s")
                read = os.read(stdout.fileno(), 1 << 16)
                if not read:
                    raise self._failure()
                self._answers += read
        line, _, self._answers = self._answers.partition(b"\n")
        return json.loads(line)

    def _failure(self) -> FailedError:
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()
        return FailedError(f"{self.contender.name} ended with an error:\n{said}")
