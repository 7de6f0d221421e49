"""Each module against plain NumPy, and what modules do for those that hold them."""

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, nn
from needle_ir.ir import inherit_origin, topological

RNG = np.random.RandomState(0)
X = RNG.randn(6, 4).astype(np.float32)


def close(tensor, expected, rtol=1e-5):
    assert tensor.shape == np.shape(expected)
    np.testing.assert_allclose(tensor.numpy(), expected, rtol=rtol, atol=1e-6)
    return True


def test_linear_draws_weight_then_bias():
    np.random.seed(3)
    layer = nn.Linear(4, 5)
    after = np.random.rand()
    np.random.seed(3)
    bound = np.sqrt(2) * np.sqrt(3 / 4)
    weight = np.random.rand(4, 5) * 2 * bound - bound
    bound = np.sqrt(2) * np.sqrt(3 / 5)
    bias = (np.random.rand(5, 1) * 2 * bound - bound).reshape(1, 5)
    assert np.random.rand() == after
    assert close(layer.weight, weight, rtol=1e-6)
    assert close(layer.bias, bias, rtol=1e-6)
    assert layer.weight.dtype == layer.bias.dtype == np.float32
    assert [id(p) for p in layer.parameters()] == [id(layer.weight), id(layer.bias)]
    assert close(layer(Tensor(X)), X @ weight + bias)


def test_linear_without_bias_draws_no_bias():
    np.random.seed(3)
    layer = nn.Linear(4, 5, bias=False)
    after = np.random.rand()
    np.random.seed(3)
    np.random.rand(4, 5)
    assert np.random.rand() == after
    assert layer.bias is None
    assert len(layer.parameters()) == 1
    assert close(layer(Tensor(X)), X @ layer.weight.numpy())


def test_linear_with_leading_axes_and_another_dtype():
    layer = nn.Linear(4, 5, dtype="float64")
    assert layer.weight.dtype == layer.bias.dtype == np.float64
    x = RNG.randn(2, 3, 4)
    assert close(layer(Tensor(x)), x @ layer.weight.numpy() + layer.bias.numpy())


def test_linear_gradients():
    layer = nn.Linear(4, 5)
    x, ct = Tensor(X), RNG.randn(6, 5).astype(np.float32)
    layer(x).backward(Tensor(ct))
    assert close(layer.weight.grad, X.T @ ct)
    assert close(layer.bias.grad, ct.sum(0, keepdims=True))
    assert close(x.grad, ct @ layer.weight.numpy().T)


def test_relu_and_its_gradient_at_zero():
    x = Tensor([-1.0, -0.0, 0.0, 1e-30, 2.0])
    y = nn.ReLU()(x)
    np.testing.assert_array_equal(y.numpy(), np.float32([0, 0, 0, 1e-30, 2]))
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0, 0, 0, 1, 1])


def test_flatten():
    x = np.arange(24.0).reshape(2, 3, 4)
    assert close(nn.Flatten()(Tensor(x)), x.reshape(2, 12))
    assert nn.Flatten()(Tensor(np.ones(3))).shape == (3, 1)
    assert nn.Flatten()(Tensor(np.ones((0, 3, 2)))).shape == (0, 6)


def test_identity():
    x = Tensor(X)
    assert nn.Identity()(x) is x


