"""What the tests of the frontend share: kernel calls counted, the cache asked, the app loaded."""

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

import needle_ir as ndl
from needle_ir.ir import Trait
from needle_ir.ops import PRIMITIVES
from needle_ir.runtime import KERNELS

APP = Path(__file__).resolve().parents[2] / "apps" / "mlp_resnet.py"


@pytest.fixture
def kernel_calls(monkeypatch):
    """A Counter of kernel calls by op, of everything that is compiled in the test.

    Elementwise ops, views and packs are left out, as they may be fused or take no call, and so are
    reductions over axes of length 1, which are views in disguise.
    """
    calls = Counter()

    def counted(name, make):
        def make_counted(node, *args, **kwargs):
            kernel = make(node, *args, **kwargs)
            if [x.type.size for x in node.inputs] == [node.type.size]:
                return kernel

            def call(*arrays, **options):
                calls[name] += 1
                return kernel(*arrays, **options)

            return call

        return make_counted

    for name, make in KERNELS.items():
        traits = PRIMITIVES[name].traits if name in PRIMITIVES else frozenset()
        if traits & {Trait.ELEMENTWISE, Trait.VIEW} or name == "pack":
            continue
        monkeypatch.setitem(KERNELS, name, counted(name, make))
    ndl.clear_cache()
    yield calls
    ndl.clear_cache()


@pytest.fixture
def lookups():
    """A function that returns the plan cache's (hits, misses) since it was called before."""
    ndl.clear_cache()
    seen = [0, 0]

    def since():
        hits, misses, *_ = ndl.cache_info()
        change = (hits - seen[0], misses - seen[1])
        seen[:] = hits, misses
        return change

    return since


@pytest.fixture(scope="session")
def app():
    """The module apps/mlp_resnet.py."""
    spec = importlib.util.spec_from_file_location("mlp_resnet_under_test", APP)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
