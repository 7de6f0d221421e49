"""`needle-ir replay`: a failure file fails again, or does not any more."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir.cli import main
from needle_ir.ir import Graph
from needle_ir.passes import Rule, RulePass

ROOT = Path(__file__).resolve().parents[2]


class Breaks:
    """A pass that fails."""

    name = "cse"

    def run(self, graph: Graph) -> Graph:
        raise LookupError("no luck")


@pytest.fixture
def broken_cse(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr("needle_ir.passes.CSE", Breaks)
    return monkeypatch


@pytest.fixture
def file(tmp_path: Path, broken_cse: pytest.MonkeyPatch) -> Path:
    """The file that a failing program wrote."""
    broken_cse.setenv("NEEDLE_IR_CRASHES", str(tmp_path / "crashes"))
    with pytest.raises(LookupError):
        ndl.log(ndl.Tensor([1.0, 2.0])).numpy()
    (path,) = (tmp_path / "crashes").iterdir()
    return path


def test_it_fails_again(file: Path, capsys: Any) -> None:
    assert main(["replay", str(file)]) == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "it failed (pass 4 of 13, cse): LookupError: no luck"
    assert lines[1].startswith(f"with needle_ir {ndl.__version__}, numpy {np.__version__}")
    assert lines[2:] == ["it runs again on random inputs"]
    assert err.startswith("Traceback")
    assert err.endswith("LookupError: no luck\n")
    assert [*file.parent.iterdir()] == [file]


def test_it_does_not_fail_any_more(file: Path, capsys: Any, broken_cse: Any) -> None:
    broken_cse.undo()
    assert main(["replay", str(file)]) == 0
    assert capsys.readouterr().out.endswith("it does not fail any more\n")


def test_other_passes(file: Path, capsys: Any) -> None:
    assert main(["replay", str(file), "-p", "lower, dce"]) == 0
    assert main(["replay", str(file), "-p", "lower, cse"]) == 1


def test_the_other_commands_read_the_file(file: Path, capsys: Any) -> None:
    assert main(["opt", str(file), "-p", "lower"]) == 0
    assert " = log(" in capsys.readouterr().out
    assert main(["bisect", str(file)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("pass 4, cse, fails by itself")
    assert "LookupError: no luck" in out


def test_the_values_in_the_file_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The rule is wrong for 9, and right for 0 and 1."""
    rule = Rule("wrong", lambda x: ndl.ops.sqrt(x), lambda x: ndl.ops.minimum(x, 5.0))
    monkeypatch.setenv("NEEDLE_IR_CRASHES", str(tmp_path / "crashes"))
    monkeypatch.setenv("NEEDLE_IR_CRASH_VALUES", "1")
    compiled = ndl.compile(lambda x: ndl.sqrt(x), x := ndl.Tensor([0.0, 1.0, 9.0]))
    monkeypatch.setattr(compiled.program.executor, "_run", lambda x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        compiled(x)
    monkeypatch.undo()
    (path,) = (tmp_path / "crashes").iterdir()
    monkeypatch.setattr("needle_ir.passes.CSE", lambda: RulePass("cse", [rule]))
    assert main(["bisect", str(path), "-p", "cse"]) == 1
    assert "output 0: 1 of 3 elements differs, most at [2]: 3.0 before, 5.0 now" in (
        capsys.readouterr().out
    )


SILU = """
import needle_ir as ndl


@ndl.composite()
def replayed_silu(x):
    return x / (1 + ndl.exp(-x))
"""


def test_a_composite_of_the_program_is_named_with_its_file(
    tmp_path: Path, broken_cse: pytest.MonkeyPatch
) -> None:
    broken_cse.setenv("NEEDLE_IR_CRASHES", str(tmp_path / "crashes"))
    source = tmp_path / "replayed_program.py"
    source.write_text(SILU)
    namespace: dict[str, Any] = {"__name__": "replayed_program"}
    exec(compile(SILU, str(source), "exec"), namespace)
    with pytest.raises(LookupError):
        ndl.compile(namespace["replayed_silu"], ndl.Tensor([1.0]), pipeline="cse")
    (path,) = (tmp_path / "crashes").iterdir()
    assert replayed(path)[0] == 1
    assert f"the program defined replayed_silu in {source}:5" in replayed(path)[1]
    assert replayed(path, "--load", source, "-p", "lower, cse") == (0, "")


def replayed(*arguments: object) -> tuple[int, str]:
    """Exit status and stderr of the command in a process of its own."""
    command = [sys.executable, "-m", "needle_ir", "replay", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


def test_files_that_are_none(tmp_path: Path, capsys: Any, file: Path) -> None:
    assert main(["replay", str(tmp_path / "no.nir")]) == 1
    assert "can not be read" in capsys.readouterr().err
    (tmp_path / "graph.nir").write_text("graph @f() -> () {\n  return\n}")
    assert main(["replay", str(tmp_path / "graph.nir")]) == 1
    assert "this is no failure file" in capsys.readouterr().err
    file.write_text(file.read_text().replace("# pipeline: ", "# pipeline: mine, "))
    assert main(["replay", str(file)]) == 1
    err = capsys.readouterr().err
    assert "no pass 'mine'" in err
    assert "needle_ir.replay(FILE, pipeline=[…])" in err
