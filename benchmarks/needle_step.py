"""The training step in needle_ir: the code of apps/mlp_resnet.py, without its command line.

The variants are the same function, with `jit` and as it stands.
"""

from collections.abc import Sequence
from typing import Any

import needle_ir as ndl
from benchmarks.blas import numpy_blas
from benchmarks.configurations import Configuration
from benchmarks.contender import Step
from benchmarks.problem import batches, initial_parameters
from needle_ir import nn
from needle_ir.compiler import running_with
from needle_ir.ir import Array, Place, Plan
from needle_ir.ops.packing import allocated_parts
from needle_ir.runtime import Executor
from needle_ir.runtime.recycle import RECYCLED_BYTES


class ResidualBlock(nn.Module):
    """relu(x + norm2(linear2(dropout(relu(norm1(linear1(x)))))))."""

    def __init__(self, dim: int, hidden_dim: int, drop_prob: float):
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.norm1 = nn.BatchNorm1d(hidden_dim)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(drop_prob)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.norm2 = nn.BatchNorm1d(dim)

    def forward(self, x: ndl.Tensor) -> ndl.Tensor:
        """(n, dim) to (n, dim)."""
        hidden = self.dropout(self.relu(self.norm1(self.linear1(x))))
        result: ndl.Tensor = self.relu(x + self.norm2(self.linear2(hidden)))
        return result


class MLPResNet(nn.Module):
    """Linear, ReLU, residual blocks of half the width, and a linear classifier."""

    def __init__(self, configuration: Configuration):
        hidden, dropout = configuration.hidden, configuration.dropout
        self.stem = nn.Linear(configuration.features, hidden)
        self.relu = nn.ReLU()
        self.blocks = [
            ResidualBlock(hidden, hidden // 2, dropout) for _ in range(configuration.blocks)
        ]
        self.classifier = nn.Linear(hidden, configuration.classes)

    def forward(self, x: ndl.Tensor) -> ndl.Tensor:
        """(n, features) to (n, classes)."""
        x = self.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        result: ndl.Tensor = self.classifier(x)
        return result


def make_model(configuration: Configuration) -> MLPResNet:
    """The model with the shared parameters."""
    model = MLPResNet(configuration)
    arrays = initial_parameters(configuration)
    for name, parameter in model.named_parameters():
        parameter.data = arrays[name].reshape(parameter.shape)
    return model


def make_optimizer(configuration: Configuration, model: nn.Module) -> ndl.optim.Adam:
    """Adam over the parameters of the model."""
    return ndl.optim.Adam(
        model.parameters(),
        lr=configuration.lr,
        beta1=configuration.beta1,
        beta2=configuration.beta2,
        eps=configuration.adam_eps,
        weight_decay=configuration.weight_decay,
    )


def make_train_step(configuration: Configuration, model: nn.Module) -> Any:
    """The function of images and labels that takes one step and returns the loss before it."""
    opt = make_optimizer(configuration, model)
    criterion = nn.SoftmaxLoss()

    def train_step(images: ndl.Tensor, labels: ndl.Tensor) -> ndl.Tensor:
        opt.reset_grad()
        loss: ndl.Tensor = criterion(model(images), labels)
        loss.backward()
        opt.step()
        return loss

    return train_step


def make_step(configuration: Configuration, variant: str) -> Step:
    """The step, jitted where `variant` is "jit"."""
    ndl.manual_seed(0)
    data = [
        (ndl.Tensor(images, requires_grad=False), ndl.Tensor(labels))
        for images, labels in batches(configuration)
    ]
    train_step = make_train_step(configuration, make_model(configuration))
    run = ndl.jit(train_step) if variant == "jit" else train_step

    return Step(
        run=lambda number: run(*data[number % len(data)]),
        wait=lambda loss: loss.realize(),
        loss=lambda loss: loss.item(),
        facts=lambda: {
            "version": f"needle_ir {ndl.__version__}",
            "BLAS": numpy_blas(),
            "random numbers": "manual_seed: SFC64, float32",
        },
        memory=lambda: _memory(_plan(run, data[0]), gradients=variant == "jit"),
    )


def _plan(run: Any, batch: tuple[ndl.Tensor, ndl.Tensor]) -> Plan:
    """The plan that runs in a step."""
    found: list[Plan] = []

    def execute(plan: Plan, arrays: Sequence[Array]) -> tuple[Array, ...]:
        found.append(plan)
        return Executor(plan)(arrays)

    with running_with(execute):
        run(*batch)
    return found[-1]


def _memory(plan: Plan, gradients: bool) -> dict[str, int]:
    """The bytes that a step needs. Besides what it replaces it computes results that it does not
    read in the place of the last ones, with `gradients`.
    """
    parts = allocated_parts(plan)
    # What the next step computes in its place again: not what is too small to be recycled.
    kept = {
        donation.whole
        for donation in plan.donations
        if donation.replaced or gradients
        if donation.whole in parts or plan.slots[donation.whole].nbytes >= RECYCLED_BYTES
    }
    return {
        "temporaries": plan.arena_bytes,
        "without reuse": plan.naive_bytes,
        "new results": sum(
            slot.nbytes
            for number, slot in enumerate(plan.slots)
            # What is computed in its place in a packed array has no memory of its own.
            if slot.place is Place.OUTPUT and slot.inside is None and number not in kept
        ),
    }
