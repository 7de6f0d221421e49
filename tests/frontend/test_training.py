"""A training step: one plan, nothing computed twice, nothing kept, the same bits every time."""

import gc
import re

import numpy as np
import psutil
import pytest

import needle_ir as ndl
from needle_ir import Tensor, nn, optim
from needle_ir.ir import Node
from needle_ir.passes import DEFAULT_PIPELINE

BLOCKS = 2
SHAPE = {"dim": 12, "hidden_dim": 10, "num_blocks": BLOCKS, "num_classes": 4}


def make(app, optimizer=optim.Adam, norm=nn.BatchNorm1d, seed=0):
    np.random.seed(seed)
    model = app.MLPResNet(**SHAPE, norm=norm)
    return model, optimizer(model.parameters(), lr=0.01, weight_decay=0.001)


def batch(seed=0, rows=16):
    rng = np.random.RandomState(seed)
    x = Tensor(rng.rand(rows, SHAPE["dim"]).astype(np.float32), requires_grad=False)
    return x, Tensor(rng.randint(0, SHAPE["num_classes"], rows).astype(np.uint8))


def by_hand(norm):
    """How often each kernel must run in one step, elementwise ones left out."""
    linears = 2 * BLOCKS + 2
    norms = 2 * BLOCKS
    # Forward one product; backward one for the weight and one for the input, which the first
    # layer does not need.
    matmul = linears + 2 * linears - 1
    # Two means forward. Backward the gradients of weight and bias, from which batch norm takes the
    # two means that it needs, while layer norm takes them along the other axis.
    per_norm = 2 + 2 if norm is nn.BatchNorm1d else 2 + 4
    # The gradient of a linear layer's bias is one sum. The loss picks the labels and averages; its
    # gradient is summed over the classes.
    sums = per_norm * norms + linears + 3
    return {"matmul": matmul, "sum": sums}


@pytest.mark.parametrize("optimizer", [optim.Adam, optim.SGD])
@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.LayerNorm1d])
def test_a_step_is_one_plan_and_runs_nothing_twice(app, kernel_calls, lookups, optimizer, norm):
    model, opt = make(app, optimizer, norm)
    counts = []
    for step in range(4):
        x, labels = batch(step)
        kernel_calls.clear()
        logits, loss = app.train_step(model, opt, x, labels)
        for tensor in (logits, loss, *model.parameters()):
            tensor.numpy()
        counts.append((lookups(), dict(kernel_calls)))
    assert [found for found, _ in counts] == [(0, 1), (1, 0), (1, 0), (1, 0)]
    assert [calls for _, calls in counts[1:]] == [by_hand(norm)] * 3


def test_an_epoch_is_two_plans(app, lookups):
    """One for the whole batches and one for the last, shorter one; as many for evaluation."""
    model, opt = make(app)
    rng = np.random.RandomState(0)
    images = rng.rand(40, 12).astype(np.float32)
    data = ndl.data.NDArrayDataset(images, rng.randint(0, 4, 40).astype(np.uint8))
    loader = ndl.data.DataLoader(data, batch_size=16, shuffle=True)
    app.epoch(loader, model, opt)
    assert lookups() == (1, 2)
    app.epoch(loader, model, opt)
    assert lookups() == (3, 0)
    app.epoch(loader, model)
    assert lookups()[1] <= 4
    app.epoch(loader, model)
    assert lookups()[1] == 0


def live_nodes():
    gc.collect()
    return sum(isinstance(x, Node) for x in gc.get_objects())


@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
def test_two_thousand_steps_need_no_more_memory(app, jitted):
    np.random.seed(0)
    model = nn.Sequential(
        nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 4)
    )
    opt = optim.Adam(model.parameters(), lr=0.01, weight_decay=0.001)
    rng = np.random.RandomState(0)
    images, labels = rng.rand(128, 32).astype(np.float32), rng.randint(0, 4, 128)

    def step(x, y):
        opt.reset_grad()
        loss = nn.SoftmaxLoss()(model(x), y)
        loss.backward()
        opt.step()
        return loss

    step = ndl.jit(step) if jitted else step
    kept = []

    def train(steps):
        for number in range(steps):
            opt.lr = 0.01 / (1 + number)
            loss = step(Tensor(images, requires_grad=False), Tensor(labels))
            kept[:] = [*kept[-9:], loss]
            if number % 10 == 0:
                loss.item()

    train(200)
    nodes, memory = live_nodes(), psutil.Process().memory_info().rss
    train(2000)
    assert live_nodes() == nodes
    # One batch is 16 kB, the parameters and moments 7 kB: one of them kept alive at every step
    # would be 14 MB at least. The allocator may take a page here and there.
    assert psutil.Process().memory_info().rss - memory < 4e6


