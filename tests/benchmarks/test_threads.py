"""The benchmark of the library's threads beside those of BLAS."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUSY = pytest.param(
    ["--busy"],
    marks=pytest.mark.skipif(
        not hasattr(os, "sched_setaffinity"), reason="a process can not be kept on one core"
    ),
)


@pytest.mark.parametrize("options", [[], BUSY])
def test_it_prints_a_step_for_each_number_of_threads(options: list[str]) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/threads.py"), "--rounds", "1", *options]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    (row,) = [line for line in process.stdout.splitlines() if re.match(r"\W*default\b", line)]
    assert [float(x) > 0 for x in re.findall(r"\d+\.\d\d", row)] == [True] * 3
