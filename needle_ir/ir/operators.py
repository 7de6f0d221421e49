"""Python's operators for whatever stands for a value: nodes, tensors, patterns."""

from collections.abc import Callable
from typing import Any, ClassVar, Self


class Operators:
    """Arithmetic, comparison and matrix-product operators.

    The IR knows no op, so the functions behind the operators stand in a table which
    `needle_ir.ops` fills. `==` and `!=` are not among them: nodes are compared by identity.
    """

    __slots__ = ()

    FUNCTIONS: ClassVar[dict[str, Callable[..., Any]]] = {}

    def __neg__(self) -> Self:
        return self._call("negative", self)

    def __abs__(self) -> Self:
        return self._call("abs", self)

    def __add__(self, other: Any) -> Self:
        return self._call("add", self, other)

    def __radd__(self, other: Any) -> Self:
        return self._call("add", other, self)

    def __sub__(self, other: Any) -> Self:
        return self._call("subtract", self, other)

    def __rsub__(self, other: Any) -> Self:
        return self._call("subtract", other, self)

    def __mul__(self, other: Any) -> Self:
        return self._call("multiply", self, other)

    def __rmul__(self, other: Any) -> Self:
        return self._call("multiply", other, self)

    def __truediv__(self, other: Any) -> Self:
        return self._call("divide", self, other)

    def __rtruediv__(self, other: Any) -> Self:
        return self._call("divide", other, self)

    def __pow__(self, other: Any) -> Self:
        return self._call("power", self, other)

    def __rpow__(self, other: Any) -> Self:
        return self._call("power", other, self)

    def __matmul__(self, other: Any) -> Self:
        return self._call("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Self:
        return self._call("matmul", other, self)

    def __lt__(self, other: Any) -> Self:
        return self._call("less", self, other)

    def __le__(self, other: Any) -> Self:
        return self._call("less_equal", self, other)

    def __gt__(self, other: Any) -> Self:
        return self._call("greater", self, other)

    def __ge__(self, other: Any) -> Self:
        return self._call("greater_equal", self, other)

    def _call(self, name: str, *operands: Any) -> Self:
        result: Self = Operators.FUNCTIONS[name](*operands)
        return result
