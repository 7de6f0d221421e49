"""Optimizers: SGD, Adam. `step()` is where a training step is computed."""

from collections.abc import Iterable
from functools import reduce
from itertools import accumulate
from operator import add, attrgetter
from typing import Any

import numpy as np

from needle_ir import ops
from needle_ir.arguments import fraction, non_negative
from needle_ir.gradients import packed_gradients, requests_for
from needle_ir.in_place import InPlace, Replaced
from needle_ir.ir import (
    INPUT,
    DType,
    DTypeError,
    Node,
    capture_origin,
    inherit_origin,
    is_floating,
    scope,
)
from needle_ir.leaves import Leaves
from needle_ir.ops.markers import cut
from needle_ir.realize import sync
from needle_ir.recording import guarded, host_scalar, no_grad, thread
from needle_ir.tensor import Tensor

_node = attrgetter("node")
_MOMENT_DTYPE = np.dtype(np.float32)
_ONE = ops.as_constant(1.0, np.dtype(np.float64))  # float64, as adam_update takes the step count


class _Group:
    """The parameters of one dtype, and for each kind of moment the moments of them all.

    Moments are kept as one packed tensor: a step updates all parameters as one long vector. In no
    trace the parameters are kept so as well, and each of them is a view of a part.
    """

    def __init__(self, params: list[Tensor], moments: Iterable[str]):
        self.params = params
        *self._starts, size = accumulate((p.size for p in params), initial=0)
        self._moments = {
            name: Tensor(np.zeros(size, _MOMENT_DTYPE), requires_grad=False) for name in moments
        }
        self._which: list[int] = []  # the parameters that are views of parts of `_packed`
        self._packed: Tensor | None = None
        self._leaves: Leaves | None = None

    def __getstate__(self) -> dict[str, Any]:
        # The parameters of a copy are on their own.
        return {**vars(self), "_which": [], "_packed": None, "_leaves": None}

    def rename(self, prefix: str) -> None:
        """Name the moments, for the graphs that show them."""
        for name, moment in self._moments.items():
            moment.rename(f"{prefix}.{name}")

    def with_gradient(self) -> list[int]:
        """Which parameters have one, by their position."""
        if thread.state.trace is not None:
            return [i for i, p in enumerate(self.params) if p.grad is not None]
        # A request for a gradient need not be recorded to know.
        return [i for i, p in enumerate(self.params) if p._grad is not None]

    def some(self, which: list[int]) -> list[Tensor]:
        """Some parameters, by their position."""
        if len(which) == len(self.params):
            return self.params
        return [self.params[i] for i in which]

    def parameters(self, which: list[int]) -> Node:
        """Some parameters, packed."""
        params = self.some(which)
        if thread.state.trace is not None:
            result: Node = ops.pack(*[p._read() for p in params])
            return result
        packed, leaves = self._packed, self._leaves
        if packed is None or which != self._which or leaves is None or not leaves.are_in_use():
            packed = Tensor._from_array(np.concatenate([p.cached_data for p in params], axis=None))
            packed.rename("parameters")
            leaves = Leaves(params, (), [p.node.type for p in params])
            self._which = which
            self._hand_out(packed, leaves)
        return packed.node

    def assign_parameters(self, which: list[int], new: Node) -> Tensor | None:
        """Let the packed `new` be some parameters: in a trace at once, otherwise it is to be handed
        out when it is computed.
        """
        if thread.state.trace is not None:
            params = self.some(which)
            parts = ops.unpack_all(cut(new), [p.shape for p in params])
            for p, part in zip(params, parts, strict=True):
                p._assign(part, is_own=True)
            return None
        packed = Tensor._from_node(cut(new), requires_grad=False, is_leaf=True)
        packed.name = "parameters"
        return packed

    def hand_out(self, packed: Tensor) -> None:
        """Let the parameters be what is `packed`, which is computed."""
        assert self._leaves is not None
        assert self._packed is not None
        if packed.node.value is not self._packed.node.value:  # else it was computed in their place
            self._hand_out(packed, self._leaves)

    def _hand_out(self, packed: Tensor, leaves: Leaves) -> None:
        """Let the parameters be views of the parts of `packed`, which has a value."""
        array = packed.node.value
        assert array is not None
        position, parts = 0, []
        for i in self._which:
            p = self.params[i]
            end = position + p.size
            parts.append(array[position:end].reshape(p.shape))
            position = end
        with leaves.lock:
            leaves.assign(parts)
        self._packed, self._leaves = packed, leaves

    def replaced(
        self, which: list[int], read: list[Node], old: Node, packed: Tensor
    ) -> list[Replaced]:
        """What a step puts in the place of the parameters that it reads by these nodes, and all of
        them by `old`.
        """
        requests = requests_for(self.some(which))
        if requests is None:
            return []
        # Besides requests, a parameter and `_leaves` hold its leaf.
        return [Replaced(old, packed.node, 1, self._leaves, read, 2 + requests)]

    def moment(self, name: str, i: int) -> Node:
        """The moment of one parameter, in its shape."""
        return self._part(self._moments[name]._read(), i)

    def moments(self, name: str, which: list[int]) -> Node:
        """The moments of some parameters, packed."""
        if len(which) == len(self.params):
            return self._moments[name]._read()
        result: Node = ops.pack(*[self.moment(name, i) for i in which])
        return result

    def assign_moments(self, name: str, which: list[int], new: Node) -> Node:
        """Let the packed `new` be the moments of some parameters; those of the others stay. Gives
        the leaf of them all.
        """
        if len(which) < len(self.params):
            parts = {i: self.moment(name, i) for i in range(len(self.params))}
            shapes = [p.shape for p in self.some(which)]
            parts |= zip(which, ops.unpack_all(new, shapes), strict=True)
            new = ops.pack(*parts.values())
        self._moments[name]._assign(new)
        return self._moments[name].node

    def _part(self, packed: Node, i: int) -> Node:
        result: Node = ops.unpack(packed, start=self._starts[i], shape=self.params[i].shape)
        return result


