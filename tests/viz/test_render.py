"""Calling the `dot` program: its time limit, its absence, its failures, whole files only."""

import os
import shutil
import time

import numpy as np
import pytest

from needle_ir.ir import NO_ATTRS, Graph, Node, Op, TensorType, input_node
from needle_ir.viz import DotError, DotMissingError, DotTimeoutError, render_svg, to_dot

TYPE = TensorType((2,), np.dtype("float32"))
EXP = Op(name="exp", infer=lambda type: type)

needs_dot = pytest.mark.skipif(
    shutil.which("dot") is None, reason="the dot program of Graphviz is not installed"
)
needs_posix = pytest.mark.skipif(
    os.name != "posix", reason="the stand-in for dot is a shell script"
)


@pytest.fixture
def picture():
    x = input_node(TYPE, "größe")
    return to_dot(Graph([x], [Node(EXP, (x,), NO_ATTRS, TYPE)]))


@pytest.fixture
def fake_dot(tmp_path_factory, monkeypatch):
    """Put a shell script in the place of `dot`."""

    def install(script):
        folder = tmp_path_factory.mktemp("bin")
        program = folder / "dot"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return folder

    return install


@needs_dot
def test_writes_svg(picture, tmp_path):
    render_svg(picture, tmp_path / "graph.svg")
    text = (tmp_path / "graph.svg").read_text(encoding="utf-8")
    assert text.startswith("<?xml")
    assert text.rstrip().endswith("</svg>")
    assert ">exp</text>" in text
    assert [path.name for path in tmp_path.iterdir()] == ["graph.svg"]


@needs_posix
def test_passes_the_dot_text_and_takes_the_output(picture, tmp_path, fake_dot):
    fake_dot("cat; echo $1")
    render_svg(picture, str(tmp_path / "graph.svg"))
    assert (tmp_path / "graph.svg").read_text(encoding="utf-8") == f"{picture.source}-Tsvg\n"


def test_dot_is_missing(picture, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(DotMissingError, match="not installed or not on the PATH"):
        render_svg(picture, tmp_path / "graph.svg")
    assert not (tmp_path / "graph.svg").exists()


@needs_posix
@pytest.mark.parametrize("script", ["exec sleep 60", "sleep 60", "echo partly; sleep 60 & wait"])
def test_a_layout_that_takes_too_long_is_stopped(picture, tmp_path, fake_dot, script):
    fake_dot(script)
    start = time.monotonic()
    with pytest.raises(DotTimeoutError, match=r"longer than 0\.3 s"):
        render_svg(picture, tmp_path / "graph.svg", timeout=0.3)
    assert time.monotonic() - start < 10
    assert list(tmp_path.iterdir()) == []


@needs_posix
def test_what_dot_started_is_stopped_with_it(picture, tmp_path, fake_dot):
    fake_dot(f"(sleep 0.8; echo late > '{tmp_path}/late') & wait")
    with pytest.raises(DotTimeoutError):
        render_svg(picture, tmp_path / "graph.svg", timeout=0.3)
    time.sleep(1.0)
    assert not (tmp_path / "late").exists()


@needs_posix
def test_a_failure_of_dot_is_told_in_its_own_words(picture, tmp_path, fake_dot):
    fake_dot("echo partly; echo 'Error: trouble' >&2; echo in init_rank >&2; exit 3")
    (tmp_path / "graph.svg").write_text("the old picture")
    with pytest.raises(DotError, match="status 3: Error: trouble in init_rank"):
        render_svg(picture, tmp_path / "graph.svg")
    assert (tmp_path / "graph.svg").read_text() == "the old picture"
    assert [path.name for path in tmp_path.iterdir()] == ["graph.svg"]


@needs_posix
def test_a_crash_of_dot_is_told(picture, tmp_path, fake_dot):
    fake_dot("kill -11 $$")
    with pytest.raises(DotError, match="status -11: it said nothing"):
        render_svg(picture, tmp_path / "graph.svg")


@needs_posix
def test_a_folder_that_is_missing_is_an_os_error(picture, tmp_path, fake_dot):
    fake_dot("cat")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        render_svg(picture, tmp_path / "nowhere" / "graph.svg")


@needs_posix
def test_the_file_has_the_usual_permissions(picture, tmp_path, fake_dot):
    fake_dot("cat")
    (tmp_path / "usual").write_text("")
    render_svg(picture, tmp_path / "graph.svg")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1
