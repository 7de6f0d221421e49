"""What `backward()` asks for is recorded when it is needed, and nobody can tell."""

import threading
import weakref

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, nn, ops, optim
from needle_ir.recording import state

SHAPES = [(2, 3), (4,), (), (1, 2), (3,)]
LR = 0.25  # a float32 exactly


class Both:
    """The same program in needle_ir and in NumPy.

    The losses are sums of c * w**2, so that the gradient of w is 2 * c * w.
    """

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        dtypes = self.random.choice([np.float64, np.float64, np.float32], len(SHAPES))
        self.values = [
            np.asarray(self.random.standard_normal(shape)).astype(dtype)
            for shape, dtype in zip(SHAPES, dtypes, strict=True)
        ]
        self.leaves = [Tensor(value) for value in self.values]
        self.grads = [None] * len(SHAPES)
        self.sources = [None] * len(SHAPES)  # c, w and the leaves of the loss, with a history
        self.held = []
        order = [int(i) for i in self.random.permutation(len(SHAPES))]
        self.groups = [order, order[::-1][:3], order[:2]]
        self.optimizers = [optim.SGD([self.leaves[i] for i in g], lr=LR) for g in self.groups]
        self.loss = None

    def pick(self):
        return int(self.random.integers(len(SHAPES)))

    def expect(self, i, gradient):
        wanted = self.grads[i]
        assert (gradient is None) == (wanted is None)
        if gradient is not None:
            assert gradient.dtype == wanted.dtype
            assert gradient.shape == wanted.shape
            np.testing.assert_allclose(gradient.numpy(), wanted, rtol=1e-5)

    def backward(self):
        used = [i for i in range(len(SHAPES)) if self.random.random() < 0.7] or [self.pick()]
        factors = [float(self.random.integers(1, 5)) for _ in used]
        terms = [c * (self.leaves[i] * self.leaves[i]).sum() for i, c in zip(used, factors, strict=True)]
        loss = terms[0]
        for term in terms[1:]:
            loss = loss + term
        self.loss = loss, sum(c * (self.values[i] ** 2).sum() for i, c in zip(used, factors, strict=True))
        loss.backward()
        for i, c in zip(used, factors, strict=True):
            self.grads[i] = np.asarray(2 * c * self.values[i]).astype(self.values[i].dtype)
            self.sources[i] = c, self.values[i], used


    def read_loss(self):
        if self.loss is not None:
            np.testing.assert_allclose(self.loss[0].item(), self.loss[1], rtol=1e-5)

    def drop_loss(self):
        self.loss = None

    def read(self):
        i = self.pick()
        self.expect(i, self.leaves[i].grad)

    def read_in_a_thread(self):
        i, found = self.pick(), []
        thread = threading.Thread(target=lambda: found.append(self.leaves[i].grad.numpy()))
        if self.grads[i] is not None:
            thread.start()
            thread.join()
            np.testing.assert_allclose(found[0], self.grads[i], rtol=1e-5)

    def read_under_jit(self):
        i = self.pick()
        if self.grads[i] is not None:
            doubled = ndl.jit(lambda: self.leaves[i].grad * 2)
            for _ in range(2):
                np.testing.assert_allclose(doubled().numpy(), self.grads[i] * 2, rtol=1e-5)

    def hold(self):
        i = self.pick()
        if self.grads[i] is not None:
            self.held.append((self.leaves[i].grad, self.grads[i]))
            assert self.leaves[i].grad is self.held[-1][0]

    def derive_again(self):
        i = self.pick()
        if self.sources[i] is not None:
            c, w, used = self.sources[i]
            gradient = self.leaves[i].grad
            (gradient * gradient).sum().backward()
            # Every leaf of the loss is below the gradient too.
            for j in used:
                self.grads[j] = np.zeros(SHAPES[j], self.values[j].dtype)
                self.sources[j] = None
            self.grads[i] = np.asarray(8 * c**2 * w).astype(w.dtype)

    def clear(self):
        i = self.pick()
        self.leaves[i].grad = None
        self.grads[i] = self.sources[i] = None

    def assign_grad(self):
        i = self.pick()
        self.grads[i] = np.asarray(self.random.standard_normal(SHAPES[i])).astype(
            self.values[i].dtype
        )
        self.leaves[i].grad = Tensor(self.grads[i], requires_grad=False)
        self.sources[i] = None

    def assign_data(self):
        i = self.pick()
        self.values[i] = np.asarray(self.values[i] + 1).astype(self.values[i].dtype)
        self.leaves[i].data = Tensor(self.values[i])

    def sync(self):
        ndl.sync(free_history=False)

    def sync_and_free(self):
        ndl.sync()
        self._freed()

    def step(self):
        k = int(self.random.integers(len(self.groups)))
        self.optimizers[k].step()
        for i in self.groups[k]:
            if self.grads[i] is not None:
                dtype = self.values[i].dtype
                self.values[i] = np.asarray(self.values[i] - LR * self.grads[i]).astype(dtype)
        self._freed()

    def reset(self):
        k = int(self.random.integers(len(self.groups)))
        self.optimizers[k].reset_grad()
        for i in self.groups[k]:
            self.grads[i] = self.sources[i] = None

    def _freed(self):
        self.sources = [None] * len(SHAPES)

    def compare(self):
        for i, leaf in enumerate(self.leaves):
            np.testing.assert_allclose(leaf.numpy(), self.values[i], rtol=1e-5)
            self.expect(i, leaf.grad)
        for tensor, wanted in self.held:
            np.testing.assert_allclose(tensor.numpy(), wanted, rtol=1e-5)


ACTIONS = [
    *[Both.backward] * 4,
    *[Both.step] * 3,
    *[Both.read] * 2,
    Both.read_loss,
    Both.drop_loss,
    Both.read_in_a_thread,
    Both.read_under_jit,
    Both.hold,
    Both.derive_again,
    Both.clear,
    Both.assign_grad,
    Both.assign_data,
    Both.sync,
    Both.sync_and_free,
    Both.reset,
]


@pytest.mark.parametrize("seed", range(60))
def test_programs_of_random_actions_give_the_numbers_of_numpy(seed):
    both = Both(seed)
    for k in both.random.integers(len(ACTIONS), size=25):
        ACTIONS[k](both)
    both.compare()
