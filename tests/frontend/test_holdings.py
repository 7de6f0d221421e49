"""Tensors and modules that were replaced since a function was traced."""

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, nn
from needle_ir.holdings import holdings, settled


class Net(nn.Module):
    def __init__(self):
        self.layer = nn.Linear(2, 3)
        self.blocks = [nn.Linear(3, 3), nn.Linear(3, 3, bias=False)]
        self.scales = {"out": nn.Parameter([1.0, 2.0, 3.0])}
        self.other = nn.Linear(2, 3)  # forward does not use it
        self.last = None

    def forward(self, x):
        x = self.layer(x)
        for block in self.blocks:
            x = block(x)
        self.last = x * self.scales["out"]
        return self.last


def x():
    return Tensor([[1.0, -1.0]], requires_grad=False)


def replace_parameter(net):
    net.layer.weight = nn.Parameter([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    return "Linear.weight (layer.weight) is another Parameter"


def replace_module(net):
    net.layer = nn.Linear(2, 3)
    return "Net.layer is another Linear"


def replace_by_another_kind(net):
    net.layer = nn.Identity()
    net.blocks[0] = nn.Linear(2, 3)
    return "Net.layer is Identity, was Linear"


def replace_in_a_list(net):
    net.blocks[1] = nn.Linear(3, 3)
    return "Net.blocks[1] is another Linear"


def replace_in_a_dict(net):
    net.scales["out"] = nn.Parameter([5.0, 5.0, 5.0])
    return "Net.scales['out'] (scales.out) is another Parameter"


def replace_the_list(net):
    net.blocks = [nn.Linear(3, 3)]
    return "Net.blocks is another list"


def append(net):
    net.blocks.append(nn.Linear(3, 3))
    return "Net.blocks has 3 entries, had 2"


def pop(net):
    net.blocks.pop()
    return "Net.blocks[1] is gone"


def fill_none(net):
    net.blocks[1].bias = nn.Parameter([[1.0, 1.0, 1.0]])
    return "Linear.bias is Parameter, was None"


def take_away(net):
    net.layer.bias = None
    return "Linear.bias (layer.bias) is None, was Parameter"


@pytest.mark.parametrize(
    "change",
    [
        replace_parameter,
        replace_module,
        replace_by_another_kind,
        replace_in_a_list,
        replace_in_a_dict,
        replace_the_list,
        append,
        pop,
        fill_none,
        take_away,
    ],
)
def test_what_replaces_a_parameter_or_a_module_is_seen(change):
    net = Net()
    fast = ndl.jit(net)
    compiled = ndl.compile(net, x())
    for _ in range(3):
        np.testing.assert_array_equal(fast(x()).numpy(), net(x()).numpy())
    assert fast.retraces == ["first call"]
    reason = change(net)
    for _ in range(3):
        np.testing.assert_array_equal(fast(x()).numpy(), net(x()).numpy())
    assert fast.retraces == ["first call", reason]
    with pytest.raises(TypeError) as raised:
        compiled(x())
    assert reason in str(raised.value)


def test_what_the_function_does_not_read_may_change():
    net = Net()
    fast = ndl.jit(net)
    fast(x())
    net.other.weight = nn.Parameter(np.ones((2, 3), np.float32))
    net.other = nn.Identity()
    net.layer.note = [1, 2]
    net.extra = Tensor([1.0])
    net.layer.weight.data = net.layer.weight.data * 2
    fast(x())
    assert fast.retraces == ["first call"]


def test_what_the_function_assigns_itself_does_not_trace_it_again():
    net = Net()
    fast = ndl.jit(net)
    for rows in (1, 2, 1, 2, 1):
        fast(Tensor(np.ones((rows, 2), np.float32)))
        net.last = Tensor([0.0])
    assert len(fast.retraces) == 2


def test_a_shared_container_is_watched_in_both_places():
    class Holder:
        def __init__(self, things):
            self.things = things

    tensor, things = object(), []
    a, b = Holder(things), Holder(things)
    things += [tensor, None, things]
    found = settled([*holdings(a), *holdings(b)], {id(tensor)})
    assert found.what_changed() is None
    b.things = [tensor, None]
    assert found.what_changed() == "Holder.things is another list"
    b.things = things
    things[1] = tensor
    assert found.what_changed() == "Holder.things[1] is object, was None"
    things[1:] = [None, things, 5]
    assert found.what_changed() == "Holder.things has 4 entries, had 3"
