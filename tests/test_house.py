"""The shape of the house: which room imports which, what a wheel holds, what an import costs."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAPPED = ("passes", "runtime", "viz")
FOLDERS = ("needle_ir", *MAPPED, "apps", "tests", "benchmarks")

# What each room may import. "front" is the public face: what is in needle_ir and in no other room.
MAY_IMPORT = {
    "ir": {"ir"},
    "ops": {"ir", "ops"},
    "passes": {"ir", "ops", "passes"},
    "runtime": {"ir", "ops", "runtime"},
    "viz": {"ir", "viz"},
    "front": {"ir", "ops", "passes", "runtime", "viz", "front"},
    "apps": {"front", "apps"},
}


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """The name under which a file of the checkout is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] in MAPPED:
        parts = ("needle_ir", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str | None:
    """The room that a module lies in; None where it is not ours."""
    top, _, rest = module.partition(".")
    if top == "needle_ir":
        room = rest.partition(".")[0]
        return room if room in MAY_IMPORT.keys() - {"front", "apps"} else "front"
    return top if top in FOLDERS else None


@dataclass(frozen=True)
class SourceFile:
    module: str
    is_package: bool
    source: str

    def imports(self, modules: set[str]) -> Iterator[tuple[int, str]]:
        """Line and absolute name of each module that is imported anywhere in the file.

        `from a import b` imports `a.b` where that is one of `modules`, and else `a`.
        """
        for node in ast.walk(ast.parse(self.source)):
            match node:
                case ast.Import(names=names):
                    for alias in names:
                        yield node.lineno, alias.name
                case ast.ImportFrom(module=name, names=names, level=level):
                    base = self.resolve("." * level + (name or ""))
                    for alias in names:
                        inner = f"{base}.{alias.name}"
                        yield node.lineno, inner if inner in modules else base
                case ast.Call(
                    func=ast.Name(id="import_module" | "__import__")
                    | ast.Attribute(attr="import_module"),
                    args=[ast.Constant(value=str(name)), *_],
                ):
                    yield node.lineno, self.resolve(name)

    def resolve(self, name: str) -> str:
        level = len(name) - len(name.lstrip("."))
        if level == 0:
            return name
        parts = self.module.split(".")
        package = parts[: len(parts) - level + self.is_package]
        return ".".join([*package, *filter(None, [name[level:]])])

    def forbidden_imports(self, modules: set[str]) -> list[str]:
        room = room_of(self.module)
        assert room is not None, self.module
        return [
            f"{self.module}:{line} imports {target}, which {room} may not"
            for line, target in self.imports(modules)
            if room_of(target) not in {None, *MAY_IMPORT[room]}
        ]


def checkout() -> list[SourceFile]:
    return [
        SourceFile(module_name(path), path.name == "__init__.py", path.read_text("utf-8"))
        for path in python_files("needle_ir", *MAPPED, "apps")
    ]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_go_one_way(room: str) -> None:
    files = checkout()
    modules = {file.module for file in files}
    inside = [file for file in files if room_of(file.module) == room]
    assert inside, f"no file lies in {room}"
    forbidden = [line for file in inside for line in file.forbidden_imports(modules)]
    assert not forbidden, "\n".join(forbidden)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("needle_ir.ir.node", "from needle_ir.ops import add"),
        ("needle_ir.ir.node", "from ..ops import add"),
        ("needle_ir.ir.node", "from .. import ops"),
        ("needle_ir.ir.node", "from needle_ir import Tensor"),
        ("needle_ir.ir.node", "def f():\n    import needle_ir.tensor"),
        ("needle_ir.ir.node", "if TYPE_CHECKING:\n    from needle_ir.tensor import Tensor"),
        ("needle_ir.ops.math", "from needle_ir.passes import rewrite"),
        ("needle_ir.ops.math", "from needle_ir import *"),
        ("needle_ir.passes.fold", "from needle_ir.runtime import evaluate"),
        ("needle_ir.passes.fold", "from ..runtime import evaluate"),
        ("needle_ir.passes.fold", "from runtime import evaluate"),
        ("needle_ir.passes.fold", "import importlib\nimportlib.import_module('needle_ir.viz')"),
        ("needle_ir.runtime.executor", "import needle_ir.passes as passes"),
        ("needle_ir.runtime.executor", "import needle_ir"),
        ("needle_ir.viz.dot", "from needle_ir.ops import add"),
        ("needle_ir.viz.dot", "import needle_ir.nn as nn"),
        ("needle_ir.tensor", "import apps.mlp_resnet"),
        ("apps.mlp_resnet", "from needle_ir import passes"),
        ("apps.mlp_resnet", "from needle_ir.viz import to_dot"),
        ("apps.mlp_resnet", "import needle_ir.ir.node"),
    ],
)
def test_a_wrong_import_is_seen(module: str, source: str) -> None:
    modules = {"needle_ir.ops", "needle_ir.passes"}
    assert len(SourceFile(module, False, source).forbidden_imports(modules)) == 1