def test_sequential_keeps_its_modules():
    modules = (nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    model = nn.Sequential(*modules)
    assert model.modules == modules
    a, _, b = modules
    hidden = np.maximum(X @ a.weight.numpy() + a.bias.numpy(), 0)
    assert close(model(Tensor(X)), hidden @ b.weight.numpy() + b.bias.numpy())
    x = Tensor(X)
    assert nn.Sequential()(x) is x


def test_residual():
    inner = nn.Linear(4, 4)
    expected = X @ inner.weight.numpy() + inner.bias.numpy() + X
    assert close(nn.Residual(inner)(Tensor(X)), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batch_norm_in_training(dtype):
    layer = nn.BatchNorm1d(4, eps=1e-3, momentum=0.2, dtype=dtype)
    assert close(layer.weight, np.ones(4))
    assert close(layer.bias, np.zeros(4))
    assert close(layer.running_mean, np.zeros(4))
    assert close(layer.running_var, np.ones(4))
    assert len(layer.parameters()) == 2
    weight, bias = RNG.randn(4).astype(dtype), RNG.randn(4).astype(dtype)
    layer.weight.data, layer.bias.data = weight, bias
    mean, var = np.zeros(4), np.ones(4)
    for _ in range(3):
        x = RNG.randn(6, 4).astype(dtype) * 3 + 1
        centered = x - x.mean(0)
        # Divided by n, not by n - 1, in what is returned and in what is remembered.
        assert close(layer(Tensor(x)), centered / np.sqrt(x.var(0) + 1e-3) * weight + bias, 1e-4)
        mean, var = 0.8 * mean + 0.2 * x.mean(0), 0.8 * var + 0.2 * x.var(0)
    assert layer.running_mean.dtype == dtype
    assert close(layer.running_mean, mean)
    assert close(layer.running_var, var)
    assert not layer.running_mean.requires_grad


def test_batch_norm_in_evaluation():
    layer = nn.BatchNorm1d(4)
    layer.running_mean.data = mean = np.float32([1, 2, 3, 4])
    layer.running_var.data = var = np.float32([1, 4, 9, 16])
    layer.eval()
    assert close(layer(Tensor(X)), (X - mean) / np.sqrt(var + 1e-5))
    assert close(layer(Tensor(X[:1])), (X[:1] - mean) / np.sqrt(var + 1e-5))
    assert close(layer.running_mean, mean)
    assert close(layer.running_var, var)


def test_batch_norm_gradients():
    layer = nn.BatchNorm1d(4)
    x, ct = Tensor(X), RNG.randn(6, 4).astype(np.float32)
    layer(x).backward(Tensor(ct))
    scale = 1 / np.sqrt(X.var(0) + 1e-5)
    normal = (X - X.mean(0)) * scale
    assert close(layer.bias.grad, ct.sum(0))
    assert close(layer.weight.grad, (ct * normal).sum(0))
    expected = scale * (ct - ct.mean(0) - normal * (ct * normal).mean(0))
    assert close(x.grad, expected, rtol=1e-4)
    assert layer.running_mean.grad is None
    # In evaluation the statistics are constants.
    layer.eval()
    layer(x).backward(Tensor(ct))
    assert close(x.grad, ct / np.sqrt(layer.running_var.numpy() + 1e-5))


def test_a_forward_pass_of_batch_norm_is_remembered_before_it_is_read():
    layer = nn.BatchNorm1d(4)
    layer(Tensor(X))
    layer(Tensor(X))
    assert close(layer.running_mean, X.mean(0) * (1 - 0.81))


@pytest.mark.parametrize("shape", [(6, 4), (4,), (2, 3, 4)])
def test_layer_norm(shape):
    layer = nn.LayerNorm1d(4, eps=1e-3)
    assert close(layer.weight, np.ones(4))
    assert close(layer.bias, np.zeros(4))
    weight, bias = RNG.randn(2, 4).astype(np.float32)
    layer.weight.data, layer.bias.data = weight, bias
    x = RNG.randn(*shape).astype(np.float32)
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3)
    for _ in ("train", "eval"):
        assert close(layer(Tensor(x)), normal * weight + bias, rtol=1e-4)
        layer.eval()
    assert len(layer.parameters()) == 2


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.BatchNorm1d(4), r"batch_norm\(f32\[6,3\]"),
        (nn.LayerNorm1d(4), r"layer_norm\(f32\[6,3\]"),
        (nn.Linear(4, 2), r"linear\(f32\[6,3\]"),
    ],
)
def test_a_wrong_number_of_features_is_refused(layer, message):
    with pytest.raises(ndl.ShapeError, match=message):
        layer(Tensor(X[:, :3]))


