"""Dumping a pipeline: the files, what they say, and what happens where one can not be made."""

import os
import shutil
import time
from dataclasses import dataclass

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir.ir import NO_ATTRS, Graph, Instrument, Node, Op, TensorType, input_node, print_graph
from needle_ir.viz import Change, GraphDumper, to_dot

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
    directory = tmp_path / "deep" / "er"
    dump(GraphDumper(directory, svg=False), recorded, lowered, lowered)
    assert names(directory) == ["00-chain"]
    folder = directory / "00-chain"
    stems = ["00-recorded", "01-lower", "02-fold"]
    assert names(folder) == sorted(f"{stem}.{end}" for stem in stems for end in ("txt", "dot"))
    assert (folder / "00-recorded.txt").read_text(encoding="utf-8") == (
        f"# 00-recorded: as it was recorded\n# 2 nodes\n{print_graph(recorded)}\n"
    )
    assert (folder / "01-lower.txt").read_text(encoding="utf-8") == (
        f"# 01-lower: after lower, 1.50 ms\n# 2 -> 3 nodes: 1 added\n{print_graph(lowered)}\n"
    )
    assert "nothing changed" in (folder / "02-fold.txt").read_text(encoding="utf-8")
    picture = to_dot(Change(recorded, lowered), title="01-lower @chain")
    assert (folder / "01-lower.dot").read_text(encoding="utf-8") == picture.source


def test_every_compilation_has_a_folder(tmp_path):
    dumper = GraphDumper(tmp_path, svg=False)
    for graph in (chain(EXP), chain(LOG), chain(EXP, EXP)):
        dump(dumper, graph, graph)
    assert names(tmp_path) == ["00-chain", "01-chain", "02-chain"]
    assert "log(" in (tmp_path / "01-chain" / "00-recorded.txt").read_text(encoding="utf-8")
    assert all(len(names(folder)) == 4 for folder in tmp_path.iterdir())


def test_a_program_dumps_each_of_its_compilations(tmp_path):
    ndl.clear_cache()
    w = ndl.Tensor(np.ones((3, 2), np.float32))
    opt = ndl.optim.SGD([w], lr=0.1)
    with ndl.dump_graphs(tmp_path):
        for _ in range(3):
            opt.reset_grad()
            (ndl.Tensor(np.ones((4, 3), np.float32)) @ w).sum().backward()
            opt.step()
        first = names(tmp_path)
        w.sum().item()
    assert first == ["00-step"], "the plan of the second and third step was in the cache"
    assert names(tmp_path) == ["00-step", "01-step"]
    assert "grad(" in (tmp_path / "00-step" / "00-recorded.txt").read_text(encoding="utf-8")
    assert (tmp_path / "01-step" / "00-recorded.svg").exists()


def test_the_level_of_the_pictures(tmp_path):
    dump(GraphDumper(tmp_path, svg=False, level="module"), chain(EXP))
    source = (tmp_path / "00-chain" / "00-recorded.dot").read_text(encoding="utf-8")
    assert source == to_dot(chain(EXP), level="module", title="00-recorded @chain").source
    with pytest.raises(ValueError, match="no level 'modul'"):
        GraphDumper(tmp_path, level="modul")


@pytest.mark.skipif(shutil.which("dot") is None, reason="the dot program is not installed")
def test_svg_where_dot_is_installed(tmp_path, reported):
    dump(GraphDumper(tmp_path, report=reported.append), chain(EXP), chain(LOG))
    folder = tmp_path / "00-chain"
    assert [name for name in names(folder) if name.endswith(".svg")] == [
        "00-recorded.svg",
        "01-lower.svg",
    ]
    svg = (folder / "01-lower.svg").read_text(encoding="utf-8")
    assert "Generated by graphviz" in svg
    assert ">log</text>" in svg
    assert reported == []