class Optimizer:
    """What optimizers share. `lr` can be changed between steps; it never compiles again.

    A subclass gives the names of its `moments`, which start at 0 and are float32, and `update`.
    """

    moments: tuple[str, ...] = ()

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float):
        self.params = _checked(params)
        self.lr = non_negative("lr", lr)
        self.weight_decay = non_negative("weight_decay", weight_decay)
        by_dtype: dict[DType, dict[int, Tensor]] = {}
        for parameter in self.params:
            by_dtype.setdefault(parameter.dtype, {})[id(parameter)] = parameter
        self._groups = [_Group([*group.values()], self.moments) for group in by_dtype.values()]
        for group in self._groups:
            group.rename(type(self).__name__)
        self._in_place = InPlace()

    def step(self) -> None:
        """Update every parameter that has a gradient, and compute all that is pending.

        Forward pass, gradients and updates run as one plan. Gradients are not modified.
        """
        with no_grad(), scope(type(self).__name__, "update"), inherit_origin(capture_origin()):
            computed = self._record_step()
        sync(in_place=self._in_place)
        for group, packed in computed:
            group.hand_out(packed)

    def update(
        self, parameter: Node, gradient: Node, moments: dict[str, Node]
    ) -> tuple[Node, dict[str, Node]]:
        """The new parameter, and the new moments by name.

        All are packed, (n,); what becomes of an element depends on that element only.
        """
        raise TypeError(f"{type(self).__name__} does not define update()")

    def _record_step(self) -> list[tuple[_Group, Tensor]]:
        """Record the step. Gives what is to be handed out when it was computed."""
        computed: list[tuple[_Group, Tensor]] = []
        replaced: list[Replaced] = []
        for group in self._groups:
            which = group.with_gradient()
            if not which:
                continue
            params = group.some(which)
            read = [*map(_node, params)]
            parameter = group.parameters(which)
            gradient = packed_gradients(params)
            decay = guarded(self, "weight_decay")
            if decay:
                gradient = ops.decayed_gradient(gradient, parameter, decay=decay)
            moments = {name: group.moments(name, which) for name in self.moments}
            new, new_moments = self.update(parameter, gradient, moments)
            packed = group.assign_parameters(which, new)
            if packed is not None:
                computed.append((group, packed))
                replaced += group.replaced(which, read, parameter, packed)
            for name, moment in new_moments.items():
                assigned = group.assign_moments(name, which, moment)
                if moments[name].op is INPUT:
                    replaced.append(Replaced(moments[name], assigned, 0))
        self._in_place.expect(replaced)
        return computed

    def _learning_rate(self) -> Node:
        return host_scalar(lambda: self.lr, np.dtype(np.float32), "lr")

    def _moment_of_each(self, name: str) -> list[Tensor]:
        """The moments by this name, one tensor for each of `params`."""
        nodes = {
            id(p): group.moment(name, i)
            for group in self._groups
            for i, p in enumerate(group.params)
        }
        return [Tensor._from_node(nodes[id(p)], requires_grad=False) for p in self.params]

    def reset_grad(self) -> None:
        """Set the gradient of every parameter to None."""
        if thread.state.trace is None:
            for parameter in self.params:
                parameter._grad = None
            return
        for parameter in self.params:
            parameter.grad = None

    def clip_grad_norm(self, max_norm: float = 0.25) -> Tensor:
        """Scale all gradients so that their common Euclidean norm is at most `max_norm`.

        Every `.grad` becomes a new tensor. Returns the norm from before. Raises ValueError for a
        negative max_norm, or where no parameter has a gradient.
        """
        non_negative("max_norm", max_norm)
        with no_grad():
            gradients = [(p, p.grad.detach()) for p in self.params if p.grad is not None]
            if not gradients:
                raise ValueError("no parameter has a gradient to clip; call backward() first")
            norm = ops.sqrt(reduce(add, [ops.sum(g * g) for _, g in gradients]))
            factor = ops.minimum(max_norm / (norm + 1e-6), 1.0)
            for parameter, gradient in gradients:
                parameter.grad = gradient * ops.cast(factor, gradient.dtype)
        return norm