def test_dropout_in_training():
    layer = nn.Dropout(0.3)
    np.random.seed(4)
    result = layer(Tensor(X))
    after = np.random.rand()
    np.random.seed(4)
    keep = np.random.rand(*X.shape) <= 1 - 0.3
    assert np.random.rand() == after
    assert 0 < keep.sum() < keep.size
    assert close(result, X * keep / (1 - 0.3), rtol=1e-6)


def test_dropout_gradients_follow_the_mask():
    np.random.seed(4)
    x = Tensor(X)
    nn.Dropout(0.3)(x).backward()
    np.random.seed(4)
    assert close(x.grad, (np.random.rand(*X.shape) <= 0.7) / 0.7, rtol=1e-6)


def test_dropout_in_evaluation_returns_its_input_and_draws_nothing():
    layer = nn.Dropout(0.3)
    layer.eval()
    x = Tensor(X)
    np.random.seed(4)
    assert layer(x) is x
    after = np.random.rand()
    np.random.seed(4)
    assert np.random.rand() == after


def test_dropout_keeps_everything_with_p_0():
    assert close(nn.Dropout(0.0)(Tensor(X)), X)


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_dropout_refuses_what_is_no_probability(p):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
        nn.Dropout(p)


def softmax_loss(logits, labels):
    top = logits.max(1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(1)) + top[:, 0]
    return (log_sum - logits[np.arange(len(labels)), labels]).mean()


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_softmax_loss_takes_labels_of_every_dtype(dtype):
    logits, labels = RNG.randn(6, 4).astype(np.float32), np.array([0, 3, 1, 2, 2, 0])
    expected = softmax_loss(logits.astype(np.float64), labels)
    for y in (Tensor(labels.astype(dtype)), labels.astype(dtype)):
        loss = nn.SoftmaxLoss()(Tensor(logits), y)
        assert loss.shape == ()
        assert loss.dtype == np.float32
        np.testing.assert_allclose(loss.item(), expected, rtol=1e-6)


def test_softmax_loss_gradients():
    logits, labels = RNG.randn(6, 4), np.array([0, 3, 1, 2, 2, 0])
    x = Tensor(logits)
    nn.SoftmaxLoss()(x, Tensor(labels)).backward()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert close(x.grad, (p - np.eye(4)[labels]) / 6)


def test_softmax_loss_of_large_logits_is_right():
    logits = np.float32([[1000, 0], [-1000, 1000]])
    loss = nn.SoftmaxLoss()(Tensor(logits), Tensor(np.array([1, 1])))
    assert loss.item() == 500


@pytest.mark.parametrize("labels", [[0, 4], [-1, 0], [0.0, 4.0], [float("nan"), 0.0]])
def test_softmax_loss_refuses_labels_out_of_range(labels):
    for y in (Tensor(np.array(labels)), np.array(labels)):
        with pytest.raises(ValueError, match=r"labels lie in .*, but there are 4 classes"):
            nn.SoftmaxLoss()(Tensor(np.zeros((2, 4))), y)


def test_softmax_loss_refuses_labels_between_classes():
    with pytest.raises(ValueError, match="labels are whole numbers"):
        nn.SoftmaxLoss()(Tensor(np.zeros((2, 4))), Tensor([0.5, 1.0]))


@pytest.mark.parametrize(("logits", "labels"), [((2, 4), (3,)), ((2, 4), (2, 1)), ((4,), (4,))])
def test_softmax_loss_refuses_other_shapes(logits, labels):
    with pytest.raises(ndl.ShapeError, match=r"logits of shape \(n, k\) and labels of shape \(n,"):
        nn.SoftmaxLoss()(Tensor(np.zeros(logits)), Tensor(np.zeros(labels)))


class Nest(nn.Module):
    """Children and parameters wherever they can be; one of them twice."""

    def __init__(self):
        self.first = nn.Linear(2, 2)
        self.listed = [nn.Linear(2, 2, bias=False), (nn.BatchNorm1d(2),)]
        self.named = {"a": nn.Dropout(0.5), "b": {"c": nn.Linear(2, 2)}}
        self.own = nn.Parameter([1.0])
        self.plain = Tensor([1.0])
        self.again = self.first
        self.shared = [self.own, self.named["b"]["c"].weight]
        self.number = 3
        self.nothing = None

    def forward(self, x):
        x = self.listed[1][0](self.listed[0](self.first(x)))
        return self.named["b"]["c"](self.named["a"](x)) + self.own


