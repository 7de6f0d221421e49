"""Neural-network modules, with the names and semantics of needle."""

from needle_ir.nn.containers import Flatten, Identity, Residual, Sequential
from needle_ir.nn.layers import Dropout, Linear, ReLU
from needle_ir.nn.loss import SoftmaxLoss
from needle_ir.nn.module import Module, Parameter
from needle_ir.nn.normalization import BatchNorm1d, LayerNorm1d

__all__ = [
    "BatchNorm1d",
    "Dropout",
    "Flatten",
    "Identity",
    "LayerNorm1d",
    "Linear",
    "Module",
    "Parameter",
    "ReLU",
    "Residual",
    "Sequential",
    "SoftmaxLoss",
]
