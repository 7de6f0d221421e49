"""Failure files: when one is written, what is in it, and that it fails again when replayed."""

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import failures, ops
from needle_ir.failures import Failure, without_files
from needle_ir.ir import Graph, ShapeError, structurally_equal
from needle_ir.passes import NotDifferentiableError, Rule, RulePass
from needle_ir.runtime import MissingKernelError
from tests.passes.graph_text import arg


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEEDLE_IR_CRASHES", str(tmp_path / "crashes"))
    return tmp_path / "crashes"


@dataclass(frozen=True)
class Breaks:
    """A pass that fails."""

    error: BaseException = field(repr=False)
    name = "breaks"

    def run(self, graph: Graph) -> Graph:
        raise self.error


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


def table_graph() -> Graph:
    x = arg("x", 40)
    return Graph([x], [ops.sum(ops.exp(x) * np.arange(40, dtype=np.float32))], name="loss")


def failing(error: BaseException) -> BaseException:
    with pytest.raises(type(error)) as caught:
        ndl.compile(table_graph(), pipeline=["lower", Breaks(error)])
    return caught.value


# When the compiler fails --------------------------------------------------------------------------


def test_a_pass_that_fails(folder: Path) -> None:
    error = failing(LookupError("no such\nthing"))
    (path,) = files(folder)
    assert error.args == ("no such\nthing",)
    assert error.__notes__ == [
        f"needle_ir failed (pass 2 of 2, breaks); what it failed on is in {path}\n"
        f"run it again with: needle-ir replay {path}"
    ]
    text = path.read_text()
    failure = Failure.read(text)
    assert failure.error == "LookupError: no such | thing"
    assert failure.stage == "pass 2 of 2, breaks"
    assert failure.pipeline == "lower, breaks"
    assert failure.values is None
    assert f"needle_ir {ndl.__version__}, numpy {np.__version__}, python 3." in failure.versions
    assert "raise self.error" in text  # the traceback
    # The constant of 40 elements is there with all of its bits.
    (constant,) = [x for x in failure.graph.nodes if x.type.size == 40 and x.op.name == "constant"]
    np.testing.assert_array_equal(constant.attrs["value"], np.arange(40))
    assert f"# {__file__}:" in text
    assert [str(x.type) for x in failure.graph.inputs] == ["f32[40]"]


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), AssertionError(), MemoryError(), RecursionError(), TypeError("x")]
)
def test_what_counts(folder: Path, error: Exception) -> None:
    failing(error)
    assert len(files(folder)) == 1


@pytest.mark.parametrize(
    "error",
    [
        ShapeError("x"),
        NotDifferentiableError("x"),
        MissingKernelError("x"),
        FloatingPointError("x"),
        PermissionError("x"),
    ],
)
def test_what_does_not(folder: Path, error: Exception) -> None:
    assert not hasattr(failing(error), "__notes__")
    assert files(folder) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_leaving_is_no_failure(folder: Path, error: BaseException) -> None:
    assert not hasattr(failing(error), "__notes__")
    assert files(folder) == []


def test_a_value_that_is_asked_for_while_tracing_is_no_failure(folder: Path) -> None:
    with pytest.raises(ndl.TracedValueError):
        ndl.jit(lambda x: x if x.sum().item() > 0 else -x)(ndl.Tensor([1.0]))
    assert files(folder) == []


def test_planning_that_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: Graph, replaced: object) -> None:
        raise RuntimeError("no memory plan")

    monkeypatch.setattr("needle_ir.passes.make_plan", broken)
    x = ndl.Tensor([1.0, 2.0])
    with pytest.raises(RuntimeError, match="no memory plan"):
        (x * 3).numpy()
    assert Failure.read(files(folder)[0].read_text()).stage == "planning"


def broken_program(x: ndl.Tensor, error: Exception) -> Any:
    def run(*arrays: Any) -> Any:
        raise error

    compiled = ndl.compile(lambda x: ndl.exp(x) * 2, x)
    compiled.program.executor._run = run
    return compiled


def test_a_run_that_fails(folder: Path) -> None:
    x = ndl.Tensor([1.0, 2.0])
    with pytest.raises(IndexError) as caught:
        broken_program(x, IndexError("list index out of range"))(x)
    assert "needle_ir failed (running)" in caught.value.__notes__[0]
    failure = Failure.read(files(folder)[0].read_text())
    assert (failure.stage, failure.values) == ("running", None)


def test_an_error_that_the_numbers_make_is_no_failure(folder: Path) -> None:
    x = ndl.Tensor([1.0, 2.0])
    for wrong in (
        lambda: ops.gather(x, ndl.Tensor(np.array([7]))),
        lambda: ndl.Tensor(np.array([2, 3])) ** ndl.Tensor(np.array([-1, -2])),
    ):
        before = np.random.get_state()[1].copy()
        with pytest.raises((IndexError, ValueError)) as caught:
            wrong().numpy()
        assert not hasattr(caught.value, "__notes__")
        np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert files(folder) == []


def test_a_nan_that_was_looked_for_is_no_failure(folder: Path) -> None:
    with pytest.raises(FloatingPointError), ndl.debug_nans():
        ndl.log(ndl.Tensor([-1.0])).numpy()
    assert files(folder) == []


