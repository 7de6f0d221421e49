"""The training step of MLPResNet: each stage is read back, and nothing is wrong with it."""

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir.ir import parse, print_graph, structurally_equal


@pytest.fixture
def stages(app):
    """The graphs after every pass, of a model that is large enough to have fused clusters."""
    ndl.clear_cache()
    np.random.seed(0)
    model = app.MLPResNet(16, 64, num_blocks=2, num_classes=10)
    opt = ndl.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.001)
    x, labels = np.random.randn(32, 16).astype(np.float32), np.arange(32) % 10
    loss = ndl.nn.SoftmaxLoss()(model(ndl.Tensor(x)), ndl.Tensor(labels))
    loss.backward()
    with ndl.record_passes() as passes:
        opt.step()
    return [stage.graph for stage in passes.stages]


def test_every_stage_is_read_back(stages):
    assert len(stages) == 14
    assert stages[0].count("gradients") == 1  # of 20 parameters
    assert stages[-1].count("fused") > 5
    for graph in stages:
        whole = graph.format(full=True)
        again = parse(whole)
        assert structurally_equal(again, graph)
        assert again.format(full=True) == whole
        short = print_graph(graph, max_constant=10)  # the ten classes
        assert structurally_equal(parse(short), graph)


def test_nothing_is_wrong_with_it(stages):
    assert ndl.bisect(stages[0]).verdict in ("same", "rounding")
