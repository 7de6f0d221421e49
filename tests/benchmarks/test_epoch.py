"""The benchmark of an epoch beside its steps."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_prints_the_ratio_of_what_it_timed():
    process = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/epoch.py"), "--rounds", "1", "--images", "250"],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    whole, alone, ratio = (
        float(re.search(pattern, process.stdout)[1])
        for pattern in (
            r"an epoch of 250 images in batches of 100: ([\d.]+) s",
            r"3 steps in the steady state: ([\d.]+) s",
            r"the epoch takes ([\d.]+) times",
        )
    )
    assert abs(whole / alone - ratio) < 0.3 * ratio
    assert whole > 0