def test_values_are_written_when_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = ndl.Tensor(np.array([0.1, -0.0, np.nan]))
    with pytest.raises(RuntimeError):
        broken_program(x, RuntimeError("1"))(x)
    monkeypatch.setenv("NEEDLE_IR_CRASH_VALUES", "1")
    with pytest.raises(RuntimeError):
        broken_program(x, RuntimeError("2"))(x)
    values = [Failure.read(path.read_text()).values for path in files(folder)]
    (written,) = [x for x in values if x is not None]
    assert [a.tobytes() for a in written] == [x.numpy().tobytes()]


# The folder ---------------------------------------------------------------------------------------


def test_old_files_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "MAX_FILES", 3)
    folder.mkdir()
    (folder / "mine.nir").write_text("mine")
    for number in range(5):
        failing(RuntimeError(f"number {number}"))
        for age, path in enumerate(sorted(files(folder), key=lambda x: x.stat().st_mtime)):
            os.utime(path, (age, age))
    kept = [Failure.read(x.read_text()).error for x in files(folder) if x.name != "mine.nir"]
    assert sorted(kept) == [f"RuntimeError: number {i}" for i in (2, 3, 4)]
    assert (folder / "mine.nir").exists()


def test_the_same_failure_is_one_file(folder: Path) -> None:
    for _ in range(3):
        failing(RuntimeError("again"))
    assert len(files(folder)) == 1
    assert stat.S_IMODE(files(folder)[0].stat().st_mode) == 0o600


def test_nothing_is_written_where_the_variable_is_empty(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NEEDLE_IR_CRASHES", "")
    monkeypatch.chdir(tmp_path)
    assert not hasattr(failing(RuntimeError("x")), "__notes__")
    assert list(tmp_path.iterdir()) == []


def test_without_the_variable_a_folder_for_temporary_files_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NEEDLE_IR_CRASHES")
    monkeypatch.setattr(failures.tempfile, "gettempdir", lambda: str(tmp_path))
    failing(RuntimeError("x"))
    (folder,) = tmp_path.iterdir()
    assert re.fullmatch(r"needle_ir-crashes-\w+", folder.name)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_can_not_be_written_does_not_hide_the_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEEDLE_IR_CRASHES", str(tmp_path / "file" / "folder"))
    error = failing(RuntimeError("the real one"))
    assert str(error) == "the real one"
    assert error.__notes__[0].startswith("needle_ir could not write a failure file: ")


def test_too_large_constants_are_not_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "MAX_BYTES", 100)
    error = failing(RuntimeError("x"))
    assert error.__notes__ == [
        "needle_ir could not write a failure file: the constants of the graph take 160 bytes"
    ]
    assert files(folder) == []


def test_inside_of_without_files(folder: Path) -> None:
    with without_files():
        failing(RuntimeError("x"))
    assert files(folder) == []


# Replay -------------------------------------------------------------------------------------------


def test_a_file_fails_again_with_the_pass(folder: Path) -> None:
    failing(LookupError("x"))
    (path,) = files(folder)
    with pytest.raises(LookupError, match="again") as caught:
        ndl.replay(path, pipeline=["lower", Breaks(LookupError("again"))])
    assert not hasattr(caught.value, "__notes__")
    assert files(folder) == [path]
    with pytest.raises(ValueError, match="no pass 'breaks'"):
        ndl.replay(path)
    with without_files():
        (result,) = ndl.replay(path, pipeline="lower, cse")
    x = np.random.default_rng(0).standard_normal(40).astype(np.float32)
    np.testing.assert_allclose(result, (np.exp(x) * np.arange(40)).sum(), rtol=1e-4)


def test_the_values_in_the_file_are_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEEDLE_IR_CRASH_VALUES", "1")
    x = ndl.Tensor([1.0, 2.0])
    with pytest.raises(RuntimeError):
        broken_program(x, RuntimeError("x"))(x)
    (result,) = ndl.replay(files(folder)[0])
    np.testing.assert_allclose(result, 2 * np.exp([1.0, 2.0]), rtol=1e-6)


def test_the_graph_is_the_recorded_one(folder: Path) -> None:
    x, y = arg("x", 3), arg("y", 3)
    graph = Graph([x, y], [ops.grad(ops.sum(ops.softmax(x * y, 0)), x)], [], [ops.exp(y)])
    loops = Rule("loops", lambda a, b: a * b, lambda a, b: b * a)
    with pytest.raises(RuntimeError, match="undo each other"):
        ndl.compile(graph, pipeline=["stabilize", RulePass("mine", [loops])])
    failure = Failure.read(files(folder)[0].read_text())
    assert structurally_equal(failure.graph, graph)
    assert [x.op.name for x in failure.graph.unused] == ["exp"]


def test_every_line_above_the_graph_is_a_comment(folder: Path) -> None:
    @dataclass(frozen=True)
    class Told:
        text: str = "two\nlines"
        name = "told"

        def run(self, graph: Graph) -> Graph:
            raise ValueError(self.text)

    with pytest.raises(ValueError, match="lines"):
        ndl.compile(table_graph(), pipeline=[Told("more\nlines")])
    failure = Failure.read(files(folder)[0].read_text())
    assert (failure.error, failure.pipeline) == (
        "ValueError: more | lines",
        "told{text=more | lines}",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("graph @f() -> () {\n  return\n}", "no failure file: it lacks error, pipeline, stage"),
        ("# error: x\n# stage: x\n# pipeline: cse\n# versions: 1\nnonsense", "expected `graph`"),
    ],
)
def test_other_files(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.nir"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        ndl.replay(path)
