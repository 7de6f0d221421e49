"""`debug_nans`: the op, the line and the operands of the first NaN, in every way of running."""

import re

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, nn, ops, optim
from needle_ir.ir import Attrs, Graph, Node, Op, Trait
from needle_ir.runtime import KERNELS, interpret


@pytest.fixture(autouse=True)
def nothing_pending():
    """A traceback of the test before may hold tensors that are bad."""
    ndl.sync()


def line_of(text):
    """The number of the line in this file that ends with `# text`."""
    with open(__file__) as file:
        return next(i for i, line in enumerate(file, 1) if line.rstrip().endswith(f"# {text}"))


def normalized(x):
    total = x.sum(1, keepdims=True)
    shares = x / total  # zero by zero
    return shares + 1


def rows():
    return Tensor([[1.0, 0.0, 3.0], [0.0, 0.0, 0.0]], requires_grad=False)


WAYS = {
    "recorded": lambda fn, x: fn(x).numpy(),
    "printed": lambda fn, x: repr(fn(x)),
    "jit": lambda fn, x: ndl.jit(fn)(x),
    "compiled": lambda fn, x: ndl.compile(fn, x)(x),
    "graph": lambda fn, x: ndl.compile(ndl.trace(fn, x))(x),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_error_names_op_line_module_phase_and_operands(way):
    with pytest.raises(FloatingPointError) as raised, ndl.debug_nans():
        WAYS[way](normalized, rows())
    x = "%in0" if way in ("recorded", "printed") else "%x"
    assert str(raised.value).splitlines() == [
        "divide made 3 NaN of 6 elements, first at [1, 0]",
        f"    %1 = divide({x}, %0) : f32[2,3]",
        f"    at test_nans.py:{line_of('zero by zero')} in normalized: "
        "shares = x / total  # zero by zero",
        "    forward",
        f"    {x} : f32[2,3] is from 0.0 to 3.0; there 0.0",
        "    %0 : f32[2,1] is from 0.0 to 4.0; there 0.0",
    ]


@pytest.mark.parametrize("way", WAYS)
def test_outside_of_the_context_nothing_is_checked(way):
    WAYS[way](normalized, rows())
    with ndl.debug_nans():
        pass
    WAYS[way](normalized, rows())


def test_what_is_held_at_the_end_is_checked():
    with (
        pytest.raises(FloatingPointError, match="divide made 3 NaN"),
        ndl.debug_nans(),
    ):
        held = normalized(rows())
    assert held.shape == (2, 3)


def test_an_error_inside_is_the_users_own():
    held = []
    with pytest.raises(ZeroDivisionError), ndl.debug_nans():
        held.append(normalized(rows()) + 1 / 0)
    assert not held


def test_numbers_and_draws_are_the_same_inside():
    def train():
        np.random.seed(3)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
        opt = optim.Adam(model.parameters(), lr=0.1)

        def step(x):
            opt.reset_grad()
            loss = nn.SoftmaxLoss()(model(x), Tensor([0, 1, 2, 0]))
            loss.backward()
            opt.step()
            return loss

        losses = []
        for run in (step, ndl.jit(step), step):
            losses.append(run(ndl.init.randn(4, 4)).numpy())
        return [*losses, *[p.numpy() for p in model.parameters()], np.random.rand()]

    plain = train()
    with ndl.debug_nans(infs=True):
        checked = train()
    for a, b in zip(plain, checked, strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_programs_that_were_compiled_before_are_checked_and_stay_as_they_are():
    normalized(rows()).numpy()
    misses = ndl.cache_info().misses
    with ndl.debug_nans(), pytest.raises(FloatingPointError):
        normalized(rows()).numpy()
    normalized(rows()).numpy()
    assert ndl.cache_info().misses == misses


class Net(nn.Module):
    def __init__(self):
        self.layer = nn.Linear(2, 2)
        self.root = Root()

    def forward(self, x):
        return self.root(self.layer(x))


class Root(nn.Module):
    def forward(self, x):
        return ndl.sqrt(x * 0)


def test_a_nan_of_the_backward_pass():
    """√ has an infinite slope at 0, and 0 · inf is NaN."""
    net = Net()
    x = Tensor([[1.0, 2.0]], requires_grad=False)
    net(x).sum().backward()
    with pytest.raises(FloatingPointError) as raised, ndl.debug_nans():
        net.layer.weight.grad.numpy()
    message = str(raised.value)
    assert message.startswith("multiply made ")
    assert "in root, backward" in message
    assert "return ndl.sqrt(x * 0)" in message
    assert re.search(r"2 inf, first at \[0, 0\]; there -?inf", message)


def test_a_nan_of_the_update():
    w = nn.Parameter([1.0, 2.0])
    opt = optim.SGD([w], lr=np.inf)
    (w * 0).sum().backward()
    with pytest.raises(FloatingPointError) as raised, ndl.debug_nans():
        opt.step()
    assert "in SGD, update" in str(raised.value)
    assert str(raised.value).startswith("multiply made ")


def test_a_nan_that_comes_in_is_the_inputs_fault():
    x = Tensor([[1.0, 2.0], [np.nan, 4.0]])
    w = nn.Parameter([1.0, np.nan, np.nan])
    w.rename("scale")
    with pytest.raises(FloatingPointError) as raised, ndl.debug_nans():
        ndl.jit(lambda batch: (batch * 2).sum())(x)
    assert str(raised.value).splitlines()[:2] == [
        "1 NaN of 4 elements, first at [1, 0] came in through the input %batch",
        "    %batch : f32[2,2] is from 1.0 to 4.0, 1 NaN, first at [1, 0]",
    ]
    assert "    it is read first by multiply at test_nans.py:" in str(raised.value)
    with ndl.debug_nans(), pytest.raises(FloatingPointError, match="through the input %scale"):
        (w + 1).numpy()


def test_a_nan_that_no_result_needs_is_no_error():
    x = Tensor([1.0, np.nan, -1.0])

    def masked():
        return ndl.where(x > 0, ndl.log(x), 0.0).numpy()

    with ndl.debug_nans():
        np.testing.assert_array_equal(masked(), [0, 0, 0])
    with (
        ndl.debug_nans(masked=True),
        pytest.raises(FloatingPointError, match="came in through the input"),
    ):
        masked()
    x = Tensor([1.0, 2.0, -1.0])
    with ndl.debug_nans():
        np.testing.assert_allclose(masked(), [0, np.log(2), 0], rtol=1e-6)
    with (
        ndl.debug_nans(masked=True),
        pytest.raises(FloatingPointError, match="log made 1 NaN of 3 elements, first at \\[2\\]"),
    ):
        masked()


def test_the_one_to_blame_is_the_one_that_reaches_a_result():
    x = Tensor([-1.0, 4.0])
    harmless = ndl.where(x > 0, ndl.log(x), 0.0)
    result = harmless + ndl.sqrt(x)
    with pytest.raises(FloatingPointError, match=r"\Asqrt made 1 NaN"), ndl.debug_nans():
        result.numpy()


def test_infinities_where_they_are_asked_for():
    x = Tensor([0.0, 1.0])
    with ndl.debug_nans():
        assert ndl.log(x).numpy()[0] == -np.inf
    with (
        ndl.debug_nans(infs=True),
        pytest.raises(FloatingPointError, match=r"log made 1 inf of 2 elements, first at \[0\]"),
    ):
        ndl.log(x).numpy()
    with ndl.debug_nans(nans=False, infs=True):
        assert np.isnan(ndl.sqrt(x - 5).numpy()).all()
    # inf - inf is NaN, and the product was the first that was not finite.
    big = (x * 1e30) * 1e30
    zero = big - big
    with pytest.raises(FloatingPointError, match="multiply made 1 inf"), ndl.debug_nans(infs=True):
        zero.numpy()
    with pytest.raises(FloatingPointError, match=r"subtract made 1 NaN"), ndl.debug_nans():
        zero.numpy()


def test_what_failed_is_not_tried_again_by_others():
    bad, index = ndl.sqrt(Tensor([-1.0])), Tensor(np.array([7]))
    worse = ops.gather(Tensor([1.0, 2.0]), index)
    with ndl.debug_nans():
        for tensor, error in ((bad, FloatingPointError), (worse, IndexError)):
            for _ in range(2):
                with pytest.raises(error):
                    tensor.numpy()
        fine = Tensor([1.0]) + 1
        ndl.sync()
        assert fine.item() == 2
    assert np.isnan(bad.item())


def test_nothing_to_look_for():
    with pytest.raises(ValueError, match="nothing to look for"), ndl.debug_nans(nans=False):
        pass


def test_the_inner_context_counts():
    x = Tensor([0.0])
    with ndl.debug_nans():
        with ndl.debug_nans(infs=True), pytest.raises(FloatingPointError):
            ndl.log(x).numpy()
        ndl.log(x).numpy()
        with pytest.raises(FloatingPointError):
            ndl.log(x - 1).numpy()


def test_after_the_error_the_program_goes_on():
    w = nn.Parameter([4.0, 9.0])
    opt = optim.SGD([w], lr=0.5)
    step = ndl.jit(lambda x: (opt.reset_grad(), ndl.sqrt(w * x).sum().backward(), opt.step()))
    one, minus = Tensor([1.0, 1.0]), Tensor([-1.0, -1.0])
    with ndl.debug_nans():
        step(one)
        before = w.numpy()
        with pytest.raises(FloatingPointError, match="sqrt made 2 NaN"):
            step(minus)
        # A jitted step assigns all or nothing.
        np.testing.assert_array_equal(w.numpy(), before)
        step(one)
        assert (w.numpy() < before).all()


def test_a_value_that_became_an_index():
    x, table = Tensor([-1.0]), Tensor([1.0, 2.0])
    with ndl.debug_nans(), pytest.raises(IndexError) as raised:
        ops.gather(table, (ndl.log(x) * 0 + 1e9).astype(np.int64)).numpy()
    assert any("log made 1 NaN of 1 elements" in note for note in raised.value.__notes__)


def test_a_fused_node_names_the_node_inside(monkeypatch):
    def body_of(x):
        inner = x.__class__(x.op, (), x.attrs, x.type)
        return Graph([inner], [ops.exp(ops.log(inner) + 1)])

    fused = Op(name="fused", infer=lambda x, body: x, traits=frozenset({Trait.ELEMENTWISE}))

    def kernel(node):
        def run(x, out):
            np.copyto(out, interpret(node.attrs["body"], [x])[0])

        return run

    monkeypatch.setitem(KERNELS, "fused", kernel)
    x = ndl.ir.input_node(ndl.ir.TensorType((2,), np.dtype(np.float32)), "x")
    node = Node(fused, (x,), Attrs({"body": body_of(x)}), x.type)
    compiled = ndl.compile(Graph([x], [ops.negative(node)]), pipeline="")
    with pytest.raises(FloatingPointError) as raised, ndl.debug_nans():
        compiled(Tensor([1.0, -1.0]))
    assert str(raised.value).startswith("log made 1 NaN of 2 elements, first at [1]")
    assert "return Graph([inner], [ops.exp(ops.log(inner) + 1)])" in str(raised.value)
    assert str(raised.value).endswith("\n    inside of %0, fused")


def test_other_operands_in_words():
    index, x = Tensor(np.array([[0, 1]])), Tensor([[1.0, np.inf], [-np.inf, 3.0]])
    empty = Tensor(np.ones((0, 2)))
    with pytest.raises(FloatingPointError) as raised, ndl.debug_nans():
        (ops.gather(x, index).sum() + empty.sum()).numpy()
    assert "sum made 1 NaN of 1 elements, first at []" in str(raised.value)
    assert "2 inf, first at [0, 0, 1]" in str(raised.value)
    with pytest.raises(FloatingPointError) as raised, ndl.debug_nans():
        (empty.mean() + ops.gather(x, index).shape[0]).numpy()
    assert "divide made 1 NaN" in str(raised.value)
    assert "f64[] is 0.0" in str(raised.value)