def test_the_steps_of_the_text_form(app):
    model, opt = make(app)
    model(batch()[0])
    compiled = ndl.compile(app.train_step, model, opt, *batch())
    names = [stage.name for stage in compiled.stages]
    assert names[0] == "recorded"
    assert names[-1] == DEFAULT_PIPELINE.rpartition(", ")[2]
    text = [str(stage.graph) for stage in compiled.stages]
    before, after = names.index("stabilize"), names.index("autodiff")
    assert before + 1 == after

    def count(position, op):
        return len(re.findall(rf" = {op}\(", text[position]))

    parameters = 4 + 8 * BLOCKS
    markers = ("grad", "stop_gradient", "variable", "known")
    assert len(model.parameters()) == parameters
    for position in range(after):
        assert count(position, "grad") == parameters
    for position in range(after, len(names)):
        assert [count(position, marker) for marker in markers] == [0, 0, 0, 0]
    # Composites until they are lowered; the loss's log-sum-exp stays one node to the end.
    assert count(0, "linear") == 2 * BLOCKS + 2
    assert count(0, "softmax_loss") == 1
    assert count(0, "adam_update") == 1
    assert count(0, "matmul") == count(0, "log_softmax") == 0
    assert count(after - 1, "linear") == count(after - 1, "softmax_loss") == 0
    for position in range(before, len(names)):
        assert count(position, "log_softmax") == 1
    assert count(len(names) - 1, "matmul") == by_hand(nn.BatchNorm1d)["matmul"]


def test_a_naive_log_sum_exp_becomes_one_node():
    def naive(x, y):
        return ((x.exp().sum(1).log() - (x * y).sum(1)).mean(),)

    def loss_and_grad(x, y):
        return ndl.grad(lambda x: naive(x, y)[0])(x)

    x = Tensor(np.array([[1000.0, 999.0]]))
    one_hot = np.array([[1.0, 0.0]])
    compiled = ndl.compile(loss_and_grad, x, one_hot)
    stages = {stage.name: stage.graph for stage in compiled.stages[:7]}
    assert stages["recorded"].count("logsumexp") == 0
    assert stages["stabilize"].count("logsumexp") == 1
    p = 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(compiled(x, one_hot).numpy(), [[p - 1, 1 - p]], rtol=1e-12)


def test_no_dead_node_is_left(app):
    model, opt = make(app)
    x, labels = batch()

    def step(x, labels):
        (model.stem(x) * 2).exp()
        return app.train_step(model, opt, x, labels)

    graph = ndl.compile(step, x, labels).graph
    needed = set()
    waiting = [*graph.outputs, *graph.effects]
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += node.inputs
    assert graph.unused == ()
    dead = [node for node in graph.nodes if node not in needed and node not in graph.inputs]
    assert dead == []


@pytest.mark.parametrize("optimizer", [optim.Adam, optim.SGD])
@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.LayerNorm1d])
def test_every_way_to_run_it_gives_the_same_bits(app, optimizer, norm):
    def train(ways):
        model, opt = make(app, optimizer, norm)
        run = ways(lambda x, y: app.train_step(model, opt, x, y))
        np.random.seed(1)
        outputs = []
        for number in range(8):
            outputs += [tensor.numpy().tobytes() for tensor in run(*batch(number))]
        model.eval()
        outputs.append(model(batch(9)[0]).numpy().tobytes())
        return [*outputs, *[p.numpy().tobytes() for p in model.parameters()]]

    eager = train(lambda step: step)
    assert train(lambda step: step) == eager
    ndl.clear_cache()
    assert train(lambda step: step) == eager
    assert train(ndl.jit) == eager
    assert train(lambda step: ndl.compile(step, *batch())) == eager


def test_another_seed_gives_other_numbers(app):
    """Or the test above could not fail."""
    results = []
    for seed in (0, 1):
        model, opt = make(app, seed=seed)
        results.append(app.train_step(model, opt, *batch())[1].item())
    assert results[0] != results[1]
    model, opt = make(app)
    losses = []
    for seed in (0, 1):
        np.random.seed(seed)
        losses.append(app.evaluate(model, *batch())[1].item())
    assert losses[0] != losses[1]
