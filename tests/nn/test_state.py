"""What a module says about itself and keeps: named_parameters, state_dict, __repr__."""

import copy

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, nn, optim


class Block(nn.Module):
    """Children in an attribute, a list, a dict; a shared one; settings, public and private."""

    def __init__(self, dim):
        self.scale = 0.5
        self.label = "block"
        self.norm = nn.BatchNorm1d(dim)
        self.layers = [nn.Linear(dim, dim, bias=False), nn.Residual(nn.LayerNorm1d(dim, eps=0.1))]
        self.heads = {"main": nn.Sequential(nn.ReLU(), nn.Linear(dim, 2)), "drop": nn.Dropout(0.1)}
        self.shared = self.layers[0]
        self.gain = nn.Parameter([1.0])
        self._cache = 7

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.heads["main"](self.heads["drop"](self.norm(x))) * self.gain


PARAMETERS = {
    "norm.weight": (3,),
    "norm.bias": (3,),
    "layers.0.weight": (3, 3),
    "layers.1.fn.weight": (3,),
    "layers.1.fn.bias": (3,),
    "heads.main.1.weight": (3, 2),
    "heads.main.1.bias": (1, 2),
    "gain": (1,),
}
RUNNING = {"norm.running_mean": (3,), "norm.running_var": (3,)}


def make(seed=0):
    np.random.seed(seed)
    return Block(3)


def batches(count, seed=1):
    rng = np.random.RandomState(seed)
    for _ in range(count):
        x = Tensor(rng.randn(8, 3).astype(np.float32), requires_grad=False)
        yield x, Tensor(rng.randint(0, 2, 8))


def train(model, opt, count, seed=1):
    """The losses of `count` steps."""
    losses = []
    for x, y in batches(count, seed):
        opt.reset_grad()
        loss = nn.SoftmaxLoss()(model(x), y)
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return losses


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    return True


def test_named_parameters():
    model = make()
    named = model.named_parameters()
    assert [name for name, _ in named] == [*PARAMETERS]
    assert [p.shape for _, p in named] == [*PARAMETERS.values()]
    assert [id(p) for _, p in named] == [id(p) for p in model.parameters()]
    assert dict(named)["heads.main.1.bias"] is model.heads["main"].modules[1].bias
    assert nn.ReLU().named_parameters() == []


def test_state_dict_has_parameters_and_running_values():
    model = make()
    state = model.state_dict()
    assert {name: array.shape for name, array in state.items()} == PARAMETERS | RUNNING
    assert all(type(array) is np.ndarray for array in state.values())
    np.testing.assert_array_equal(state["norm.running_var"], np.ones(3))
    np.testing.assert_array_equal(state["gain"], [1])
    bound = np.sqrt(2) * np.sqrt(3 / 3)
    np.random.seed(0)
    drawn = np.random.rand(3, 3) * 2 * bound - bound
    np.testing.assert_allclose(state["layers.0.weight"], drawn, rtol=1e-6)
    assert nn.Sequential(nn.ReLU(), nn.Dropout(0.1)).state_dict() == {}


def test_state_dict_reads_running_values_that_are_pending():
    model = nn.BatchNorm1d(2)
    x = np.float32([[1, 2], [3, 6]])
    model(Tensor(x))
    state = model.state_dict()
    np.testing.assert_allclose(state["running_mean"], [0.2, 0.4], rtol=1e-6)
    np.testing.assert_allclose(state["running_var"], [1.0, 0.9 + 0.4], rtol=1e-6)


def test_state_dict_gives_copies():
    model = make()
    before = model.state_dict()
    state = model.state_dict()
    for array in state.values():
        array += 1
    assert same(model.state_dict(), before)
    kept = copy.deepcopy(before)
    train(model, optim.SGD(model.parameters(), lr=0.1), 2)
    assert same(before, kept)
    for name, array in model.state_dict().items():
        assert not np.array_equal(array, before[name]), name


def test_load_state_dict_copies_too():
    model = make()
    state = make(1).state_dict()
    model.load_state_dict(state)
    kept = copy.deepcopy(state)
    state["gain"] += 1
    assert same(model.state_dict(), kept)


def test_a_round_trip_through_a_file_goes_on_with_the_same_bits(tmp_path):
    model = make()
    train(model, optim.SGD(model.parameters(), lr=0.1), 5)
    np.savez(tmp_path / "state.npz", **model.state_dict())

    other = make(seed=9)
    assert not np.array_equal(other.layers[0].weight.numpy(), model.layers[0].weight.numpy())
    with np.load(tmp_path / "state.npz") as file:
        other.load_state_dict(file)
    assert same(other.state_dict(), model.state_dict())

    runs = []
    for one in (model, other):
        np.random.seed(2)  # for dropout
        losses = train(one, optim.Adam(one.parameters(), lr=0.01), 5, seed=3)
        one.eval()
        x, _ = next(batches(1, seed=4))
        runs.append((losses, one.state_dict(), one(x).numpy()))
    assert runs[0][0] == runs[1][0]
    assert len(set(runs[0][0])) == 5
    assert same(runs[0][1], runs[1][1])
    np.testing.assert_array_equal(runs[0][2], runs[1][2])


