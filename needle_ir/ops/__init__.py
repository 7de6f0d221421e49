"""The ops. Each has one block: name, attributes, traits, type rule, VJP rule.

The functions take tensors or nodes and give back the same kind.
"""

from needle_ir.ir import Operators
from needle_ir.ops.build import apply, as_constant, build
from needle_ir.ops.composite import Composite, composite
from needle_ir.ops.elementwise import (
    abs,
    add,
    cast,
    divide,
    equal,
    exp,
    expm1,
    greater,
    greater_equal,
    less,
    less_equal,
    log,
    log1p,
    logical_not,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    power,
    relu,
    sign,
    sqrt,
    subtract,
    tanh,
    where,
)
from needle_ir.ops.linalg import matmul
from needle_ir.ops.markers import grad, known, stop_gradient, variable
from needle_ir.ops.neural import (
    batch_mean,
    batch_norm,
    batch_norm_inference,
    batch_variance,
    dropout,
    layer_norm,
    linear,
    one_hot,
    softmax_loss,
)
from needle_ir.ops.random import random_normal, random_uniform
from needle_ir.ops.reduction import logsumexp, max, mean, min, sum
from needle_ir.ops.shape import broadcast_to, permute, reshape
from needle_ir.ops.table import COMPOSITES, PRIMITIVES
from needle_ir.ops.updates import adam_update, moving_average, sgd_update

Operators.FUNCTIONS.update(
    abs=abs,
    add=add,
    divide=divide,
    greater=greater,
    greater_equal=greater_equal,
    less=less,
    less_equal=less_equal,
    matmul=matmul,
    multiply=multiply,
    negative=negative,
    power=power,
    subtract=subtract,
)
