"""Normalizations: BatchNorm1d, LayerNorm1d."""

from typing import Any

from needle_ir import init, ops
from needle_ir.arguments import check_array, fraction, non_negative, whole_number
from needle_ir.device import Device
from needle_ir.ir import ShapeError
from needle_ir.nn.module import Module, Parameter
from needle_ir.ops.build import attributes, build
from needle_ir.recording import guarded
from needle_ir.tensor import Tensor

_MEAN, _VARIANCE = ops.running_mean.op, ops.running_variance.op


class BatchNorm1d(Module):
    """Batch normalization of (n, dim) over the rows (Ioffe and Szegedy 2015).

    In training it normalizes by the batch and moves `running_mean` and `running_var` by
    `momentum` towards it; in evaluation it normalizes by these. The variance divides by n. The
    running values are state, not graph: no gradient flows into them.
    """

    def __init__(
        self,
        dim: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        device: Device | None = None,
        dtype: Any = "float32",
    ):
        self.dim = whole_number("dim", dim, at_least=1)
        self.eps = non_negative("eps", eps)
        self.momentum = fraction("momentum", momentum, or_one=True)
        self.weight = Parameter(init.ones(dim, device=device, dtype=dtype))
        self.bias = Parameter(init.zeros(dim, device=device, dtype=dtype))
        self.running_mean = init.zeros(dim, device=device, dtype=dtype)
        self.running_var = init.ones(dim, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(n, dim) to (n, dim). Raises ShapeError for a batch without rows in training."""
        check_array("BatchNorm1d", x)
        if not self.training:
            return ops.batch_norm_inference(
                x,
                self.weight,
                self.bias,
                self.running_mean,
                self.running_var,
                eps=guarded(self, "eps"),
            )
        if x.shape[:1] == (0,):
            raise ShapeError("a batch without rows has no mean: train on one row at least")
        y: Tensor = ops.batch_norm(x, self.weight, self.bias, eps=guarded(self, "eps"))
        seen, how = x._read(), attributes(beta=1 - guarded(self, "momentum"))
        for average, op in ((self.running_mean, _MEAN), (self.running_var, _VARIANCE)):
            average._assign(build(op, (average._read(), seen), how), is_own=True)
        return y


class LayerNorm1d(Module):
    """Layer normalization over the last axis, of length `dim` (Ba, Kiros and Hinton 2016)."""

    def __init__(
        self, dim: int, eps: float = 1e-5, device: Device | None = None, dtype: Any = "float32"
    ):
        self.dim = whole_number("dim", dim, at_least=1)
        self.eps = non_negative("eps", eps)
        self.weight = Parameter(init.ones(dim, device=device, dtype=dtype))
        self.bias = Parameter(init.zeros(dim, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """(…, dim) to (…, dim)."""
        return ops.layer_norm(x, self.weight, self.bias, eps=guarded(self, "eps"))