def test_parameters_are_found_everywhere_and_each_once():
    model = Nest()
    expected = [
        ("first.weight", model.first.weight),
        ("first.bias", model.first.bias),
        ("listed.0.weight", model.listed[0].weight),
        ("listed.1.0.weight", model.listed[1][0].weight),
        ("listed.1.0.bias", model.listed[1][0].bias),
        ("named.b.c.weight", model.named["b"]["c"].weight),
        ("named.b.c.bias", model.named["b"]["c"].bias),
        ("own", model.own),
    ]
    found = model.named_parameters()
    assert [name for name, _ in found] == [name for name, _ in expected]
    assert all(a is b for (_, a), (_, b) in zip(found, expected, strict=True))
    assert all(a is b for a, (_, b) in zip(model.parameters(), expected, strict=True))
    assert all(isinstance(p, nn.Parameter) for p in model.parameters())


def test_a_module_that_holds_itself():
    model = Nest()
    model.itself = model
    model.listed.append(model)
    assert len(model.parameters()) == 8
    model.eval()
    assert not model.training


def test_train_and_eval_reach_everything():
    model = Nest()
    parts = [
        model, model.first, model.listed[0], model.listed[1][0],
        model.named["a"], model.named["b"]["c"],
    ]  # fmt: skip
    assert [part.training for part in parts] == [True] * 6
    model.eval()
    assert [part.training for part in parts] == [False] * 6
    model.train()
    assert [part.training for part in parts] == [True] * 6
    model.named["a"].eval()
    assert [part.training for part in parts] == [True] * 4 + [False, True]


def test_what_is_recorded_carries_the_path_of_its_module():
    model = Nest()
    x = Tensor(np.ones((3, 2), np.float32), requires_grad=False)
    graph = ndl.trace(lambda x: model(x), x)
    paths = {}
    for node in graph.nodes:
        if node.origin is not None:
            paths.setdefault(node.op.name, []).append(node.origin.module)
    assert paths["linear"] == ["first", "named.b.c"]
    assert paths["matmul"] == ["listed.0"]
    assert paths["batch_norm"] == ["listed.1.0"]
    assert paths["dropout"] == ["named.a"]
    assert paths["add"] == ["Nest"]
    inputs = {node.attrs.get("name") for node in graph.inputs}
    assert {"x", "first.weight", "own", "listed.1.0.running_mean"} <= inputs


@pytest.mark.parametrize("compiled", [False, True])
def test_no_derivative_flows_through_running_values_that_are_to_be_computed(compiled):
    layer, norm = nn.Linear(4, 2, bias=False), nn.BatchNorm1d(2)
    scale = nn.Parameter(np.array([2.0, 3.0], np.float32))

    def step(x):
        norm(layer(x))
        loss = (norm.running_mean * scale + norm.running_var).sum()
        loss.backward()
        return loss

    (ndl.jit(step) if compiled else step)(Tensor(X, requires_grad=False))
    assert layer.weight.grad is None
    assert close(scale.grad, 0.1 * (X @ layer.weight.numpy()).mean(0))
    assert close(norm.running_mean, scale.grad.numpy())


def test_nor_does_one_through_them_as_the_gradient_of_an_output():
    layer, norm = nn.Linear(4, 2, bias=False), nn.BatchNorm1d(2)
    norm(layer(Tensor(X, requires_grad=False)))
    scale = nn.Parameter(np.array([2.0, 3.0], np.float32))
    (scale * scale).backward(norm.running_mean)
    scale.grad.sum().backward()
    assert layer.weight.grad is None
    assert close(scale.grad, 2 * norm.running_mean.numpy())


