"""The cases of all rules of simplify, table by table."""

from tests.passes.rules import (
    arithmetic,
    casts,
    functions,
    integers,
    joining,
    products,
    reductions,
    selection,
    views,
)
from tests.passes.rules.case import Case, Kept

_TABLES = [
    arithmetic,
    integers,
    functions,
    casts,
    selection,
    views,
    joining,
    reductions,
    products,
]

EXACT_CASES: list[Case] = [case for table in _TABLES for case in table.EXACT]
FAST_MATH_CASES: list[Case] = [case for table in _TABLES for case in table.FAST_MATH]
KEPT: list[Kept] = [case for table in _TABLES for case in table.KEPT]
