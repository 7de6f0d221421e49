"""`needle-ir dot`: what it draws, the files it writes, its errors."""

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import needle_ir as ndl
from needle_ir.cli import main
from needle_ir.viz import Change, to_dot

ROOT = Path(__file__).resolve().parents[2]
SOURCE = """
import numpy as np

import needle_ir as ndl
from needle_ir import nn

model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
batch = (ndl.Tensor(np.ones((8, 4), np.float32), requires_grad=False),)


def loss(x):
    return (ndl.exp(x) * 1.0 + ndl.exp(x)).sum()


def forward(x):
    return model(x).sum()


@ndl.jit
def fast(x):
    return loss(x)


graph = ndl.trace(loss, *batch)
"""

needs_dot = pytest.mark.skipif(
    shutil.which("dot") is None, reason="the dot program of Graphviz is not installed"
)


@pytest.fixture
def example(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / "drawn_example.py"
    path.write_text(SOURCE)
    yield path
    sys.modules.pop("drawn_example", None)


@pytest.fixture
def drawn(capsys, example):
    """The command on a function of the example: exit status, stdout, stderr."""

    def call(name, *arguments):
        sys.modules.pop("drawn_example", None)
        status = main(["dot", f"{example}:{name}", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def module():
    import drawn_example

    return drawn_example


def test_without_a_file_dot_is_printed(drawn):
    status, out, err = drawn("loss", "--args", "batch")
    assert (status, err) == (0, "")
    assert out == to_dot(ndl.trace(module().loss, *module().batch)).source
    assert drawn("graph")[1] == out


def test_levels_collapse_title_legend(drawn):
    _, out, _ = drawn("forward", "--args", "batch", "--level", "primitive", "--no-legend")
    graph = ndl.trace(module().forward, *module().batch)
    assert out == to_dot(graph, level="primitive", legend=False).source
    _, out, _ = drawn("forward", "--args", "batch", "--collapse", "0", "--title", "mine")
    graph = ndl.trace(module().forward, *module().batch)
    assert out == to_dot(graph, collapse=["0"], title="mine").source
    assert "mine" in out


def test_a_pipeline_a_pass_a_plan(drawn):
    def compiled(pipeline):
        return ndl.compile(ndl.trace(module().loss, *module().batch), pipeline=pipeline)

    target = ("loss", "--args", "batch")
    _, out, _ = drawn(*target, "-p", "simplify, cse")
    program = compiled("simplify, cse")
    assert out == to_dot(program.graph).source
    stages = [stage.graph for stage in program.stages]
    for wanted in ("cse", "2"):
        _, out, _ = drawn(*target, "-p", "simplify, cse", "--pass", wanted)
        assert out == to_dot(Change(stages[1], stages[2])).source
        assert "1 removed" in out
    _, out, _ = drawn(*target, "--plan")
    assert out == to_dot(compiled(None).plan).source
    assert "arena" in out


def test_a_profile_has_times(drawn):
    for name in ("loss", "fast"):
        status, out, err = drawn(name, "--args", "batch", "--profile")
        assert (status, err) == (0, "")
        assert "3 measured nodes" in out
        assert re.search(r"µs · \d+ %", out)
    assert "measured nodes" in drawn("graph", "--profile")[1]


@needs_dot
@pytest.mark.parametrize(
    ("name", "start"),
    [("a.svg", b"<?xml"), ("a.png", b"\x89PNG"), ("a.PDF", b"%PDF"), ("a.dot", b"digraph ")],
)
def test_files(drawn, tmp_path, name, start):
    assert drawn("loss", "--args", "batch", "-o", tmp_path / name) == (0, "", "")
    assert (tmp_path / name).read_bytes().startswith(start)


def test_without_the_dot_program(drawn, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    status, out, err = drawn("loss", "--args", "batch", "-o", tmp_path / "a.svg")
    assert (status, out) == (0, "")
    assert err.startswith("needle-ir dot: laid out without Graphviz: the dot program")
    assert ET.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    assert drawn("loss", "--args", "batch", "-o", tmp_path / "a.gv") == (0, "", "")
    status, _, err = drawn("loss", "--args", "batch", "-o", tmp_path / "a.png")
    assert status == 1
    assert "the dot program of Graphviz is not installed" in err
    assert err.endswith("an .svg comes out without it\n")
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "a.jpg"], "a.jpg is no name of a picture; it may end with .dot, .gv, .svg"),
        (["-o", "nowhere/a.svg"], "nowhere/a.svg can not be written: No such file or directory"),
        (["--pass", "css"], "no pass 'css' here; the passes are lower, fold, simplify, cse"),
        (["--pass", "99"], "no pass '99' here"),
        (["--pass", "lower"], "'lower' is 2 passes: give one of the numbers 1, 8"),
        (["-p", "css"], "css"),
    ],
)
def test_errors(drawn, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, out, err = drawn("loss", "--args", "batch", *arguments)
    assert (status, out) == (1, "")
    assert err.startswith("needle-ir dot: ")
    assert message in err
    assert "Traceback" not in err


def test_typos_end_with_status_2(drawn, capsys):
    for arguments, message in [
        (["--level", "modules"], "invalid choice: 'modules'"),
        (["--plan", "--profile"], "not allowed with argument"),
    ]:
        with pytest.raises(SystemExit) as ended:
            drawn("loss", "--args", "batch", *arguments)
        assert ended.value.code == 2
        assert message in capsys.readouterr().err


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["dot", "--help"])
    assert ended.value.code == 0
    assert "needle-ir dot train.py:loss --input" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["dot", "profile"])
def test_a_reader_that_has_enough(example, command):
    process = subprocess.Popen(
        [sys.executable, "-m", "needle_ir", command, f"{example}:loss", "--args", "batch"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")


def test_a_module_that_is_not_there(drawn):
    status, out, error = drawn("forward", "--args", "batch", "--collapse", "nowhere")
    assert (status, out) == (1, "")
    assert error.startswith("needle-ir dot: there is no module 'nowhere' to collapse; there are ")
