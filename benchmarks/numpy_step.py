"""The training step by hand in NumPy: what a careful person reaches without a compiler.

Parameters, gradients and moments are one flat array each, so that Adam is a dozen calls whatever
the number of layers. Every other array is made once and written again in every step.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.blas import numpy_blas
from benchmarks.configurations import Configuration
from benchmarks.contender import Step
from benchmarks.numpy_layers import FlatArrays, Linear, Norm
from benchmarks.problem import Array, batches, initial_parameters


def make_step(configuration: Configuration, variant: str = "") -> Step:
    """The step over the shared parameters and batches."""
    data = batches(configuration)
    network = Network(configuration, initial_parameters(configuration))
    return Step(
        run=lambda number: network.train(*data[number % len(data)]),
        wait=lambda loss: None,
        loss=float,
        facts=lambda: {
            "version": f"NumPy {np.__version__}",
            "BLAS": numpy_blas(),
            "random numbers": "SFC64, float32",
        },
    )


def _empty(*shape: int) -> Array:
    return np.empty(shape, np.float32)


@dataclass(frozen=True)
class Block:
    """relu(x + norm2(linear2(dropout(relu(norm1(linear1(x)))))))."""

    linear1: Linear
    norm1: Norm
    linear2: Linear
    norm2: Norm
    keep: Array  # 0 or 1 / (1 - p) for each inner element
    inner: Array  # what goes into linear2
    out: Array


class Network:
    """The MLPResNet with all of its arrays. `train` is the step."""

    def __init__(self, configuration: Configuration, initial: dict[str, Array]):
        self.configuration = configuration
        shapes = {name: array.shape for name, array in initial.items()}
        self.parameters, self._grads = FlatArrays(shapes), FlatArrays(shapes)
        for name, array in initial.items():
            self.parameters[name][:] = array
        flat = self.parameters.flat
        self._u, self._v, self._scratch = (np.zeros_like(flat) for _ in range(3))
        self._steps = 0

        norms = {name: shape for name, shape in shapes.items() if ".norm" in name}
        # The keys end in weight and bias; the statistics have the shapes of these.
        self._observed, self.running = FlatArrays(norms), FlatArrays(norms)
        for name in norms:
            self.running[name][:] = name.endswith("bias")
        self._observed_scratch = np.empty_like(self._observed.flat)

        batch, hidden = configuration.batch, configuration.hidden
        inner = hidden // 2
        self._generator = np.random.Generator(np.random.SFC64(0))
        self._stem, self._classifier = self._linear("stem"), self._linear("classifier")
        self._stem_out = _empty(batch, hidden)
        self._blocks = [self._block(f"blocks.{i}") for i in range(configuration.blocks)]
        self._logits = _empty(batch, configuration.classes)
        self._rows = np.arange(batch)
        # Scratch that all blocks share: nothing in it outlives the block that wrote it.
        self._wide = [_empty(batch, hidden) for _ in range(3)]
        self._narrow = [_empty(batch, inner) for _ in range(2)]

    def _linear(self, name: str) -> Linear:
        owners = (self.parameters, self._grads)
        return Linear(*[x[f"{name}.{part}"] for x in owners for part in ("weight", "bias")])

    def _norm(self, name: str) -> Norm:
        owners = (self.parameters, self._grads, self._observed)
        arrays = [x[f"{name}.{part}"] for x in owners for part in ("weight", "bias")]
        size = len(arrays[0])
        normal = _empty(self.configuration.batch, size)
        return Norm(*arrays, _empty(size), normal, _empty(size), self.configuration.norm_eps)

    def _block(self, name: str) -> Block:
        batch, hidden = self.configuration.batch, self.configuration.hidden
        inner = hidden // 2
        return Block(
            self._linear(f"{name}.linear1"),
            self._norm(f"{name}.norm1"),
            self._linear(f"{name}.linear2"),
            self._norm(f"{name}.norm2"),
            *[_empty(batch, inner) for _ in range(2)],
            _empty(batch, hidden),
        )

    def train(self, images: Array, labels: Array) -> Any:
        """One step on a batch. Returns the loss from before it."""
        h = self._forward(images)
        self._classifier.forward(h, self._logits)
        loss = self._loss(labels)
        self._backward(images, h)
        self._follow_statistics()
        self._adam()
        return loss

    def _forward(self, images: Array) -> Array:
        """The input of the classifier."""
        h = self._stem_out
        self._stem.forward(images, h)
        np.maximum(h, 0, out=h)
        p = self.configuration.dropout
        narrow, wide = self._narrow[0], self._wide[0]
        for block in self._blocks:
            block.linear1.forward(h, narrow)
            block.norm1.forward(narrow, block.inner)
            np.maximum(block.inner, 0, out=block.inner)
            if p:
                self._generator.random(dtype=np.float32, out=block.keep)
                np.greater_equal(block.keep, p, out=block.keep, casting="unsafe")
                np.multiply(block.keep, 1 / (1 - p), out=block.keep)
                np.multiply(block.inner, block.keep, out=block.inner)
            block.linear2.forward(block.inner, wide)
            block.norm2.forward(wide, block.out)
            np.add(h, block.out, out=block.out)
            np.maximum(block.out, 0, out=block.out)
            h = block.out
        return h

    def _loss(self, labels: Array) -> Any:
        """The mean cross-entropy. The logits become its gradient, in place."""
        logits, count = self._logits, len(labels)
        np.subtract(logits, np.maximum.reduce(logits, 1, keepdims=True), out=logits)
        picked = np.add.reduce(logits[self._rows, labels])
        np.exp(logits, out=logits)
        total = np.add.reduce(logits, 1, keepdims=True)
        loss = (np.add.reduce(np.log(total), None) - picked) / count
        np.divide(logits, total, out=logits)
        logits[self._rows, labels] -= 1
        np.multiply(logits, np.float32(1 / count), out=logits)
        return loss

    def _backward(self, images: Array, h: Array) -> None:
        """Write every gradient, from that of the logits."""
        ct, ct_branch, wide = self._wide
        ct_inner, narrow = self._narrow
        self._classifier.backward(h, self._logits, ct)
        inputs = [self._stem_out, *[block.out for block in self._blocks]]
        for block, x in zip(reversed(self._blocks), reversed(inputs[:-1]), strict=True):
            np.greater(block.out, 0, out=wide, casting="unsafe")
            np.multiply(ct, wide, out=ct)
            np.copyto(ct_branch, ct)
            block.norm2.backward(ct_branch, wide)
            block.linear2.backward(block.inner, ct_branch, ct_inner)
            # Where an element was dropped, `inner` is 0 as well.
            np.greater(block.inner, 0, out=narrow, casting="unsafe")
            np.multiply(ct_inner, narrow, out=ct_inner)
            if self.configuration.dropout:
                np.multiply(ct_inner, block.keep, out=ct_inner)
            block.norm1.backward(ct_inner, narrow)
            block.linear1.backward(x, ct_inner, wide)
            np.add(ct, wide, out=ct)
        np.greater(self._stem_out, 0, out=wide, casting="unsafe")
        np.multiply(ct, wide, out=ct)
        self._stem.backward(images, ct, None)

    def _follow_statistics(self) -> None:
        """Move the running means and variances of all layers towards the batch's."""
        momentum, scratch = np.float32(self.configuration.norm_momentum), self._observed_scratch
        np.multiply(self.running.flat, 1 - momentum, out=self.running.flat)
        np.multiply(self._observed.flat, momentum, out=scratch)
        np.add(self.running.flat, scratch, out=self.running.flat)

    def _adam(self) -> None:
        """Adam over all parameters at once; the weight decay is part of the gradient."""
        settings, scratch, grads = self.configuration, self._scratch, self._grads.flat
        parameters, u, v = self.parameters.flat, self._u, self._v
        self._steps += 1
        u_debias = 1 - settings.beta1**self._steps
        v_debias = 1 - settings.beta2**self._steps
        np.multiply(parameters, settings.weight_decay, out=scratch)
        np.add(grads, scratch, out=grads)
        np.multiply(u, settings.beta1, out=u)
        np.multiply(grads, 1 - settings.beta1, out=scratch)
        np.add(u, scratch, out=u)
        np.multiply(v, settings.beta2, out=v)
        np.multiply(grads, grads, out=grads)
        np.multiply(grads, 1 - settings.beta2, out=grads)
        np.add(v, grads, out=v)
        np.multiply(v, 1 / v_debias, out=scratch)
        np.sqrt(scratch, out=scratch)
        np.add(scratch, settings.adam_eps, out=scratch)
        np.divide(u, scratch, out=scratch)
        np.multiply(scratch, settings.lr / u_debias, out=scratch)
        np.subtract(parameters, scratch, out=parameters)