@pytest.mark.usefixtures("no_dot")
def test_a_missing_dot_is_told_once_and_the_layout_is_ours(tmp_path, reported):
    dumper = GraphDumper(tmp_path, report=reported.append)
    dump(dumper, chain(EXP), chain(LOG), chain(EXP))
    dump(dumper, chain(EXP), chain(LOG))
    assert names(tmp_path / "01-chain") == [
        f"{stem}.{end}" for stem in ("00-recorded", "01-lower") for end in ("dot", "svg", "txt")
    ]
    assert reported == [
        f"svg files in {tmp_path} are laid out without Graphviz: "
        "the dot program of Graphviz is not installed or not on the PATH"
    ]
    svg = (tmp_path / "01-chain" / "01-lower.svg").read_text(encoding="utf-8")
    assert "laid out without Graphviz" in svg


@pytest.mark.usefixtures("no_dot")
def test_reports_go_to_stderr_by_default(tmp_path, capsys):
    dump(GraphDumper(tmp_path), chain(EXP))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("svg files in")
    assert err.count("\n") == 1


@needs_posix
def test_after_a_timeout_graphs_of_that_size_are_drawn_by_modules(tmp_path, reported, fake_dot):
    fake_dot("case $(cat) in *'n2 ['*) sleep 60;; esac; echo drawn")
    dumper = GraphDumper(tmp_path, report=reported.append, timeout=0.5)
    start = time.monotonic()
    dump(dumper, chain(EXP), chain(EXP, LOG), chain(EXP, EXP, EXP), chain(EXP))
    assert time.monotonic() - start < 5, "the third one is not tried"
    assert len([name for name in names(tmp_path / "00-chain") if name.endswith(".svg")]) == 4
    assert reported == [
        "00-chain/01-lower.svg is drawn by modules: the layout took longer than 0.5 s for 3 boxes",
        "so are pictures of 3 nodes or more after it",
    ]


@needs_posix
def test_a_failing_dot_is_told_each_time_and_the_layout_is_ours(tmp_path, reported, fake_dot):
    fake_dot("echo no memory >&2; exit 1")
    dump(GraphDumper(tmp_path, report=reported.append), chain(EXP), chain(LOG))
    assert reported == [
        "00-chain/00-recorded.svg is laid out without Graphviz: dot ended with status 1: no memory",
        "00-chain/01-lower.svg is laid out without Graphviz: dot ended with status 1: no memory",
    ]
    assert len(names(tmp_path / "00-chain")) == 6


def test_the_files_of_an_earlier_dump_go_and_others_stay(tmp_path):
    stale = ["00-a/00-recorded.svg", "00-a/103-dce.txt", "01-b/07-fold.txt", "120-c/12-cse.dot"]
    kept = ["notes.txt", "00-recorded.txt", "01-b/notes.txt", "01-b/7-fold.txt", "x/00-a.dot"]
    for name in stale + kept:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "00-a" / "05-folder.txt").mkdir()
    dumper = GraphDumper(tmp_path, svg=False)
    dump(dumper, chain(EXP))
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {*kept, "00-chain/00-recorded.txt", "00-chain/00-recorded.dot"}
    assert not (tmp_path / "120-c").exists()
    assert (tmp_path / "00-a" / "05-folder.txt").is_dir()


def test_more_than_a_hundred_passes(tmp_path):
    dumper = GraphDumper(tmp_path, svg=False)
    dump(dumper, *[chain(EXP)] * 102)
    assert (tmp_path / "00-chain" / "99-cse.txt").exists()
    assert (tmp_path / "00-chain" / "101-fold.dot").exists()
    dump(GraphDumper(tmp_path, svg=False), chain(EXP))
    assert names(tmp_path / "00-chain") == ["00-recorded.dot", "00-recorded.txt"]


def test_names_that_are_no_file_names(tmp_path):
    dumper = GraphDumper(tmp_path, svg=False)
    x = input_node(TYPE, "x")
    dumper.start(Graph([x], [x], name="../a b"))
    dumper.after(Named("../fold {limit=3}"), chain(EXP), chain(EXP), 0.0)
    assert names(tmp_path) == ["00-.._a_b"]
    assert "01-.._fold_limit_3_.txt" in names(tmp_path / "00-.._a_b")


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
    assert names(tmp_path / "00-chain") == ["00-recorded.dot", "00-recorded.txt"]
