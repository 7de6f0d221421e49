"""What `backward()` asks for is recorded when it is needed, and nobody can tell."""

import threading
import weakref

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, nn, ops, optim
from needle_ir.recording import thread

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
        terms = [
            c * (self.leaves[i] * self.leaves[i]).sum() for i, c in zip(used, factors, strict=True)
        ]
        loss = terms[0]
        for term in terms[1:]:
            loss = loss + term
        self.loss = (
            loss,
            sum(c * (self.values[i] ** 2).sum() for i, c in zip(used, factors, strict=True)),
        )
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


@pytest.mark.filterwarnings("ignore::needle_ir.RecompileWarning")
@pytest.mark.parametrize("seed", range(60))
def test_programs_of_random_actions_give_the_numbers_of_numpy(seed):
    both = Both(seed)
    for k in both.random.integers(len(ACTIONS), size=25):
        ACTIONS[k](both)
    both.compare()


def two_leaves():
    a, b = Tensor(np.arange(3.0)), Tensor(np.ones((2, 2)))
    loss = (a * a).sum() + (b * b * b).sum()
    return a, b, loss


def recorded(run):
    """How often each op stands in what `run` records and has compiled."""
    ndl.clear_cache()
    with ndl.record_passes() as passes:
        run()
    nodes = [node.op.name for node in passes.stages[0].graph.nodes]
    return {name: nodes.count(name) for name in ("gradients", "grad", "pack", "unpack")}


def test_an_optimizer_asks_for_all_gradients_at_once():
    a, b, loss = two_leaves()
    opt = optim.SGD([b, a], lr=LR)
    loss.backward()
    counts = recorded(opt.step)
    assert (counts["gradients"], counts["grad"]) == (1, 0)
    np.testing.assert_array_equal(a.numpy(), np.arange(3.0) - LR * 2 * np.arange(3.0))
    np.testing.assert_array_equal(b.numpy(), np.full((2, 2), 1 - LR * 3))


def test_one_gradient_is_asked_for_alone():
    a, _, loss = two_leaves()
    loss.backward()
    counts = recorded(lambda: a.grad.numpy())
    assert (counts["gradients"], counts["grad"]) == (0, 1)
    np.testing.assert_array_equal(a.grad.numpy(), 2 * np.arange(3.0))


def test_what_nobody_asked_for_is_computed_by_a_sync():
    a, b, loss = two_leaves()
    loss.backward()
    counts = recorded(ndl.sync)
    assert counts["gradients"] == 1
    _, misses, *_ = ndl.cache_info()
    np.testing.assert_array_equal(a.grad.numpy(), 2 * np.arange(3.0))
    np.testing.assert_array_equal(b.grad.numpy(), np.full((2, 2), 3.0))
    assert ndl.cache_info()[1] == misses


def test_gradients_of_two_dtypes():
    a, b = Tensor(np.arange(3.0)), Tensor(np.arange(2, dtype=np.float32))
    ((a * a).sum() + (b * b).sum()).backward()
    ndl.sync()
    assert (a.grad.dtype, b.grad.dtype) == (np.float64, np.float32)
    np.testing.assert_array_equal(b.grad.numpy(), [0, 2])


def test_no_pass_of_the_same_step_compiles_again():
    """The order in which gradients are asked for does not depend on where objects lie."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = Tensor(np.ones((5, 3), np.float32), requires_grad=False)
    ndl.clear_cache()
    for _ in range(5):
        loss = model(x).sum()
        loss.backward()
        junk = [object() for _ in range(100)]
        ndl.sync()
        del junk
    assert ndl.cache_info().misses == 1


def test_gradients_that_nobody_reads_hold_no_history():
    a, b, loss = two_leaves()
    before = weakref.ref(a.node.value)
    opt = optim.SGD([a, b], lr=LR)
    loss.backward()
    del loss
    opt.step()
    assert before() is None
    assert a.grad is not None


def test_a_request_goes_with_the_last_gradient():
    a, b, loss = two_leaves()
    loss.backward()
    assert len(thread.state.requests) >= 1
    request = weakref.ref(a._grad)
    a.grad = None
    assert request() is not None
    b.grad = None
    assert request() is None


@pytest.mark.parametrize("read_before", [True, False])
def test_a_gradient_whose_history_was_freed_says_so(read_before):
    a, b, loss = two_leaves()
    loss.backward()
    if read_before:
        assert a.grad is not None
    optim.SGD([a, b], lr=LR).step()
    assert a.grad.requires_grad
    with pytest.raises(ValueError, match="history was freed"):
        a.grad.backward()


def test_a_gradient_is_recorded_at_the_line_of_its_backward():
    a, _, loss = two_leaves()
    loss.backward()
    line = test_a_gradient_is_recorded_at_the_line_of_its_backward.__code__.co_firstlineno + 2
    origin = a.grad.node.origin
    assert (origin.line, origin.phase) == (line, "backward")


def test_gradients_without_history_under_no_grad():
    a, _, loss = two_leaves()
    with ndl.no_grad():
        loss.backward()
    ndl.sync(free_history=False)
    assert not a.grad.requires_grad
    np.testing.assert_array_equal(a.grad.numpy(), 2 * np.arange(3.0))


def test_a_program_that_fails_leaves_gradients_that_fail():
    a, b = Tensor(np.arange(3.0)), Tensor(np.ones(2))
    index = Tensor(np.array([6])) + 1  # not known when it is used
    loss = (a * a)[index].sum() + (b * b).sum()
    loss.backward()
    opt = optim.SGD([a, b], lr=LR)
    for read in (opt.step, a.grad.numpy, opt.step):
        with pytest.raises(IndexError):
            read()


def test_steps_that_repeat_use_the_gradients_again():
    a, b, loss = two_leaves()
    opt = optim.SGD([b, a], lr=LR)
    loss.backward()
    opt.step()
    opt.step()
    np.testing.assert_allclose(a.numpy(), np.arange(3.0) * (1 - 4 * LR))


def test_gradients_is_an_op_of_its_own():
    x, y = Tensor(np.arange(3.0)), Tensor(np.ones(2))
    packed = ops.gradients((x * x).sum() + (y * y * y).sum(), x, y)
    np.testing.assert_array_equal(packed.numpy(), [0, 2, 4, 3, 3])
