"""All contenders train the same model: ours is the app's, the hand-written step equals it."""

import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import needle_ir as ndl
from benchmarks import agreement, needle_step, numpy_step
from benchmarks.agreement import TOLERANCES, relative_differences
from benchmarks.configurations import CONFIGURATIONS, Configuration
from benchmarks.contender import CONTENDERS
from benchmarks.measure import Settings
from benchmarks.numpy_step import Network
from benchmarks.problem import batches, initial_parameters, parameter_shapes

ROOT = Path(__file__).resolve().parents[2]
SMALL = Configuration("small", hidden=6, batch=9, blocks=2, features=7, classes=3)
SHAPES = {
    "two blocks": SMALL,
    "no block": replace(SMALL, blocks=0),
    "one row": replace(SMALL, batch=1),
    "odd width": replace(SMALL, hidden=7),
    "wide, four blocks": replace(SMALL, hidden=40, blocks=4, batch=30),
}


def comparable(configuration):
    return replace(configuration, **agreement.COMPARABLE)


# A smaller eps than for the check: here the network is small enough, and all settings are seen.
SETTINGS = {"dropout": 0.0, "adam_eps": 1e-4, "weight_decay": 0.1, "lr": 1e-2}


def final_parameters(configuration):
    network = Network(configuration, initial_parameters(configuration))
    for batch in batches(configuration)[:4]:
        network.train(*batch)
    return network.parameters.flat


@pytest.mark.parametrize(
    "change", [{"beta2": 0.99}, {"beta1": 0.8}, {"adam_eps": 2e-4}, {"norm_eps": 2e-5}]
)
def test_every_setting_counts(change):
    configuration = replace(SMALL, **SETTINGS)
    pair = [final_parameters(x) for x in (configuration, replace(configuration, **change))]
    assert abs(pair[0] - pair[1]).max() > 5e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_the_hand_written_step_equals_ours(shape):
    configuration = replace(SHAPES[shape], **SETTINGS)
    model = needle_step.make_model(configuration)
    train_step = needle_step.make_train_step(configuration, model)
    network = Network(configuration, initial_parameters(configuration))
    for images, labels in batches(configuration)[:4]:
        loss = train_step(ndl.Tensor(images, requires_grad=False), ndl.Tensor(labels))
        assert network.train(images, labels) == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        expected = parameter.numpy().reshape(network.parameters[name].shape)
        np.testing.assert_allclose(network.parameters[name], expected, atol=2e-5, err_msg=name)
        assert not np.array_equal(network.parameters[name], initial_parameters(configuration)[name])
    for i, block in enumerate(model.blocks):
        for j, norm in ((1, block.norm1), (2, block.norm2)):
            mean, var = (network.running[f"blocks.{i}.norm{j}.{x}"] for x in ("weight", "bias"))
            np.testing.assert_allclose(mean, norm.running_mean.numpy(), atol=5e-6)
            np.testing.assert_allclose(var, norm.running_var.numpy(), rtol=1e-5)


def test_the_hand_written_dropout_thins_forward_and_backward_alike():
    p = 0.4
    network = Network(replace(SMALL, dropout=p, hidden=200), initial_parameters(SMALL_WIDE))
    network.train(*batches(SMALL_WIDE)[0])
    keep = network._blocks[0].keep
    np.testing.assert_allclose(np.unique(keep), [0, 1 / (1 - p)], rtol=1e-6)
    assert np.mean(keep == 0) == pytest.approx(p, abs=0.06)
    assert not network._blocks[0].inner[keep == 0].any()
    # A unit whose rows are all dropped learns nothing through its weights.
    before = network.parameters["blocks.0.linear2.weight"].copy()
    network.configuration = replace(network.configuration, weight_decay=0.0)
    network._u[:] = 0
    network._generator = AllDropped()
    network.train(*batches(SMALL_WIDE)[1])
    np.testing.assert_array_equal(network.parameters["blocks.0.linear2.weight"], before)


SMALL_WIDE = replace(SMALL, hidden=200)


class AllDropped:
    def random(self, dtype, out):
        out[:] = 0


