"""`jit`, and tracing at all: the numbers do not change, and nothing else does either."""

import copy
import warnings
from typing import Any

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, TracedValueError, nn, optim


class Net(nn.Module):
    """Everything with state in it: batch norm, dropout, parameters in a list."""

    def __init__(self):
        self.blocks = [nn.Linear(3, 8), nn.BatchNorm1d(8)]
        self.dropout = nn.Dropout(0.25)
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.out(self.dropout(ndl.relu(x)))


def batch(seed=0, rows=6):
    rng = np.random.RandomState(seed)
    x = Tensor(rng.randn(rows, 3).astype(np.float32), requires_grad=False)
    return x, Tensor(rng.randint(0, 4, rows), requires_grad=False)


def trainer(make=optim.Adam, seed=0, **options):
    """A model, its optimizer, and a function that takes one step of training."""
    np.random.seed(seed)
    model = Net()
    opt = make(model.parameters(), lr=0.05, weight_decay=0.01, **options)

    def step(x, y):
        opt.reset_grad()
        logits = model(x)
        loss = nn.SoftmaxLoss()(logits, y)
        loss.backward()
        opt.step()
        return loss, logits

    return model, opt, step


def everything(model, opt):
    """Every array that training changes."""
    norm = model.blocks[1]
    tensors = [*model.parameters(), norm.running_mean, norm.running_var]
    tensors += [p.grad for p in model.parameters() if p.grad is not None]
    tensors += [*opt.u, *getattr(opt, "v", [])]
    return [tensor.numpy() for tensor in tensors]


def generator():
    """Where NumPy's global generator stands."""
    _, keys, *rest = np.random.get_state()
    return keys.tolist(), rest


