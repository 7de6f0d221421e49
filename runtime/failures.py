"""What kernels raise, told in the terms of the program: the op, its operands, the user's line."""

from needle_ir.ir import Node, OperandIndexError, OperandValueError, OpError

# By the exact class: what already says more stays as it is.
_AS: dict[type[Exception], type[OpError]] = {
    IndexError: OperandIndexError,
    ValueError: OperandValueError,
}
_WHAT_TO_DO = {"power": "; convert the integers to floats with astype"}


def told(error: Exception, node: Node) -> Exception:
    """`error`, which the kernel of `node` raised, as an OpError where it is about the operands."""
    kind = _AS.get(type(error))
    if kind is None:
        return error
    operands = ", ".join(str(operand.type) for operand in node.inputs)
    reason = str(error).rstrip(".")
    return kind(
        f"{node.op.name}({operands}): {reason}{_WHAT_TO_DO.get(node.op.name, '')}", node.origin
    )