class SGD(Optimizer):
    """Stochastic gradient descent: u ← momentum·u + (1 - momentum)·g, θ ← θ - lr·u.

    g is the gradient plus weight_decay·θ. u starts at 0 and is float32. Raises ValueError for a
    negative lr or weight_decay, or a momentum outside of [0, 1).
    """

    moments = ("u",)

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.01,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr, weight_decay)
        self.momentum = fraction("momentum", momentum)

    @property
    def u(self) -> list[Tensor]:
        """The moving average of the gradient of each parameter."""
        return self._moment_of_each("u")

    def update(
        self, parameter: Node, gradient: Node, moments: dict[str, Node]
    ) -> tuple[Node, dict[str, Node]]:
        """One step along the moving average of the gradient, or along the gradient itself."""
        lr = self._learning_rate()
        beta = guarded(self, "momentum")
        if not beta:
            return ops.sgd_update(parameter, gradient, lr), {}
        u = ops.moving_average(moments["u"], gradient, beta=beta)
        return ops.sgd_update(parameter, u, lr), {"u": u}


class Adam(Optimizer):
    """Adam with bias correction (Kingma and Ba 2015, algorithm 1).

    u ← β₁·u + (1 - β₁)·g, v ← β₂·v + (1 - β₂)·g², θ ← θ - lr·û / (√v̂ + eps), where
    û = u / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ). g is the gradient plus weight_decay·θ. u and v start
    at 0 and are float32. Raises ValueError for a negative lr, eps or weight_decay, or a beta
    outside of [0, 1).
    """

    moments = ("u", "v")

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.01,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr, weight_decay)
        self.beta1 = fraction("beta1", beta1)
        self.beta2 = fraction("beta2", beta2)
        self.eps = non_negative("eps", eps)
        self._t = Tensor(np.zeros(()), requires_grad=False)
        self._t.rename("t")

    @property
    def t(self) -> int:
        """The number of steps taken."""
        return int(self._t)

    @property
    def u(self) -> list[Tensor]:
        """The moving average of the gradient of each parameter."""
        return self._moment_of_each("u")

    @property
    def v(self) -> list[Tensor]:
        """The moving average of the squared gradient of each parameter."""
        return self._moment_of_each("v")

    def _record_step(self) -> list[tuple[_Group, Tensor]]:
        self._t._assign(ops.add(self._t._read(), _ONE))
        return super()._record_step()

    def update(
        self, parameter: Node, gradient: Node, moments: dict[str, Node]
    ) -> tuple[Node, dict[str, Node]]:
        """One step along the corrected first moment, scaled by the second."""
        beta1 = guarded(self, "beta1")
        beta2 = guarded(self, "beta2")
        eps = guarded(self, "eps")
        t = self._t._read()
        u = ops.moving_average(moments["u"], gradient, beta=beta1)
        v = ops.moving_square_average(moments["v"], gradient, beta=beta2)
        lr = self._learning_rate()
        new = ops.adam_update(parameter, u, v, lr, t, beta1=beta1, beta2=beta2, eps=eps)
        return new, {"u": u, "v": v}


def _checked(params: Iterable[Tensor]) -> list[Tensor]:
    """The parameters as a list. Raises for what no optimizer can learn."""
    if isinstance(params, Tensor) or not isinstance(params, Iterable):
        raise TypeError(
            f"an optimizer takes a list of parameters, not {type(params).__name__}; "
            "of a module, pass module.parameters()"
        )
    found = list(params)
    if not found:
        raise ValueError("the optimizer was given no parameters")
    for parameter in found:
        if not isinstance(parameter, Tensor):
            raise TypeError(f"a parameter is a Tensor, not {type(parameter).__name__}")
        if not is_floating(parameter.dtype):
            raise DTypeError(f"a parameter of {parameter.dtype} has no gradient; use a float dtype")
    return found
