"""`needle-ir opt`: a graph in, passes, a graph out; its checks, its errors."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.cli import main
from needle_ir.ir import Graph, Node, parse, structurally_equal
from needle_ir.passes import Rule, RulePass
from tests.passes.graph_text import arg

LOSS = """graph @loss(%x: f32[4,8], %w: f32[8,3]) -> (f32[], f32[8,3]) {
  %0 = matmul(%x, %w) : f32[4,3]                    # mlp.py:5 in loss
  %1 = constant {value=1.0} : f32[]
  %2 = multiply(%0, %1) : f32[4,3]                  # mlp.py:5 in loss
  %3 = exp(%2) : f32[4,3]                           # mlp.py:6 in loss
  %4 = sum(%3) {axes=[1], keepdims=false} : f32[4]  # mlp.py:6 in loss
  %5 = log(%4) : f32[4]                             # mlp.py:6 in loss
  %6 = sum(%5) {axes=[0], keepdims=false} : f32[]   # mlp.py:6 in loss
  %7 = grad(%6, %w) : f32[8,3]                      # mlp.py:9 in <module>
  return %6, %7
}
"""


@pytest.fixture
def opt(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command on a text. Gives exit status, stdout and stderr."""
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(text: str, *arguments: str) -> tuple[int, str, str]:
        file = tmp_path / "loss.nir"
        file.write_text(text)
        status = main(["opt", str(file), *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def wrong_cse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pass cse, with a rule that is wrong."""
    rule = Rule("wrong", lambda x, y: x * y, lambda x, y: x + y)
    monkeypatch.setattr("needle_ir.passes.CSE", lambda: RulePass("cse", [rule]))


def test_without_passes_the_graph_is_printed(opt: Any) -> None:
    assert opt(LOSS) == (0, LOSS, "")


def test_passes_run_in_order(opt: Any) -> None:
    status, out, err = opt(LOSS, "-p", "simplify, stabilize")
    assert (status, err) == (0, "")
    assert out == (
        "graph @loss(%x: f32[4,8], %w: f32[8,3]) -> (f32[], f32[8,3]) {\n"
        "  %0 = matmul(%x, %w) : f32[4,3]                          # mlp.py:5 in loss\n"
        "  %1 = logsumexp(%0) {axes=[1], keepdims=false} : f32[4]  # mlp.py:6 in loss\n"
        "  %2 = sum(%1) {axes=[0], keepdims=false} : f32[]         # mlp.py:6 in loss\n"
        "  %3 = grad(%2, %w) : f32[8,3]                            # mlp.py:9 in <module>\n"
        "  return %2, %3\n"
        "}\n"
    )


def test_the_default_pipeline_with_every_check(opt: Any) -> None:
    checks = ("--verify-each", "--numeric-check", "--seed", "3")
    status, out, err = opt(LOSS, "-p", "default", *checks)
    assert status == 0
    assert err.startswith("# numeric check: the same numbers up to rounding after ")
    assert err.endswith(" changes, on 2 sets of inputs\n")
    optimized = parse(out)
    assert optimized.count("grad") == 0
    assert "needle-ir" not in out  # what autodiff adds is not of the command's own lines
    assert opt(out, "-p", "cse") == (0, out, "")


def test_a_graph_after_each_change_on_stderr(opt: Any) -> None:
    status, out, err = opt(LOSS, "-p", "cse, simplify, dce, stabilize", "--print-after-change")
    assert status == 0
    heads = [line.split(":")[0] for line in err.splitlines() if line.startswith("#")]
    assert heads == ["# after pass 2 of 4, simplify", "# after pass 4 of 4, stabilize"]
    assert " ms, 10 -> 8 nodes\n" in err
    last = err[err.rindex("# after") :]
    assert structurally_equal(parse(last), parse(out))


def test_commands_can_be_chained(opt: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    x = arg("x", 20)
    graph = Graph([x], [x * np.arange(20.0, dtype=np.float32)])
    _, short, _ = opt(graph.format(full=True), "-p", "simplify")
    _, full, _ = opt(graph.format(full=True), "-p", "simplify", "--full-constants")
    assert "<20 elements>" in short
    monkeypatch.setattr(sys, "stdin", io.StringIO(full))
    assert main(["opt", "-", "-p", "cse", "--full-constants"]) == 0
    assert capsys.readouterr().out == full
    monkeypatch.setattr(sys, "stdin", io.StringIO(short))
    assert main(["opt", "-"]) == 1
    assert "--full-constants" in capsys.readouterr().err


def test_a_file_for_the_result(opt: Any, tmp_path: Path) -> None:
    result = tmp_path / "result.nir"
    assert opt(LOSS, "-o", str(result)) == (0, "", "")
    assert result.read_text() == LOSS
    status, _, err = opt(LOSS, "-o", str(tmp_path / "no" / "folder.nir"))
    assert status == 1
    assert "folder.nir can not be written" in err


def test_the_numeric_check_names_the_pass(opt: Any, wrong_cse: None) -> None:
    status, out, err = opt(LOSS, "-p", "lower, cse, autodiff", "--numeric-check")
    assert (status, out) == (1, "")
    assert err.startswith("needle-ir opt: pass 2 of 3, cse, changed the numbers\n    output 0: ")
    assert "(tolerance " in err
    assert err.endswith("needle-ir bisect names the rewrite\n")


def test_the_numeric_check_on_given_inputs(opt: Any, wrong_cse: None, tmp_path: Path) -> None:
    # 2 * 2 = 2 + 2: on these numbers the wrong rule is right.
    text = "graph @f(%x: f64[2], %y: f64[2]) -> f64[2] {\n  %0 = multiply(%x, %y) : f64[2]\n"
    text += "  return %0\n}\n"
    arrays = tmp_path / "inputs.npz"
    np.savez(arrays, x=np.full(2, 2.0), y=np.full(2, 2.0))
    status, _, err = opt(text, "-p", "cse", "--numeric-check", "--npz", str(arrays))
    assert (status, "to the bit after 1 change, on 1 set" in err) == (0, True)
    np.savez(arrays, np.full(2, 2.0), np.full(2, 3.0))
    status, _, err = opt(text, "-p", "cse", "--numeric-check", "--npz", str(arrays))
    assert status == 1
    assert "output 0: 2 of 2 elements differ, most at [0]: 6.0 before, 5.0 now" in err


def test_a_check_after_each_pass(opt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaks:
        name = "cse"

        def run(self, graph: Graph) -> Graph:
            y = graph.outputs[0]
            wrong = Node(y.op, y.inputs, y.attrs, graph.inputs[0].type)
            return Graph(graph.inputs, [wrong, *graph.outputs[1:]], name=graph.name)

    monkeypatch.setattr("needle_ir.passes.CSE", Breaks)
    status, _, err = opt(LOSS, "-p", "lower, cse, dce", "--verify-each")
    assert status == 1
    assert err.startswith("needle-ir opt: after the pass cse: @loss: `")
    assert opt(LOSS, "-p", "lower, cse")[0] == 0  # it was not asked to check


def test_an_error_in_a_pass_names_it(opt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "graph @f(%x: f32[3]) -> f32[3] {\n  %0 = sign(%x) : f32[3]  # a.py:3 in f\n"
    text += "  %1 = random_bits(%x) : f32[3]\n  %2 = grad(%0, %x) : f32[3]\n  return %2\n}"
    status, _, err = opt(text, "-p", "autodiff")
    assert (status, "there is no op random_bits" in err) == (1, True)

    class Raises:
        name = "cse"

        def run(self, graph: Graph) -> Graph:
            raise LookupError("no luck")

    monkeypatch.setattr("needle_ir.passes.CSE", Raises)
    status, _, err = opt(LOSS, "-p", "lower, cse")
    assert status == 1
    assert err.startswith("needle-ir opt: pass 2 of 2, cse failed\nTraceback")
    assert "LookupError: no luck" in err


COMPOSITE = """
import needle_ir as ndl


@ndl.composite()
def opt_test_silu(x):
    return x / (1 + ndl.exp(-x))
"""


def test_composites_of_a_file(opt: Any, tmp_path: Path) -> None:
    text = "graph @f(%x: f32[3]) -> f32[3] {\n  %0 = opt_test_silu(%x) : f32[3]\n  return %0\n}"
    status, _, err = opt(text, "-p", "lower")
    assert (status, "--load FILE.py" in err) == (1, True)
    file = tmp_path / "opt_test_composites.py"
    file.write_text(COMPOSITE)
    status, out, _ = opt(text, "-p", "lower", "--load", str(file))
    assert status == 0
    assert parse(out).count("divide") == parse(out).count("exp") == 1
    sys.modules.pop("opt_test_composites", None)
    assert "there is no file" in opt(text, "--load", str(tmp_path / "no.py"))[2]


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (
            LOSS,
            ["-p", "lower, simplfy"],
            "no pass 'simplfy'; did you mean simplify? the passes are",
        ),
        (LOSS, ["-p", "cse{x=1}"], "pass 'cse'"),
        (
            LOSS.replace("exp(%2)", "expp(%2)"),
            [],
            "loss.nir: line 5, column 8: there is no op expp",
        ),
        (LOSS, ["--numeric-check", "--npz", "no.npz"], "--npz no.npz: [Errno 2]"),
        ("", [], "loss.nir: line 1, column 1: expected `graph`"),
    ],
)
def test_errors(opt: Any, text: str, arguments: list[str], message: str) -> None:
    status, out, err = opt(text, *arguments)
    assert (status, out) == (1, "")
    assert err.startswith("needle-ir opt: ")
    assert message in err
    assert "Traceback" not in err


def test_files_that_can_not_be_read(capsys: Any, tmp_path: Path) -> None:
    assert main(["opt", str(tmp_path / "no.nir")]) == 1
    assert "no.nir can not be read" in capsys.readouterr().err
    (tmp_path / "binary.nir").write_bytes(b"\xff\xfe\x00")
    assert main(["opt", str(tmp_path / "binary.nir")]) == 1
    assert "binary.nir can not be read" in capsys.readouterr().err


def test_a_graph_that_fails_without_passes(opt: Any) -> None:
    x = arg("x", 3)
    graph = Graph([x], [ops.gather(x, ops.as_constant(np.array([5])))])
    status, _, err = opt(graph.format(), "-p", "cse", "--numeric-check")
    assert status == 1
    assert "the graph fails on these inputs before any pass; --npz FILE gives others" in err