def test_our_model_is_that_of_the_app():
    spec = importlib.util.spec_from_file_location("mlp_resnet", ROOT / "apps/mlp_resnet.py")
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    c = CONFIGURATIONS["default"]
    theirs = app.MLPResNet(c.features, c.hidden, c.blocks, c.classes, drop_prob=c.dropout)
    ours = needle_step.make_model(c)
    x, y = batches(c)[0]

    def graph(model):
        text = str(ndl.trace(lambda x, y: ndl.nn.SoftmaxLoss()(model(x), y), x, y))
        return [line.partition("#")[0].rstrip() for line in text.splitlines()]

    assert graph(ours) == graph(theirs)
    assert [name for name, _ in ours.named_parameters()] == list(dict(parameter_shapes(c)))
    assert c.norm_eps == ours.blocks[0].norm1.eps
    assert c.norm_momentum == ours.blocks[0].norm1.momentum


def test_the_variants_are_one_function():
    losses = []
    for variant in ("jit", "eager"):
        step = needle_step.make_step(comparable(SMALL), variant)
        losses.append([step.loss(step.run(number)) for number in range(3)])
    assert losses[0] == losses[1]


def test_memory_is_the_plans():
    wide = replace(SMALL, hidden=100)  # so that its arrays are recycled
    memory = needle_step.make_step(wide, "jit").memory()
    assert 0 < memory["temporaries"] <= memory["without reuse"]
    parameters = sum(math.prod(shape) for _, shape in parameter_shapes(wide))
    # Parameters and both moments are computed in their place, under jit gradients as well.
    eager = needle_step.make_step(wide, "eager").memory()
    assert 4 * parameters <= eager["new results"] < 3 * 4 * parameters
    assert memory["new results"] < 4 * parameters


@pytest.mark.parametrize(
    "change", [{"weight_decay": 0.0}, {"lr": 1.1e-4}, {"norm_eps": 1e-2}, {"beta1": 0.8}]
)
def test_another_computation_does_not_agree(change):
    configuration = comparable(CONFIGURATIONS["default"])
    pair = []
    for x in (configuration, replace(configuration, **change)):
        network = Network(x, initial_parameters(x))
        pair.append([network.train(*batch) for batch in batches(x)[: len(TOLERANCES)]])
    differences = relative_differences(pair[1], pair[0])
    assert any(d > t for d, t in zip(differences, TOLERANCES, strict=True)), differences


def test_the_check_runs_every_contender_and_sees_a_difference(monkeypatch):
    chosen = [CONTENDERS["numpy"], CONTENDERS["needle-jit"]]
    table, agrees = agreement.check_agreement([(SMALL, 1)], chosen, Settings())
    assert agrees
    assert [row[-1] for row in table.rows] == ["yes", "yes"]
    losses = iter([[1.0, 2.0, 3.0], [1.0, 2.0, 3.1]])
    monkeypatch.setattr(agreement, "_first_losses", lambda *arguments: next(losses))
    table, agrees = agreement.check_agreement([(SMALL, 1)], chosen, Settings())
    assert not agrees
    assert [row[-1] for row in table.rows] == ["yes", "no"]


def test_a_loss_that_is_no_number_differs():
    assert relative_differences([1.0, math.nan, math.inf], [1.0, 1.0, 1.0]) == [
        0.0,
        math.inf,
        math.inf,
    ]


@pytest.mark.peers
@pytest.mark.parametrize("name", ["torch_step", "jax_step"])
@pytest.mark.parametrize("shape", ["two blocks", "one row"])
def test_the_peers_agree(name, shape):
    package = name.removesuffix("_step")
    pytest.importorskip(package)
    module = importlib.import_module(f"benchmarks.{name}")
    configuration = comparable(SHAPES[shape])
    ours = numpy_step.make_step(configuration)
    expected = [ours.loss(ours.run(number)) for number in range(len(TOLERANCES))]
    for variant in {x.variant for x in CONTENDERS.values() if x.package == package} - {"compile"}:
        step = module.make_step(configuration, variant)
        losses = [step.loss(step.run(number)) for number in range(len(TOLERANCES))]
        assert losses == pytest.approx(expected, rel=1e-4)
