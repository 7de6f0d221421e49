"""`needle-ir replay`: a failure file fails again, or does not any more."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir.cli import main
from needle_ir.ir import Graph


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
    assert lines[0] == "it failed (pass 4 of 14, cse): LookupError: no luck"
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
