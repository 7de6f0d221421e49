"""`needle-ir bisect` on text graphs and on functions in files."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from needle_ir.cli import main
from needle_ir.passes import Rule, RulePass
from tests.cli.test_opt import LOSS

SOURCE = """
import numpy as np
import needle_ir as ndl

weight = ndl.Tensor(np.full((8, 3), 0.5))


def loss(x):
    return ndl.tanh(x @ weight).sum()


def fails(x):
    return x @ x
"""


@pytest.fixture
def bisect(capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command. Gives exit status, stdout and stderr."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    Path("loss.nir").write_text(LOSS)
    Path("bisected_example.py").write_text(SOURCE)

    def run(*arguments: str) -> tuple[int, str, str]:
        sys.modules.pop("bisected_example", None)
        status = main(["bisect", *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    yield run
    sys.modules.pop("bisected_example", None)


@pytest.fixture
def wrong_cse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pass cse, with a rule that is wrong."""
    rule = Rule(
        "adds-one-first",
        lambda x, y: x @ y,
        lambda x, y: (x + 1.0) @ y,
        lambda x: x.op.name != "add",
    )
    monkeypatch.setattr("needle_ir.passes.CSE", lambda: RulePass("cse", [rule]))


def test_nothing_is_at_fault(bisect: Any) -> None:
    status, out, err = bisect("loss.nir")
    assert (status, err) == (0, "")
    assert out.startswith("no difference")


def test_the_rewrite_is_named(bisect: Any, wrong_cse: None) -> None:
    status, out, err = bisect("loss.nir", "-p", "simplify, cse, autodiff")
    assert (status, err) == (1, "")
    assert out.startswith(
        "the rewrite adds-one-first of pass 2, cse, changes the numbers (number 1 of 1)\n"
        "    mlp.py:5 in loss\n    - %"
    )


def test_on_given_inputs(bisect: Any, wrong_cse: None) -> None:
    np.savez("zeros.npz", x=np.zeros((4, 8)), w=np.zeros((8, 3)))
    np.savez("other.npz", x=np.zeros((4, 8)), w=np.ones((8, 3)))
    assert bisect("loss.nir", "-p", "cse", "--npz", "zeros.npz")[0] == 1  # the gradient differs
    status, out, _ = bisect("loss.nir", "-p", "cse", "--npz", "other.npz")
    assert status == 1
    assert "0.0 before, 8.0 now" in out
    status, _, err = bisect("loss.nir", "--npz", "no.npz")
    assert (status, "--npz no.npz" in err) == (1, True)
    np.savez("wrong.npz", x=np.zeros((4, 8)), v=np.ones((8, 3)))
    status, _, err = bisect("loss.nir", "--npz", "wrong.npz")
    assert (status, "wrong.npz has x, v; it lacks w" in err) == (1, True)


def test_a_function_with_what_it_reads(bisect: Any, wrong_cse: None) -> None:
    target = ("bisected_example.py:loss", "--input", "f32[4,8]")
    assert bisect(*target, "-p", "simplify")[0] == 0
    status, out, _ = bisect(*target, "-p", "cse")
    assert status == 1
    assert "bisected_example.py:9 in loss: return ndl.tanh(x @ weight).sum()" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["loss.nir", "--input", "f32[4]"], "a graph takes --npz"),
        (["loss.nir", "-p", "cze"], "did you mean dce or cse?"),
        (["no.nir"], "no.nir can not be read"),
        (["bisected_example.py:fails", "--input", "f32[4,2]"], "inner dimensions 2 and 4 differ"),
        (["bisected_example.py"], "write FILE:FUNCTION"),
    ],
)
def test_errors(bisect: Any, arguments: list[str], message: str) -> None:
    status, out, err = bisect(*arguments)
    assert (status, out) == (1, "")
    assert message in err
    assert err.startswith("needle-ir bisect: ")