def same_bits(some, others):
    some, others = [*some], [*others]
    assert len(some) == len(others) > 0
    for a, b in zip(some, others, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()
    return True


def test_tracing_computes_nothing_and_assigns_nothing(kernel_calls):
    model, opt, step = trainer()
    kernel_calls.clear()
    before = everything(model, opt)
    draws = generator()
    graph = ndl.trace(step, *batch())
    assert not kernel_calls
    assert generator() == draws
    assert all(p.grad is None for p in model.parameters())
    assert same_bits(before, everything(model, opt))
    assert graph.count("grad") == len(model.parameters()) == 6
    assert graph.count("adam_update") == 1


def test_training_goes_on_as_if_nothing_had_been_traced():
    x, y = batch()

    def losses(look):
        model, opt, step = trainer()
        result = []
        for _ in range(3):
            look(step)
            result.append(step(x, y)[0].numpy())
        return [*result, *everything(model, opt)]

    plain = losses(lambda step: None)
    assert same_bits(plain, losses(lambda step: ndl.trace(step, x, y)))
    assert same_bits(plain, losses(lambda step: ndl.compile(step, x, y)))


@pytest.mark.parametrize("look", [ndl.trace, ndl.compile, lambda fn, x: ndl.jit(fn)(x)])
def test_a_trace_between_forward_and_backward_keeps_the_history(look):
    w = Tensor([3.0])
    loss = w * w
    look(lambda x: x + 1, Tensor([1.0]))
    loss.backward()
    np.testing.assert_array_equal(w.grad.numpy(), [6])


def test_a_compiled_step_reads_and_assigns_state_at_every_call():
    x, y = batch()
    model, opt, step = trainer()
    plain = [step(x, y)[0].numpy() for _ in range(3)]
    other_model, other_opt, other_step = trainer()
    compiled = ndl.compile(other_step, x, y)
    assert same_bits(plain, [compiled(x, y)[0].numpy() for _ in range(3)])
    assert same_bits(everything(model, opt), everything(other_model, other_opt))
    other_model.eval()
    with pytest.raises(TypeError, match=r"another state: .*_training is False, was True"):
        compiled(x, y)


@pytest.mark.parametrize(
    ("make", "options"),
    [(optim.Adam, {}), (optim.SGD, {"momentum": 0.9}), (optim.SGD, {})],
    ids=["adam", "momentum", "sgd"],
)
def test_training_is_the_same_bit_for_bit(make, options):
    model, opt, step = trainer(make, **options)
    jit_model, jit_opt, jit_step = trainer(make, **options)
    jit_step = ndl.jit(jit_step)
    plain, fast = [], []
    for run, outputs in ((step, plain), (jit_step, fast)):
        np.random.seed(7)
        for seed in range(6):
            outputs += [tensor.numpy() for tensor in run(*batch(seed))]
        outputs.append(np.random.rand())
    assert same_bits(plain, fast)
    assert same_bits(everything(model, opt), everything(jit_model, jit_opt))
    assert jit_step.retraces == ["first call"]


def test_evaluation_is_the_same_bit_for_bit():
    model, _, step = trainer()
    step(*batch())
    fast = ndl.jit(model)
    for training in (True, False, True):
        model.train() if training else model.eval()
        results = []
        for run in (model, fast):
            np.random.seed(3)
            results.append(run(batch(1)[0]).numpy())
        assert same_bits(results[:1], results[1:])


def test_draws_are_drawn_anew_at_every_call():
    def draws(n):
        return [ndl.init.rand(3), ndl.init.randn(2, 2, mean=5.0), ndl.init.randb(n, p=0.3)]

    fast = ndl.jit(draws)
    np.random.seed(1)
    plain = [x.numpy() for _ in range(3) for x in draws(20)]
    np.random.seed(1)
    assert same_bits(plain, [x.numpy() for _ in range(3) for x in fast(20)])
    assert not np.array_equal(plain[0], plain[3])


def test_unused_draws_are_drawn_too():
    def f(x):
        ndl.init.rand(3)
        return x + ndl.init.rand(1)

    np.random.seed(5)
    expected = [f(Tensor([0.0])).item() for _ in range(2)]
    fast = ndl.jit(f)
    np.random.seed(5)
    assert [fast(Tensor([0.0])).item() for _ in range(2)] == expected


def test_gradients_are_there_after_the_call():
    w = nn.Parameter([1.0, 2.0])
    unused = nn.Parameter([1.0])

    def f(x):
        loss = (w * w * x).sum()
        loss.backward()
        return loss

    fast = ndl.jit(f)
    for factor in (1.0, 10.0):
        fast(Tensor([factor]))
        np.testing.assert_array_equal(w.grad.numpy(), [2 * factor, 4 * factor])
    assert unused.grad is None

    def clear():
        w.grad = None

    ndl.jit(clear)()
    assert w.grad is None


def test_arguments_are_assigned_to_as_well():
    def f(w, x):
        loss = (w * w * x).sum()
        loss.backward()
        w.data = w.data - 0.5 * w.grad
        return loss

    results = []
    for run in (f, ndl.jit(f)):
        w, x = Tensor([1.0, 2.0]), Tensor([0.5], requires_grad=False)
        results.append([t.numpy() for _ in range(2) for t in (run(w, x), w, w.grad)])
        assert x.grad is None
    assert same_bits(*results)
    np.testing.assert_array_equal(results[0][1], [0.5, 1])


def test_a_gradient_that_is_read_is_the_present_one():
    w = nn.Parameter([1.0, 2.0])
    opt = optim.SGD([w], lr=1.0)
    update = ndl.jit(opt.step)
    for factor in (1.0, 10.0):
        (w * factor).sum().backward()
        update()
    np.testing.assert_array_equal(w.numpy(), [1 - 11, 2 - 11])
    assert update.retraces == ["first call"]
    opt.reset_grad()
    update()
    np.testing.assert_array_equal(w.numpy(), [1 - 11, 2 - 11])
    assert update.retraces[1:] == ["the gradient of a tensor is None, was f32[2]"]


def test_state_assigned_between_calls_is_seen():
    w = nn.Parameter([1.0])
    fast = ndl.jit(lambda x: x * w)
    assert fast(Tensor([3.0])).item() == 3
    w.data = Tensor([5.0]) * 2
    assert fast(Tensor([3.0])).item() == 30
    assert fast.retraces == ["first call"]


def test_results_are_the_callers_own():
    w = nn.Parameter([1.0])
    fast = ndl.jit(lambda x: (x, w, x + w))
    x = np.array([2.0], np.float32)
    same, parameter, total = fast(x)
    x[:] = 100
    again = fast(Tensor([7.0]))
    assert [same.item(), parameter.item(), total.item()] == [2, 1, 3]
    assert again[2].item() == 8
    assert type(parameter) is Tensor
    w.data = Tensor([50.0])
    assert parameter.item() == 1


def test_every_retrace_has_its_reason():
    model, opt, step = trainer()
    step = ndl.jit(step)
    x, y = batch()
    step(x, y)
    step(*batch(1))
    assert step.retraces == ["first call"]
    opt.lr = 0.5
    step(x, y)
    assert step.retraces == ["first call"]
    step(*batch(rows=4))
    assert step.retraces[1:] == ["x: f32[6,3] before, f32[4,3] now; y: i64[6] before, i64[4] now"]
    opt.weight_decay = 0.5
    step(x, y)
    assert step.retraces[2:] == ["Adam.weight_decay is 0.5, was 0.01"]
    model.eval()
    step(x, y)
    assert len(step.retraces) == 4
    assert step.retraces[3].endswith("_training is False, was True")
    model.train()
    step(x, y)
    opt.weight_decay = 0.01
    step(x, y)
    assert len(step.retraces) == 4
    opt.beta1 = 0.5
    step(x, y)
    assert step.retraces[4:] == ["Adam.beta1 is 0.5, was 0.9"]


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam])
def test_a_new_learning_rate_is_respected(make):
    model, opt, step = trainer(make)
    jit_model, jit_opt, jit_step = trainer(make)
    jit_step = ndl.jit(jit_step)
    for run, optimizer in ((step, opt), (jit_step, jit_opt)):
        np.random.seed(0)
        for lr in (0.5, 0.0, 0.25):
            optimizer.lr = lr
            run(*batch())
    assert same_bits([p.numpy() for p in model.parameters()], [p.numpy() for p in jit_opt.params])
    before = [p.numpy() for p in jit_model.parameters()]
    jit_opt.lr = 0.0
    jit_step(*batch())
    assert same_bits(before, [p.numpy() for p in jit_model.parameters()])
    assert jit_step.retraces == ["first call"]


