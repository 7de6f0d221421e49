"""All ops by name: what the text form, the kernels and the tests go through."""

from types import ModuleType

from needle_ir.ir import CONSTANT, INPUT, Op, register_library
from needle_ir.ops import (
    build,
    cluster,
    elementwise,
    exponentials,
    indexing,
    joining,
    linalg,
    markers,
    neural,
    packing,
    random,
    reduction,
    shape,
    updates,
)
from needle_ir.ops.composite import Composite


def _ops_of(module: ModuleType) -> dict[str, Op]:
    values = vars(module).values()
    return {x.name: x for x in values if isinstance(x, Op)}


def _composites_of(module: ModuleType) -> dict[str, Op]:
    values = vars(module).values()
    return {x.op.name: x.op for x in values if isinstance(x, Composite)}


PRIMITIVES: dict[str, Op] = {INPUT.name: INPUT, CONSTANT.name: CONSTANT}
for _module in (
    build,
    elementwise,
    shape,
    reduction,
    exponentials,
    linalg,
    indexing,
    joining,
    packing,
    cluster,
    random,
    markers,
):
    PRIMITIVES |= _ops_of(_module)

COMPOSITES: dict[str, Op] = {}
for _module in (neural, updates):
    COMPOSITES |= _composites_of(_module)

register_library([*PRIMITIVES.values(), *COMPOSITES.values()])
