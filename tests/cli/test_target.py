"""FILE:FUNCTION: loading a user's file, finding the function, making its arguments."""

import argparse
import sys

import numpy as np
import pytest

from needle_ir import Tensor
from needle_ir.cli import CommandError
from needle_ir.cli.target import add_target_arguments, array_of_type, load_target
from needle_ir.ir import Graph

SOURCE = """
import numpy as np
from numpy import exp

import needle_ir as ndl
from needle_ir import nn
from beside import factor

FILE = __file__
model = nn.Linear(2, 3)
graph = ndl.trace(lambda x: x + 1, ndl.Tensor([1.0]))
number = 5


def scaled(x, y=None):
    return x * factor


def nothing():
    return ndl.Tensor([1.0])


@ndl.jit
def fast(x):
    return x


def pair():
    return (np.ones(2), np.zeros(3))


def broken():
    return [1, 2][5]


class Net(nn.Module):
    def forward(self, x):
        return x


net = Net()

if __name__ == "__main__":
    raise RuntimeError("it is loaded, not run")
"""


@pytest.fixture
def example(tmp_path, monkeypatch):
    """A file, and a module beside it that it imports. Both are forgotten afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = {*sys.modules}
    (tmp_path / "beside.py").write_text("factor = 3.0\n")
    path = tmp_path / "user_example.py"
    path.write_text(SOURCE)
    yield path
    for name in {*sys.modules} - before:
        del sys.modules[name]


def load(*arguments):
    parser = argparse.ArgumentParser()
    add_target_arguments(parser)
    return load_target(parser.parse_args([str(x) for x in arguments]))


def test_a_function_with_random_arguments(example):
    target = load(f"{example}:scaled", "--input", "f32[2,3]", "--input", "i64[4]:10")
    assert target.name == "scaled"
    x, y = target.args
    assert isinstance(x, Tensor)
    assert (str(x.node.type), str(y.node.type)) == ("f32[2,3]", "i64[4]")
    assert not x.requires_grad
    assert target.value(x).numpy().tolist() == (x.numpy() * 3).tolist()
    assert target.value.__globals__["FILE"] == str(example)
    assert sys.path[0] == str(example.parent)
    assert sys.modules["user_example"].__name__ == "user_example"


def test_the_numbers_are_those_of_the_seed():
    def numbers(seed, text="f32[5]"):
        return array_of_type(text, np.random.default_rng(seed)).tolist()

    assert numbers(0) == numbers(0) != numbers(1)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_seed_on_the_command_line(example, seed):
    args = [f"{example}:scaled", "--input", "f64[3]", "--seed", seed]
    expected = array_of_type("f64[3]", np.random.default_rng(seed))
    assert load(*args).args[0].numpy().tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("nothing", 0), ("model", 1), ("net", 1), ("fast", 1), ("model.forward", 1), ("graph", 0)],
)
def test_what_may_be_named(example, name, arguments):
    target = load(f"{example}:{name}", *["--input", "f32[4,2]"] * arguments)
    assert len(target.args) == arguments
    assert callable(target.value) or isinstance(target.value, Graph)


def test_arguments_of_the_file(example):
    assert [x.shape for x in load(f"{example}:scaled", "--args", "pair").args] == [(2,), (3,)]
    with pytest.raises(CommandError, match=r"number in .* gives int; --args takes a tuple"):
        again(example, "scaled", "--args", "number")


def again(example, name, *arguments):
    """As `load`, for a file that was loaded before."""
    sys.modules.pop("user_example", None)
    return load(f"{example}:{name}", *arguments)


@pytest.mark.parametrize(
    ("text", "type"),
    [
        ("f32[4,8]", "float32"),
        ("f16[2]", "float16"),
        (" f64[ 3, 1 ] ", "float64"),
        ("i8[2]", "int8"),
        ("u16[3]", "uint16"),
        ("bool[7]", "bool"),
        ("f32[]", "float32"),
        ("i64[0,3]:4", "int64"),
    ],
)
def test_types(text, type):
    array = array_of_type(text, np.random.default_rng(0))
    assert array.dtype == type
    shape = text.partition("[")[2].partition("]")[0].split(",")
    assert array.shape == tuple(int(x) for x in shape if x.strip())


def test_limits():
    numbers = np.random.default_rng(0)
    assert {*array_of_type("i64[100]:3", numbers).tolist()} == {0, 1, 2}
    assert {*array_of_type("i32[100]", numbers).tolist()} == {0, 1}
    assert {*array_of_type("bool[100]", numbers).tolist()} == {False, True}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("f32", "is no type; write it like f32"),
        ("f32(4)", "is no type"),
        ("f32[-1]", "is no type"),
        ("f32[a]", "is no type"),
        ("f31[4]", "dtype float31|'float31' is not a dtype"),
        ("complex64[4]", "is not supported"),
        ("f32[4]:3", "a limit is for integers"),
        ("i64[4]:0", "must be at least 1"),
        ("u8[4]:300", "at least 1 and at most 255"),
        ("bool[4]:3", "a limit is for integers"),
    ],
)
def test_bad_types(text, message):
    with pytest.raises(CommandError, match=message):
        array_of_type(text, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("train.py", "write FILE:FUNCTION, such as train.py:step"),
        ("train.py:", "write FILE:FUNCTION"),
        ("train:step", "write FILE:FUNCTION"),
        ("no/such/file.py:step", "there is no file no/such/file.py"),
    ],
)
def test_bad_targets(target, message):
    with pytest.raises(CommandError, match=message):
        load(target)


def test_names_that_the_file_does_not_have(example):
    with pytest.raises(CommandError) as raised:
        load(f"{example}:scaledd")
    assert str(raised.value) == (
        f"there is no scaledd in {example}; it has model, graph, scaled, nothing, fast, pair, "
        "broken, net"
    )
    with pytest.raises(CommandError, match=r"there is no model\.weigt in"):
        again(example, "model.weigt")
    with pytest.raises(CommandError, match=r"number in .* is of type int; name a function"):
        again(example, "number")
    with pytest.raises(CommandError, match=r"Net in .* is a class; name a function"):
        again(example, "Net")


def test_arguments_that_do_not_fit(example):
    with pytest.raises(CommandError) as raised:
        load(f"{example}:scaled")
    message = str(raised.value)
    assert message.startswith("scaled takes x, y=None, and was given 0 (missing a required")
    assert "--input 'f32[4,8]'" in message
    assert "--args NAME" in message
    with pytest.raises(CommandError, match="nothing takes no arguments, and was given 1"):
        again(example, "nothing", "--input", "f32[1]")
    with pytest.raises(CommandError, match="graph is a graph, which takes no arguments"):
        again(example, "graph", "--input", "f32[1]")
    with pytest.raises(CommandError, match="either by --input or by --args"):
        again(example, "scaled", "--input", "f32[1]", "--args", "pair")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\ny = x / 0\n", "line 2, in <module>\n    y = x / 0"),
        ("def f(:\n", "line 1\n    def f(:"),
        ("raise SystemExit(2)\n", "it exits; put what it runs below"),
        ("import no_such_module_at_all\n", "No module named 'no_such_module_at_all'"),
    ],
)
def test_a_file_that_fails(example, source, message):
    example.write_text(source)
    with pytest.raises(CommandError) as raised:
        load(f"{example}:f")
    assert str(raised.value).startswith(f"{example} can not be loaded")
    assert message in str(raised.value)
    assert "user_example" not in sys.modules
    assert "needle_ir/cli" not in str(raised.value)


def test_a_function_for_arguments_that_fails(example):
    with pytest.raises(CommandError) as raised:
        load(f"{example}:scaled", "--args", "broken")
    assert str(raised.value).startswith("broken failed\n")
    assert "return [1, 2][5]" in str(raised.value)


def test_the_name_of_a_module_in_use(tmp_path):
    path = tmp_path / "json.py"
    path.write_text("def f(): pass\n")
    with pytest.raises(CommandError, match="has the name of the module 'json', which is in use"):
        load(f"{path}:f")


def test_an_error_while_the_target_runs_shows_the_users_lines(example):
    target = load(f"{example}:scaled", "--input", "f32[3]")
    with pytest.raises(CommandError) as raised, target.running():
        target.value("text")
    assert str(raised.value).startswith("scaled failed\n")
    assert "return x * factor" in str(raised.value)
    # An error in which the user's file had no part is not the user's.
    with pytest.raises(ZeroDivisionError), target.running():
        _ = 1 / 0


def test_a_graph_in_the_text_form(tmp_path):
    text = "graph @twice(%x: f32[2]) -> f32[2] {\n  %0 = add(%x, %x) : f32[2]\n  return %0\n}\n"
    (tmp_path / "twice.nir").write_text(text)
    target = load(tmp_path / "twice.nir")
    assert (target.name, target.args) == ("twice", ())
    assert target.value.format(origins=False) == text.rstrip()
    with pytest.raises(CommandError, match="it has types and takes no arguments"):
        load(tmp_path / "twice.nir", "--input", "f32[2]")
    (tmp_path / "broken.nir").write_text(text.replace("add", "ad"))
    with pytest.raises(CommandError, match=r"broken\.nir: line 2, column 8: there is no op ad"):
        load(tmp_path / "broken.nir")
    with pytest.raises(CommandError, match="can not be read"):
        load(tmp_path / "none.nir")
