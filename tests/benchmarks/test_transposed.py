"""The benchmark of transposed operands."""

import re
import subprocess
import sys
from pathlib import Path

from benchmarks.transposed import SHAPES

ROOT = Path(__file__).parents[2]


def test_it_prints_a_row_for_each_shape() -> None:
    command = [sys.executable, str(ROOT / "benchmarks/transposed.py"), "--rounds", "2"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    rows = re.findall(r"(\d+) by (\d+) by (\d+).*?([\d.]+).*?([\d.]+).*?([\d.]+)", process.stdout)
    assert [tuple(map(int, row[:3])) for row in rows] == [*SHAPES]
    assert all(float(x) > 0 for row in rows for x in row[3:])
