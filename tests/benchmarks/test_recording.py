"""The benchmark of what a step takes besides its plan."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    page = tmp_path_factory.mktemp("recording") / "page.md"
    page.write_text("before\n<!-- begin recording -->\n<!-- end recording -->\nafter\n")
    process = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/recording.py"), "--steps", "40",
         "--markdown", str(page)],
        env=os.environ | {"OPENBLAS_CORETYPE": "Prescott"},
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return page.read_text()


def cells(page):
    rows = [line[2:-2].split(" | ") for line in page.splitlines() if line.startswith("| ")]
    return {row[0]: [float(cell) if cell else None for cell in row[1:]] for row in rows[2:]}


def test_the_parts_are_what_they_are_together(page):
    table = cells(page)
    eager = [table[part][0] for part in table if part not in ("together", "the plan itself")]
    assert sum(x is not None for x in eager) == 7
    assert abs(sum(x or 0 for x in eager) - table["together"][0]) < 7
    assert min(x for x in eager if x is not None) > 0


def test_jit_has_one_part_besides_its_plan(page):
    table = cells(page)
    assert table["guards, leaves, reference counts"] == [None, table["together"][1]]
    assert table["forward pass"][1] is None
    assert table["the plan itself"][1] > 0


def test_it_names_the_python_and_keeps_the_rest_of_the_page(page):
    assert f"CPython {sys.version.split()[0]}" in page
    assert page.startswith("before\n")
    assert page.endswith("after\n")


def test_kernels_that_somebody_set_are_not_used(page):
    assert "OPENBLAS_CORETYPE" in page
    assert "Prescott" not in page
