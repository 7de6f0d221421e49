"""Dumping a pipeline: the files, what they say, and what happens where one can not be made."""

import os
import shutil
from dataclasses import dataclass

import numpy as np
import pytest

from needle_ir.ir import NO_ATTRS, Graph, Instrument, Node, Op, TensorType, input_node, print_graph
from needle_ir.viz import GraphDumper, to_dot

TYPE = TensorType((2,), np.dtype("float32"))
EXP = Op(name="exp", infer=lambda type: type)
LOG = Op(name="log", infer=lambda type: type)

needs_posix = pytest.mark.skipif(
    os.name != "posix", reason="the stand-in for dot is a shell script"
)


@dataclass(frozen=True)
class Named:
    """A pass that only has a name: the dumper is told what came out."""

    name: str

    def run(self, graph):
        return graph


def chain(*ops):
    x = h = input_node(TYPE, "x")
    for op in ops:
        h = Node(op, (h,), NO_ATTRS, TYPE)
    return Graph([x], [h], name="chain")


def dump(dumper, *stages):
    """Let the dumper look on while graphs become each other."""
    watching: Instrument = dumper
    first, *others = stages
    watching.start(first)
    before = first
    for number, after in enumerate(others):
        watching.after(Named(("lower", "fold", "cse")[number % 3]), before, after, 0.0015)
        before = after


def names(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def reported():
    return []


@pytest.fixture
def no_dot(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path_factory.mktemp("empty")))


@pytest.fixture
def fake_dot(tmp_path_factory, monkeypatch):
    """Put a shell script in the place of `dot`."""

    def install(script):
        folder = tmp_path_factory.mktemp("bin")
        (folder / "dot").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "dot").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return install


def test_one_text_and_one_dot_file_a_pass(tmp_path):
    recorded, lowered = chain(EXP), chain(EXP, LOG)
    folder = tmp_path / "deep" / "er"
    dump(GraphDumper(folder, svg=False), recorded, lowered, lowered)
    stems = ["00-recorded", "01-lower", "02-fold"]
    assert names(folder) == sorted(f"{stem}.{end}" for stem in stems for end in ("txt", "dot"))
    assert (folder / "00-recorded.txt").read_text(encoding="utf-8") == (
        f"# 00-recorded: as it was recorded\n# 2 nodes\n{print_graph(recorded)}\n"
    )
    assert (folder / "01-lower.txt").read_text(encoding="utf-8") == (
        f"# 01-lower: after lower, 1.50 ms\n# 2 -> 3 nodes: 0 gone, 1 new\n{print_graph(lowered)}\n"
    )
    picture = to_dot(lowered, before=recorded, title="01-lower @chain")
    assert (folder / "01-lower.dot").read_text(encoding="utf-8") == picture.source


@pytest.mark.skipif(shutil.which("dot") is None, reason="the dot program is not installed")
def test_svg_where_dot_is_installed(tmp_path, reported):
    dump(GraphDumper(tmp_path, report=reported.append), chain(EXP), chain(LOG))
    assert [name for name in names(tmp_path) if name.endswith(".svg")] == [
        "00-recorded.svg",
        "01-lower.svg",
    ]
    assert ">log</text>" in (tmp_path / "01-lower.svg").read_text(encoding="utf-8")
    assert reported == []


@pytest.mark.usefixtures("no_dot")
def test_a_missing_dot_is_told_once(tmp_path, reported):
    dumper = GraphDumper(tmp_path, report=reported.append)
    dump(dumper, chain(EXP), chain(LOG), chain(EXP))
    dump(dumper, chain(EXP), chain(LOG))
    assert names(tmp_path) == ["00-recorded.dot", "00-recorded.txt", "01-lower.dot", "01-lower.txt"]
    assert reported == [
        f"no svg files in {tmp_path}: "
        "the dot program of Graphviz is not installed or not on the PATH"
    ]


@pytest.mark.usefixtures("no_dot")
def test_reports_go_to_stderr_by_default(tmp_path, capsys):
    dump(GraphDumper(tmp_path), chain(EXP))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("no svg files in")
    assert err.count("\n") == 1


@needs_posix
def test_a_timeout_is_told_and_smaller_graphs_are_still_drawn(tmp_path, reported, fake_dot):
    fake_dot("text=$(cat); case $text in *log*) sleep 60;; esac; echo drawn")
    dumper = GraphDumper(tmp_path, report=reported.append, timeout=0.5)
    dump(dumper, chain(EXP), chain(EXP, LOG), chain(EXP, EXP, EXP), chain(EXP))
    assert [name for name in names(tmp_path) if name.endswith(".svg")] == [
        "00-recorded.svg",
        "03-cse.svg",
    ]
    assert reported == [
        "no 01-lower.svg, nor one of 3 nodes or more after it: the layout took longer than 0.5 s"
    ]
    assert len(names(tmp_path)) == 10


@needs_posix
def test_a_failing_dot_is_told_each_time_and_the_dump_goes_on(tmp_path, reported, fake_dot):
    fake_dot("echo no memory >&2; exit 1")
    dump(GraphDumper(tmp_path, report=reported.append), chain(EXP), chain(LOG))
    assert reported == [
        "no 00-recorded.svg: dot ended with status 1: no memory",
        "no 01-lower.svg: dot ended with status 1: no memory",
    ]
    assert len(names(tmp_path)) == 4


def test_the_files_of_an_earlier_dump_go_and_others_stay(tmp_path):
    stale = ["00-recorded.svg", "07-fold.txt", "12-cse.dot", "103-dce.txt"]
    kept = ["notes.txt", "7-fold.txt", "2024-notes.txt", "01-lower.png", "graph.dot", "01-a b.txt"]
    for name in stale + kept:
        (tmp_path / name).write_text(name)
    (tmp_path / "05-folder.txt").mkdir()
    dump(GraphDumper(tmp_path, svg=False), chain(EXP))
    assert names(tmp_path) == sorted([*kept, "05-folder.txt", "00-recorded.txt", "00-recorded.dot"])


def test_more_than_a_hundred_passes(tmp_path):
    dumper = GraphDumper(tmp_path, svg=False)
    dump(dumper, *[chain(EXP)] * 102)
    assert (tmp_path / "99-cse.txt").exists()
    assert (tmp_path / "101-fold.dot").exists()
    dump(dumper, chain(EXP))
    assert names(tmp_path) == ["00-recorded.dot", "00-recorded.txt"]


def test_a_name_that_is_no_file_name(tmp_path):
    dumper = GraphDumper(tmp_path, svg=False)
    dumper.start(chain(EXP))
    dumper.after(Named("../fold {limit=3}"), chain(EXP), chain(EXP), 0.0)
    assert "01-.._fold_limit_3_.txt" in names(tmp_path)


def test_a_directory_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"file: it is a file"):
        GraphDumper(tmp_path / "file").start(chain(EXP))
    with pytest.raises(NotADirectoryError, match="file"):
        GraphDumper(tmp_path / "file" / "below").start(chain(EXP))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_write_that_fails_leaves_no_half_file(tmp_path, monkeypatch):
    dumper = GraphDumper(tmp_path, svg=False)
    dump(dumper, chain(EXP))

    def full(source, target):
        assert os.path.getsize(source) > 0
        raise OSError(28, "no space left on device", str(target))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        dumper.after(Named("lower"), chain(EXP), chain(LOG), 0.0)
    assert names(tmp_path) == ["00-recorded.dot", "00-recorded.txt"]
