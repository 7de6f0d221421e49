"""docs/needle.md: every name that it says is here is here, in the file that it says."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import needle_ir as ndl

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "needle.md").read_text("utf-8")
# | what needle calls it | `here` | `file` | note |
ROW = re.compile(r"^\| *(.*?) *\| `([\w.]+)` \| `([\w./]+)` \| *(.*?) *\|$", re.MULTILINE)
ROWS = ROW.findall(PAGE)


def resolve(name):
    """The object of a dotted name: the longest part that is a module, then attributes."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def test_every_row_is_read():
    """A row that is written in another way would not be tested."""
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    heads = [line for line in lines if line == "| needle | here | file | note |"]
    rules = [line for line in lines if line == "|---|---|---|---|"]
    assert len(heads) == len(rules) >= 7
    assert len(ROWS) == len(lines) - len(heads) - len(rules)
    names = [name for _, name, _, _ in ROWS]
    assert len(set(names)) == len(names) > 100


@pytest.mark.parametrize(("name", "file"), [row[1:3] for row in ROWS])
def test_the_name_is_there(name, file):
    found = resolve(name)
    path = ROOT / file
    assert path.is_file()
    if isinstance(found, property):
        found = found.fget
    if inspect.isroutine(found) and hasattr(found, "__code__"):
        assert Path(found.__code__.co_filename).resolve().name in {
            path.name,
            *ELSEWHERE.get(name, ()),
        }
    last = name.rpartition(".")[2]
    words = re.escape(last.strip("_"))
    assert re.search(rf"\b(_*){words}(_*)\b", path.read_text("utf-8")), (last, file)


# Methods that only lead to the file which the page names.
ELSEWHERE = {"needle_ir.Tensor.__getitem__": ("tensor.py",)}


def test_what_needle_writes_is_the_last_part_of_the_name_here():
    """`nn.Linear(in_features, …)` is `needle_ir.nn.Linear`, not something else by mistake."""
    compared = 0
    for needle, name, _, _ in ROWS:
        written = re.match(r"`([\w.]+)(\(.*\))?`$", needle)
        if written:
            assert written[1].split(".")[-1] == name.split(".")[-1], (needle, name)
            compared += 1
    assert compared > 70


def test_the_arguments_are_those_of_the_page():
    compared = 0
    for needle, name, _, _ in ROWS:
        written = re.match(r"`[\w.]+\(([^)]+)\)`$", needle)
        if written and not name.endswith(("Tensor.reshape", "Tensor.broadcast_to")):
            found = inspect.signature(resolve(name)).parameters
            for argument in written[1].split(","):
                assert argument.strip(" *") in {*found, ""}, (needle, argument)
                compared += 1
    assert compared > 60


@pytest.mark.parametrize("name", ["needle_ir.nn.Lineal", "needle_ir.nothing.x", "nothing.x"])
def test_a_name_that_is_not_there_is_noticed(name):
    with pytest.raises((AttributeError, ModuleNotFoundError)):
        resolve(name)


def test_every_op_class_is_on_the_page():
    classes = {
        f"needle_ir.ops.{name}"
        for name in ndl.ops.__all__
        if inspect.isclass(getattr(ndl.ops, name))
        and issubclass(getattr(ndl.ops, name), ndl.ops.TensorOp)
    } - {"needle_ir.ops.TensorOp"}
    assert classes <= {name for _, name, _, _ in ROWS}
    assert len(classes) == 22


@pytest.mark.parametrize("module", ["nn", "data", "init"])
def test_every_public_name_is_on_the_page(module):
    package = getattr(ndl, module)
    own = getattr(package, "__all__", None) or [
        name
        for name, value in vars(package).items()
        if inspect.isfunction(value) and value.__module__ == package.__name__ and name[0] != "_"
    ]
    beside = {
        "IDXError",
        "Transform",
        "read_idx",
        "write_idx",
        "check_labels",
        "manual_seed",
        "bernoulli",
    }
    listed = {name for _, name, _, _ in ROWS}
    assert {f"needle_ir.{module}.{name}" for name in own if name not in beside} <= listed
