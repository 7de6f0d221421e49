"""Modules: parameters, children found in attributes, the training flag, module paths."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from needle_ir.device import Device
from needle_ir.ir import (
    Array,
    DTypeError,
    ShapeError,
    is_of_package,
    scope_of_call,
)
from needle_ir.recording import guarded, thread
from needle_ir.tensor import Tensor


class Parameter(Tensor):
    """A tensor that an optimizer learns. Raises DTypeError where it is to have a gradient, and
    its dtype is not a float one.
    """

    __slots__ = ()

    def __init__(
        self,
        array: Any,
        *,
        device: Device | None = None,
        dtype: Any = None,
        requires_grad: bool = True,
    ):
        super().__init__(array, device=device, dtype=dtype, requires_grad=requires_grad)
        if requires_grad and not self.requires_grad:
            raise DTypeError(f"a parameter of {self.dtype} has no gradient; use a float dtype")


class Module:
    """A part of a network. Subclasses define `forward`; calling the module calls it.

    Children and parameters are found in attributes, and in dicts, lists and tuples of them. What
    is recorded during a call carries the path of the module, such as `blocks.1.linear2`, seen from
    the outermost module that was called.
    """

    _training = True
    _paths: Mapping[int, str] = {}
    _of_package = True  # whether `forward` is a function of this package

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._of_package = is_of_package(getattr(cls.forward, "__module__", None) or "")

    @property
    def training(self) -> bool:
        """Whether the module is in training mode. `train()` and `eval()` set it."""
        training: bool = guarded(self, "_training")
        return training

    @training.setter
    def training(self, value: bool) -> None:
        self._training = bool(value)

    def parameters(self) -> list[Parameter]:
        """The parameters of this module and everything in it, each once."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_parameters(self) -> list[tuple[str, Parameter]]:
        """The parameters with their dotted paths, each once."""
        return [(name, x) for name, x in walk(self) if isinstance(x, Parameter)]

    def state_dict(self) -> dict[str, Array]:
        """A copy of every parameter and running value, by dotted path."""
        return {name: x.numpy() for name, x in walk(self) if isinstance(x, Tensor)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the arrays or tensors of a `state_dict`. Either all are taken or none.

        Raises KeyError where names are missing or not known here, ShapeError where a shape
        differs, DTypeError where a dtype can not be converted without loss of its kind, TypeError
        for a state that is no mapping.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"a state is a mapping of names to arrays, not {type(state).__name__}")
        own = {name: x for name, x in walk(self) if isinstance(x, Tensor)}
        missing = sorted(own.keys() - state.keys())
        unknown = sorted(state.keys() - own.keys(), key=str)
        if missing or unknown:
            raise KeyError(f"the state lacks {missing} and has {unknown}, which is not known here")
        arrays: dict[str, Array] = {}
        for name, x in own.items():
            value = np.asarray(state[name])
            if value.shape != x.shape:
                raise ShapeError(f"{name} has shape {x.shape}, the state {value.shape}")
            if not np.can_cast(value.dtype, x.dtype, "same_kind"):
                raise DTypeError(f"{name} is {x.dtype}, the state {value.dtype}")
            arrays[name] = value.astype(x.dtype)
        for name, x in own.items():
            x.data = arrays[name]

    def train(self) -> None:
        """Put this module and everything in it into training mode."""
        self._set_training(True)

    def eval(self) -> None:
        """Put this module and everything in it into evaluation mode."""
        self._set_training(False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes."""
        raise TypeError(f"{type(self).__name__} does not define forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What `forward` returns; what it records carries this module's path."""
        now = thread.state
        if now.trace is not None:
            now.trace.meet(self)
        before = now.outermost
        outermost = self if before is None else before
        path = outermost._paths.get(id(self))
        if path is None:
            path = outermost._find_path(self)
        here = now.here
        outer = here.scope
        here.scope = scope_of_call(outer, path, self._of_package)
        now.outermost = outermost
        try:
            return self.forward(*args, **kwargs)
        finally:
            here.scope = outer
            now.outermost = before

    def named_children(self) -> Iterator[tuple[str, Any]]:
        """What this module holds directly, by name: modules, tensors, containers of them."""
        yield from vars(self).items()

    def __repr__(self) -> str:
        """The module as a tree: name, type and settings, children indented below."""
        lines = [self._line()]
        above: list[str] = []  # the paths of the modules around the present one
        for path, x in walk(self):
            if isinstance(x, Module):
                while above and not path.startswith(f"{above[-1]}."):
                    above.pop()
                name = path.removeprefix(f"{above[-1]}.") if above else path
                lines.append(f"{'  ' * (len(above) + 1)}{name}: {x._line()}")
                above.append(path)
        return "\n".join(lines)

    def _line(self) -> str:
        settings = {
            name: value
            for name, value in vars(self).items()
            if isinstance(value, int | float | str) and not name.startswith("_")
        }
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in settings.items())})"

    def _set_training(self, training: bool) -> None:
        self.training = training
        for _, x in walk(self):
            if isinstance(x, Module):
                x.training = training

    def _find_path(self, module: "Module") -> str:
        """The path of a module inside of this one. Tensors learn their names on the way."""
        self._paths = paths = {id(self): type(self).__name__}
        for path, x in walk(self):
            if isinstance(x, Module):
                paths[id(x)] = path
            else:
                x.rename(path)
        return paths.get(id(module), type(module).__name__)


def walk(module: Module) -> Iterator[tuple[str, "Module | Tensor"]]:
    """Every module and tensor inside of `module`, with its dotted path, each once."""
    seen = {id(module)}
    stack: list[tuple[str, Any]] = [*module.named_children()][::-1]
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict):
            stack += [(f"{path}.{key}", x) for key, x in value.items()][::-1]
        elif isinstance(value, list | tuple):
            stack += [(f"{path}.{i}", x) for i, x in enumerate(value)][::-1]
        elif isinstance(value, Module | Tensor) and id(value) not in seen:
            seen.add(id(value))
            yield path, value
            if isinstance(value, Module):
                children = [(f"{path}.{name}", x) for name, x in value.named_children()]
                stack += children[::-1]
