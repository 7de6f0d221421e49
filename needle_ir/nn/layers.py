"""Layers: Linear, ReLU, Dropout."""

from typing import Any

from needle_ir import init, ops
from needle_ir.arguments import check_array, fraction, whole_number
from needle_ir.device import Device
from needle_ir.nn.module import Module, Parameter
from needle_ir.recording import guarded
from needle_ir.tensor import Tensor


class Linear(Module):
    """x @ weight + bias.

    `weight` has the shape (in_features, out_features), drawn by kaiming_uniform with fan_in =
    in_features; then `bias`, of shape (1, out_features), with fan_in = out_features.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Device | None = None,
        dtype: Any = "float32",
    ):
        self.in_features = whole_number("in_features", in_features, at_least=1)
        self.out_features = whole_number("out_features", out_features, at_least=1)
        weight = init.kaiming_uniform(in_features, out_features, device=device, dtype=dtype)
        self.weight = Parameter(weight)
        self.bias: Parameter | None = None
        if bias:
            drawn = init.kaiming_uniform(out_features, 1, device=device, dtype=dtype)
            self.bias = Parameter(drawn.numpy().reshape(1, out_features))

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) to (…, out_features)."""
        if self.bias is None:
            return x @ self.weight
        return ops.linear(x, self.weight, self.bias)


class ReLU(Module):
    """max(x, 0), with the derivative 0 at 0."""

    def forward(self, x: Tensor) -> Tensor:
        """max(x, 0)."""
        return ops.relu(x)


class Dropout(Module):
    """In training, zeroes elements with probability `p` and divides the others by 1 - p.

    In evaluation it returns its input. Raises ValueError for a p outside of [0, 1).
    """

    def __init__(self, p: float = 0.5):
        self.p = fraction("the dropout probability", p)

    def forward(self, x: Tensor) -> Tensor:
        """x, thinned out in training."""
        check_array("Dropout", x)
        if not self.training:
            return x
        p = guarded(self, "p")
        keep = init.bernoulli(x.shape, float(1 - p))
        return ops.dropout(x, keep, p=p)
