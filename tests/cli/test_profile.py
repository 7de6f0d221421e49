"""`needle-ir profile`: its tables, JSON and trace, what it measures, its errors."""

import json
import sys

import pytest

from needle_ir.cli import main

SOURCE = """
import numpy as np

import needle_ir as ndl

calls = []
batch = (ndl.Tensor(np.ones((8, 4), np.float32), requires_grad=False),)
w = ndl.Tensor(np.ones((4, 2), np.float32))


def loss(x):
    calls.append(x)
    return ndl.relu(x @ w).sum()


@ndl.jit
def fast(x):
    return loss(x)


def nothing(x):
    return None


def fails(x):
    return x @ x


graph = ndl.trace(loss, *batch)
compiled = ndl.compile(loss, *batch)
calls.clear()
"""


@pytest.fixture
def profiled(tmp_path, monkeypatch, capsys):
    """The command on a function of the example: exit status, stdout, stderr."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / "profiled_example.py"
    path.write_text(SOURCE)

    def call(name, *arguments):
        sys.modules.pop("profiled_example", None)
        status = main(["profile", f"{path}:{name}", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    yield call
    sys.modules.pop("profiled_example", None)


def rows(table):
    """The calls of each row of a table, by its name."""
    lines = [line.split() for line in table.splitlines()[1:]]
    return {line[0]: int(line[1]) for line in lines}


def test_the_tables(profiled):
    status, out, err = profiled("loss", "--args", "batch")
    assert (status, err) == (0, "")
    head, by_kernel, by_module, by_line = out.split("\n\n")
    assert "passes 0.00 ms" in head, "it is compiled before"
    assert rows(by_kernel) == {"matmul": 10, "relu": 10, "sum": 10}
    assert by_module.startswith("module")
    assert "profiled_example.py:13 in loss" in by_line
    assert len(sys.modules["profiled_example"].calls) == 11


@pytest.mark.parametrize("name", ["fast", "graph", "compiled"])
def test_what_is_compiled_already(profiled, name):
    arguments = () if name == "graph" else ("--args", "batch")
    status, out, _ = profiled(name, *arguments, "--by", "kernel", "--runs", 3)
    assert status == 0
    assert rows(out.split("\n\n")[1]) == {"matmul": 3, "relu": 3, "sum": 3}


def test_another_pipeline(profiled):
    _, out, _ = profiled("loss", "--args", "batch", "--by", "phase", "-p", "dce", "--runs", 1)
    head, by_phase = out.split("\n\n")
    assert "3 kernel calls" in head
    assert rows(by_phase) == {"forward": 3}


def test_json(profiled):
    _, out, _ = profiled("loss", "--args", "batch", "--json", "--runs", 2)
    data = json.loads(out)
    assert (data["version"], data["runs"]) == (1, 2)
    assert {"by_kernel", "by_module", "by_line", "by_phase"} <= data.keys()
    (product,) = [row for row in data["by_kernel"] if row["name"] == "matmul"]
    assert product["calls"] == 2
    assert product["flops"] == 2 * 2 * 8 * 4 * 2
    assert product["bytes_moved"] == 2 * 4 * (8 * 4 + 4 * 2 + 8 * 2)
    assert product["gflops"] == pytest.approx(product["flops"] / product["seconds"] / 1e9)
    assert 0 < data["kernel_seconds"] < data["seconds"]
    _, out, _ = profiled("loss", "--args", "batch", "--json", "--by", "line")
    assert [key for key in json.loads(out) if key.startswith("by_")] == ["by_line"]


def test_the_trace(profiled, tmp_path):
    path = tmp_path / "trace.json"
    assert profiled("loss", "--args", "batch", "--trace", path, "--runs", 2)[0] == 0
    events = json.loads(path.read_text())["traceEvents"]
    names = [event["name"] for event in events if event["ph"] == "X"]
    assert names == ["matmul", "relu", "sum"] * 2


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("loss", ["--runs", "0"], "--runs 0: at least one"),
        ("loss", ["--trace", "nowhere/t.json"], "nowhere/t.json can not be written: No such file"),
        ("loss", ["-p", "css"], "css"),
        ("nothing", [], "nothing runs no kernel"),
        ("compiled", ["-p", "dce"], "compiled is compiled already"),
        ("los", [], "there is no los in"),
        ("fails", [], "return x @ x"),
    ],
)
def test_errors(profiled, tmp_path, monkeypatch, name, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, out, err = profiled(name, "--args", "batch", *arguments)
    assert (status, out) == (1, "")
    assert err.startswith("needle-ir profile: ")
    assert message in err


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["profile", "--help"])
    assert ended.value.code == 0
    assert "needle-ir profile train.py:loss --input" in capsys.readouterr().out