READS = [
    lambda x: x.item(),
    lambda x: float(x.sum()),
    lambda x: 1 if x.sum() > 0 else 2,
    lambda x: x.numpy(),
    lambda x: np.asarray(x * 2),
    lambda x: repr(x),
    lambda x: ndl.init.rand(1).item(),
]


@pytest.mark.parametrize("read", READS)
def test_a_value_can_not_be_read_while_tracing(read):
    model, opt, _ = trainer()
    x, y = batch()

    def step(x, y):
        opt.reset_grad()
        loss = nn.SoftmaxLoss()(model(x), y)
        loss.backward()
        opt.step()
        return read(loss)

    before = everything(model, opt)
    draws = generator()
    for run in (ndl.jit(step), lambda *a: ndl.trace(step, *a), lambda *a: ndl.compile(step, *a)):
        with pytest.raises(TracedValueError, match=r"Return the tensor.*use where\(\)"):
            run(x, y)
    assert same_bits(before, everything(model, opt))
    assert all(p.grad is None for p in model.parameters())
    assert generator() == draws


@pytest.mark.parametrize(
    "read",
    [
        lambda w: w.item(),
        lambda w: (w * 2).item(),
        lambda w: 1 if w > 0 else 2,
        lambda w: Tensor(w),
    ],
)
def test_a_value_of_state_can_not_be_read_either(read):
    """It would be frozen into the program."""
    w = Tensor([1.0])
    with pytest.raises(TracedValueError):
        ndl.jit(lambda x: x * read(w))(Tensor([1.0]))
    assert w.item() == 1


def test_what_depends_on_nothing_outside_can_be_read():
    fast = ndl.jit(lambda x: x * (Tensor([2.0]) * 3).item())
    assert fast(Tensor([5.0])).item() == 30