def test_loading_reaches_the_optimizer_and_jitted_functions():
    """The tensors stay the same objects: who holds them sees the loaded values."""
    model = make()
    parameters = model.parameters()
    opt = optim.SGD(parameters, lr=0.1)
    model.eval()
    call = ndl.jit(model)
    x, _ = next(batches(1))
    first = call(x).numpy()
    state = make(1).state_dict()
    model.load_state_dict(state)
    assert [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in model.parameters())
    expected = make(1)
    expected.eval()
    np.testing.assert_array_equal(call(x).numpy(), expected(x).numpy())
    assert not np.array_equal(call(x).numpy(), first)

    model.train()
    train(model, opt, 1)
    assert not np.array_equal(model.state_dict()["gain"], state["gain"])


def test_loading_takes_tensors_lists_and_other_floats():
    model = nn.Linear(2, 1)
    weight = np.array([[0.1], [0.2]])
    model.load_state_dict({"weight": weight, "bias": Tensor([[3]], dtype="int64")})
    assert model.weight.dtype == model.bias.dtype == np.float32
    np.testing.assert_array_equal(model.weight.numpy(), weight.astype(np.float32))
    np.testing.assert_array_equal(model.bias.numpy(), [[3]])
    model.load_state_dict({"weight": [[1], [2]], "bias": [[4.0]]})
    np.testing.assert_array_equal(model.weight.numpy(), [[1], [2]])


def test_loading_another_models_tensors_does_not_tie_them():
    a, b = nn.Linear(2, 1), nn.Linear(2, 1)
    a.load_state_dict(dict(b.named_parameters()))
    b.weight.data = np.zeros((2, 1), np.float32)
    assert np.abs(a.weight.numpy()).min() > 0


BAD_STATES = {
    "missing": (lambda s: s.pop("gain"), KeyError, r"lacks \['gain'\]"),
    "unknown": (lambda s: s.update(extra=np.ones(1)), KeyError, r"has \['extra'\]"),
    "unknown, no string": (lambda s: s.update({1: 1, "a": 1}), KeyError, r"has \[1, 'a'\]"),
    "renamed": (
        lambda s: s.update(gains=s.pop("gain")),
        KeyError,
        r"lacks \['gain'\] and has \['gains'\]",
    ),
    "a shape": (
        lambda s: s.update(gain=np.ones((2,), np.float32)),
        ndl.ShapeError,
        r"gain has shape \(1,\), the state \(2,\)",
    ),
    "a shape that would broadcast": (
        lambda s: s.update({"norm.running_var": np.float32(1)}),
        ndl.ShapeError,
        r"norm.running_var has shape \(3,\), the state \(\)",
    ),
    "a complex dtype": (
        lambda s: s.update(gain=np.ones(1, complex)),
        ndl.DTypeError,
        "gain is float32, the state complex128",
    ),
    "words": (lambda s: s.update(gain=np.array(["1"])), ndl.DTypeError, "gain is float32"),
    "objects": (
        lambda s: s.update(gain=np.array([None])),
        ndl.DTypeError,
        "gain is float32, the state object",
    ),
}


@pytest.mark.parametrize("name", BAD_STATES)
def test_a_bad_state_changes_nothing(name):
    spoil, kind, message = BAD_STATES[name]
    model = make()
    before = model.state_dict()
    # Every other entry is good and would change the model.
    state = {key: array + 1 for key, array in before.items()}
    spoil(state)
    with pytest.raises(kind, match=message):
        model.load_state_dict(state)
    assert same(model.state_dict(), before)


def test_floats_are_not_cut_to_integers():
    model = nn.Module()
    model.steps = Tensor(np.array([1, 2]))
    with pytest.raises(ndl.DTypeError, match="steps is int64, the state float64"):
        model.load_state_dict({"steps": np.array([1.5, 2.5])})
    np.testing.assert_array_equal(model.state_dict()["steps"], [1, 2])


def test_a_state_is_a_mapping():
    with pytest.raises(TypeError, match="a mapping of names to arrays, not list"):
        nn.Linear(2, 1).load_state_dict([1, 2])


def test_repr_is_a_tree():
    model = nn.Sequential(make(), nn.Residual(nn.Sequential(nn.Linear(2, 2), nn.Identity())))
    assert repr(model) == "\n".join(
        [
            "Sequential()",
            "  0: Block(scale=0.5, label='block')",
            "    norm: BatchNorm1d(dim=3, eps=1e-05, momentum=0.1)",
            "    layers.0: Linear(in_features=3, out_features=3)",
            "    layers.1: Residual()",
            "      fn: LayerNorm1d(dim=3, eps=0.1)",
            "    heads.main: Sequential()",
            "      0: ReLU()",
            "      1: Linear(in_features=3, out_features=2)",
            "    heads.drop: Dropout(p=0.1)",
            "  1: Residual()",
            "    fn: Sequential()",
            "      0: Linear(in_features=2, out_features=2)",
            "      1: Identity()",
        ]
    )


def test_repr_of_ten_children_and_more():
    lines = repr(nn.Sequential(*[nn.ReLU() for _ in range(11)])).splitlines()
    assert lines == ["Sequential()", *[f"  {i}: ReLU()" for i in range(11)]]


def test_repr_does_not_change_when_the_module_is_used():
    model = make()
    before = repr(model)
    assert before.startswith("Block(scale=0.5, label='block')\n  norm: ")
    train(model, optim.SGD(model.parameters()), 1)
    model.eval()
    assert repr(model) == before
    assert repr(nn.SoftmaxLoss()) == "SoftmaxLoss()"