def test_children_that_can_not_be_told_leave_no_call_open():
    class Broken(nn.Sequential):
        def named_children(self):
            raise KeyError

    with pytest.raises(KeyError):
        Broken(nn.ReLU())(Tensor([1.0]))
    assert nn.ReLU()(Tensor([1.0])).node.origin.module == "ReLU"


class Twice(nn.Module):
    def __init__(self):
        self.relu = nn.ReLU()

    def forward(self, x):
        doubled = x + x
        return self.relu(doubled)


def lines_of(y):
    """For each op below a tensor the text of the line that recorded it, and its module."""
    return {
        node.op.name: (node.origin.text, node.origin.module)
        for node in topological([y.node])
        if node.origin is not None
    }


def test_what_a_layer_records_has_the_line_that_calls_it():
    model = nn.Sequential(nn.Linear(2, 2), Twice(), nn.Residual(nn.BatchNorm1d(2)), nn.Flatten())
    x = Tensor(np.ones((3, 2), np.float32), requires_grad=False)
    y = model(x)
    call = "y = model(x)"
    assert lines_of(y) == {
        "linear": (call, "0"),
        "add": (call, "2"),
        "relu": ("return self.relu(doubled)", "1.relu"),
        "batch_norm": (call, "2.fn"),
        "reshape": (call, "3"),
    }
    assert lines_of(model.modules[1](x))["add"] == ("doubled = x + x", "Twice")
    moved = model.modules[2].fn.running_mean
    assert lines_of(moved)["running_mean"] == (call, "2.fn")


def test_a_forward_of_its_own_is_the_line_of_what_it_records():
    class Scaled(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return y * 2.0

    model = nn.Sequential(Scaled(2, 2))
    y = model(Tensor(np.ones((3, 2), np.float32)))
    assert lines_of(y) == {
        "linear": ("y = super().forward(x)", "0"),
        "multiply": ("return y * 2.0", "0"),
    }


def test_modules_keep_to_an_origin_that_is_inherited():
    x = Tensor(np.ones((3, 2), np.float32))
    with inherit_origin(None):
        assert lines_of(nn.Sequential(Twice())(x)) == {}
    origin = (x + 1).node.origin
    with inherit_origin(origin):
        assert nn.Sequential(Twice())(x).node.origin is origin


def test_paths_are_seen_from_the_module_that_was_called():
    model = Nest()
    x = Tensor(np.ones((3, 2), np.float32))

    def path(module):
        return module(x).node.origin.module

    assert path(model.named["b"]["c"]) == "Linear"
    assert path(model) == "Nest"
    assert path(nn.Sequential(nn.Flatten(), model)) == "1"
    assert (x + 1).node.origin.module == ""


def test_an_exception_in_forward_ends_the_path():
    class Broken(nn.Module):
        def forward(self, x):
            raise KeyError

    model = nn.Sequential(nn.ReLU(), Broken())
    with pytest.raises(KeyError):
        model(Tensor([1.0]))
    assert (Tensor([1.0]) + 1).node.origin.module == ""
    assert nn.ReLU()(Tensor([1.0])).node.origin.module == "ReLU"


def test_a_module_that_is_exchanged_gets_its_own_path():
    model = Nest()
    x = Tensor(np.ones((3, 2), np.float32), requires_grad=False)
    model(x)
    model.named["b"]["c"] = nn.Sequential(nn.Linear(2, 2))
    graph = ndl.trace(lambda x: model(x), x)
    modules = [node.origin.module for node in graph.nodes if node.op.name == "linear"]
    assert modules == ["first", "named.b.c.0"]


def test_a_module_without_forward_says_so():
    with pytest.raises(TypeError, match=r"Module does not define forward\(\)"):
        nn.Module()(Tensor([1.0]))


def test_a_parameter_is_a_tensor_that_requires_a_gradient():
    source = Tensor([1.0, 2.0], requires_grad=False)
    parameter = nn.Parameter(source)
    assert isinstance(parameter, Tensor)
    assert parameter.requires_grad
    source.data = Tensor([5.0, 5.0])
    assert close(parameter, [1, 2])
    parameter.data = Tensor([3.0, 4.0])
    assert isinstance(parameter, nn.Parameter)