@pytest.mark.parametrize(
    ("file", "modules"),
    [
        (SourceFile("needle_ir.ir", True, "from . import node\nfrom .node import Node"), set()),
        (SourceFile("needle_ir.ops.math", False, "from ..ir.node import Node"), set()),
        (SourceFile("needle_ir.ops.math", False, "from .. import ir"), {"needle_ir.ir"}),
        (SourceFile("needle_ir.passes", True, "from ..ir import Graph\nimport numpy"), set()),
        (SourceFile("needle_ir.tensor", False, "from needle_ir import passes, viz"), set()),
        (SourceFile("apps.a", False, "import needle_ir as ndl\nimport needle_ir.nn as nn"), set()),
        (SourceFile("apps.a", False, "from needle_ir.data import DataLoader"), set()),
    ],
)
def test_a_right_import_is_let_through(file: SourceFile, modules: set[str]) -> None:
    assert file.forbidden_imports(modules) == []


def run_python(code: str, **environment: str) -> str:
    """What the code prints, run at the root in a fresh interpreter."""
    child = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONSAFEPATH": ""} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert child.returncode == 0, child.stderr
    return child.stdout


@pytest.mark.parametrize("name", MAPPED)
def test_a_bare_import_is_refused(name: str) -> None:
    code = f"try:\n    import {name}\nexcept ImportError as error:\n    print(error)"
    printed = run_python(code)
    assert printed.count("\n") == 1
    assert f"`needle_ir.{name}`" in printed


def test_every_package_is_listed() -> None:
    """A folder that is not listed works in a checkout and is missing from the wheel."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    files = python_files("needle_ir", *MAPPED)
    folders = {file.parent for file in files}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []
    assert sorted(settings["packages"]) == sorted(module_name(f / "__init__.py") for f in folders)
    mapping = {"needle_ir": "needle_ir"} | {f"needle_ir.{name}": name for name in MAPPED}
    assert settings["package-dir"] == mapping


def test_import_is_light() -> None:
    heavy = ["networkx", "graphviz", "rich", "matplotlib"]
    code = f"import sys, needle_ir\nprint([name for name in {heavy} if name in sys.modules])"
    assert run_python(code) == "[]\n"


def test_import_costs_at_most_twice_numpy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def seconds(module: str) -> float:
        code = (
            "from time import perf_counter\n"
            f"start = perf_counter()\nimport {module}\nprint(perf_counter() - start)"
        )
        cache = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
        # A thread of BLAS that waits for work without sleeping may share the core.
        return float(run_python(code, **cache, OPENBLAS_NUM_THREADS="1"))

    for module in ("numpy", "needle_ir"):
        seconds(module)  # fills the bytecode cache
    pairs = [(seconds("numpy"), seconds("needle_ir")) for _ in range(11)]
    # The least of each: what else the machine does at the time only adds.
    numpy, ours = map(min, zip(*pairs, strict=True))
    report = f"import numpy {numpy * 1e3:.0f} ms, import needle_ir {ours * 1e3:.0f} ms"
    with capsys.disabled():
        print(f"\n{report} ({ours / numpy:.2f} times)")
    assert ours <= 2 * numpy, report


def test_files_are_named_for_what_they_hold() -> None:
    vague = {"utils", "common", "helpers"}
    files = [path.relative_to(ROOT) for path in python_files(*FOLDERS)]
    assert [str(path) for path in files if vague & {*path.parts, path.stem}] == []


def test_no_file_is_two_ideas() -> None:
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in python_files(*FOLDERS)}
    assert {str(path.relative_to(ROOT)): n for path, n in lines.items() if n > 600} == {}


def test_pre_commit_runs_what_ci_runs() -> None:
    ci = re.findall(r"^(?:step .*|  )make ([\w-]+)", (ROOT / ".ci/run").read_text("utf-8"), re.M)
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    assert {*re.findall(r"entry: make ([\w-]+)", hooks)} == {*ci} - {"clean", "train", "bench"}