def test_an_exception_leaves_everything_as_it_was():
    x, y = batch()
    model, opt, step = trainer()
    twin, twin_opt, twin_step = trainer()
    broken = True

    def fragile(x, y):
        result = step(x, y)
        if broken:
            raise KeyError("broken")
        return result

    for run in (step, twin_step):
        np.random.seed(8)
        run(x, y)
    grads = [p.grad for p in model.parameters()]
    before = everything(model, opt)
    fast = ndl.jit(fragile)
    np.random.seed(9)
    for _ in range(2):
        with pytest.raises(KeyError, match="broken"):
            fast(x, y)
    assert same_bits(before, everything(model, opt))
    assert all(a is p.grad for a, p in zip(grads, model.parameters(), strict=True))

    # And everything still works: eager, jitted, and gradients.
    results = []
    for run in (step, twin_step):
        np.random.seed(9)
        results.append([t.numpy() for t in run(x, y)])
    assert same_bits(*results)
    broken = False
    np.random.seed(10)
    fast_loss = fast(x, y)[0].numpy()
    np.random.seed(10)
    assert same_bits([fast_loss], [twin_step(x, y)[0].numpy()])
    assert same_bits(everything(model, opt), everything(twin, twin_opt))


def test_an_exception_ends_every_scope():
    model = Net()
    x, _ = batch()

    def broken(x):
        with ndl.no_grad():
            model(x)
            raise KeyError

    with pytest.raises(KeyError):
        ndl.jit(broken)(x)
    assert (Tensor([1.0]) * 2).requires_grad
    text = str(ndl.trace(lambda x: x + 1, x))
    assert text.count("in <lambda>") == 1
    assert "in <lambda>," not in text
    assert (Tensor([1.0]) * 2).item() == 2


def test_a_mistake_in_a_traced_function_names_the_users_line():
    def broken(x):
        return x @ x

    with pytest.raises(ndl.ShapeError, match=r"matmul\(f32\[2,3\], f32\[2,3\]\)") as caught:
        ndl.jit(broken)(Tensor(np.zeros((2, 3), np.float32)))
    line = broken.__code__.co_firstlineno + 1
    assert str(caught.value).endswith(f"(at test_jit.py:{line} in broken)")


def test_a_jitted_model_can_be_copied():
    x, y = batch()
    model, opt, _ = trainer()
    twin, twin_opt = copy.deepcopy((model, opt))

    def step_of(model, opt):
        def step(x, y):
            opt.reset_grad()
            loss = nn.SoftmaxLoss()(model(x), y)
            loss.backward()
            opt.step()
            return loss

        return ndl.jit(step)

    losses = []
    for net, optimizer in ((model, opt), (twin, twin_opt)):
        np.random.seed(2)
        step = step_of(net, optimizer)
        losses.append([step(x, y).numpy() for _ in range(3)])
    assert same_bits(*losses)
    assert same_bits(everything(model, opt), everything(twin, twin_opt))


def test_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast = ndl.jit(lambda x: (x / 0).log())
        np.testing.assert_array_equal(fast(np.array([1.0, -1.0])).numpy(), [np.inf, np.nan])


@pytest.mark.parametrize(
    ("layer", "setting"),
    [
        (nn.BatchNorm1d(3), "eps"),
        (nn.BatchNorm1d(3), "momentum"),
        (nn.LayerNorm1d(3), "eps"),
        (nn.Dropout(0.25), "p"),
    ],
)
def test_a_changed_setting_of_a_module_traces_again(layer, setting):
    call = ndl.jit(layer)
    x = Tensor(np.arange(12.0).reshape(4, 3), requires_grad=False)
    call(x)
    call(x)
    before = getattr(layer, setting)
    setattr(layer, setting, 0.5)
    np.random.seed(0)
    jitted = call(x).numpy()
    assert call.retraces[1:] == [f"{type(layer).__name__}.{setting} is 0.5, was {before}"]
    np.random.seed(0)
    np.testing.assert_array_equal(jitted, layer(x).numpy())


@pytest.mark.parametrize("wrap", [ndl.jit, lambda step: step], ids=["jit", "plan cache"])
def test_freezing_a_parameter_takes_effect_at_once(wrap: Any) -> None:
    w, b = nn.Parameter(np.ones(3)), nn.Parameter(np.ones(3))
    w.rename("w")
    opt = ndl.optim.SGD([w, b], lr=0.1)

    def step() -> None:
        opt.reset_grad()
        (w * b).sum().backward()
        opt.step()

    run = wrap(step)
    run()
    w.requires_grad = False
    before = w.numpy()
    run()
    np.testing.assert_array_equal(w.numpy(), before)
    assert w.grad is None
    w.requires_grad = True
    run()
    assert not np.array_equal(w.numpy(), before)
    if wrap is ndl.jit:
        assert run.retraces[1] == "requires_grad of w is False, was True"
