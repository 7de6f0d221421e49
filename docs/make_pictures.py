"""Draws the pictures of the README and of the pages from the real program:

    python docs/make_pictures.py

Each is kept in docs/pictures as .dot, which a test compares with what the program draws now, and
as .svg, which needs Graphviz's `dot` program and names the .dot that it was made of. Times differ
from run to run: those of the profile are kept beside it, and measured again with --measure.
"""

import argparse
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median

import graphviz
import numpy as np

import needle_ir as ndl
from needle_ir import nn, viz
from needle_ir.compiler import read_pipeline
from needle_ir.passes import run_pipeline

FOLDER = Path(__file__).resolve().parent / "pictures"
SECONDS = FOLDER / "profile.json"


class Classifier(nn.Module):
    """Two linear layers with a ReLU between them."""

    def __init__(self) -> None:
        self.hidden = nn.Linear(784, 128)
        self.relu = nn.ReLU()
        self.output = nn.Linear(128, 10)

    def forward(self, x: ndl.Tensor) -> ndl.Tensor:
        """(n, 784) to (n, 10)."""
        result: ndl.Tensor = self.output(self.relu(self.hidden(x)))
        return result


def train_step(
    model: nn.Module, opt: ndl.optim.Optimizer, images: ndl.Tensor, labels: ndl.Tensor
) -> ndl.Tensor:
    """One step of training; returns the loss."""
    opt.reset_grad()
    loss: ndl.Tensor = nn.SoftmaxLoss()(model(images), labels)
    loss.backward()
    opt.step()
    return loss


def naive(x: ndl.Tensor) -> ndl.Tensor:
    """The log-sum-exp of the rows, as it is written without care."""
    result: ndl.Tensor = ndl.log(ndl.exp(x).sum(axes=1)).mean()
    return result


def recorded() -> ndl.Graph:
    """The forward pass and the loss of an MLPResNet with one block, as they are recorded."""
    sys.path.insert(0, str(FOLDER.parent.parent / "apps"))
    from mlp_resnet import MLPResNet, evaluate

    sys.path.pop(0)
    model = MLPResNet(64, hidden_dim=32, num_blocks=1, norm=nn.LayerNorm1d, drop_prob=0.1)
    images = np.zeros((100, 8, 8, 1), np.float32)
    return ndl.trace(evaluate, model, images, np.zeros(100, np.uint8))


def training() -> ndl.Compiled:
    """A step of training, compiled."""
    model = Classifier()
    opt = ndl.optim.SGD(model.parameters(), lr=0.1)
    images = ndl.Tensor(np.zeros((100, 784), np.float32), requires_grad=False)
    labels = ndl.Tensor(np.zeros(100, np.uint8), requires_grad=False)
    return ndl.compile(train_step, model, opt, images, labels)


def change(compiled: ndl.Compiled, wanted: str) -> viz.Change:
    """What the first pass of a name changed."""
    stages = compiled.stages
    i = next(i for i, stage in enumerate(stages) if stage.name == wanted)
    return viz.Change(stages[i - 1].graph, stages[i].graph)


def stabilized() -> viz.Change:
    """What stabilize makes of a naive log-sum-exp."""
    return change(ndl.compile(naive, ndl.init.zeros(8, 3), pipeline="stabilize"), "stabilize")


def levels() -> ndl.Graph:
    """A graph with a composite, linear, and a fused kernel in it."""
    layer = nn.Linear(32, 64)

    def squashed(x: ndl.Tensor) -> ndl.Tensor:
        result: ndl.Tensor = (ndl.tanh(layer(x)) * 2.0 + 1.0).sum()
        return result

    graph = ndl.trace(squashed, ndl.init.zeros(64, 32, requires_grad=False))
    return run_pipeline(graph, read_pipeline("fuse"))


def gradient() -> ndl.Compiled:
    """The value and the gradient of a small function, compiled."""

    def loss(w: ndl.Tensor, x: ndl.Tensor) -> ndl.Tensor:
        result: ndl.Tensor = ndl.relu(x @ w).sum()
        return result

    w, x = (ndl.init.zeros(*shape, requires_grad=False) for shape in ((20, 30), (10, 20)))
    return ndl.compile(ndl.value_and_grad(loss), w, x)


def measured() -> viz.Heat:
    """The training step with the times that were measured last."""
    graph = training().graph
    kept = json.loads(SECONDS.read_text("utf-8"))
    seconds = {graph.nodes[int(i)]: float(value) for i, value in kept["seconds"].items()}
    return viz.Heat(graph, seconds)


def measure(runs: int = 200) -> None:
    """Run the training step, and keep the median time of each node's calls, in seconds."""
    graph = training().stages[0].graph
    rng = np.random.default_rng(0)
    arrays = [
        rng.random(node.shape).astype(node.dtype)
        if node.dtype.kind == "f"
        else rng.integers(0, 10, node.shape, node.dtype)
        for node in graph.inputs
    ]
    run = ndl.compile(graph)
    run(*arrays)
    with ndl.profile(show=False) as profile:
        for _ in range(runs):
            run(*arrays)
    times = defaultdict(list)
    for call in profile.calls:
        times[call.node].append(call.seconds)
    kept = {i: round(median(times[x]), 8) for i, x in enumerate(run.graph.nodes) if x in times}
    SECONDS.write_text(json.dumps({"seconds": kept}, indent=1) + "\n", "utf-8")


# How each is drawn. A page shows them at their own size, so none may be wide.
PICTURES: dict[str, Callable[[], graphviz.Digraph]] = {
    "recorded": lambda: viz.to_dot(recorded(), legend=False),
    "lanes": lambda: viz.to_dot(training().graph, level="module"),
    "change": lambda: viz.to_dot(stabilized()),
    "autodiff": lambda: viz.to_dot(change(training(), "autodiff"), level="module"),
    "level-composite": lambda: viz.to_dot(levels(), legend=False, title="composite"),
    "level-kernel": lambda: viz.to_dot(levels(), level="kernel", legend=False, title="kernel"),
    "level-primitive": lambda: viz.to_dot(
        levels(), level="primitive", legend=False, title="primitive"
    ),
    "level-module": lambda: viz.to_dot(recorded(), level="module", legend=False, title="module"),
    "plan": lambda: viz.to_dot(gradient().plan),
    "profile": lambda: viz.to_dot(measured(), level="module"),
}


def digest(dot: str) -> str:
    """What an .svg says of the .dot it was made of."""
    return f"<!-- made of DOT with SHA-256 {hashlib.sha256(dot.encode()).hexdigest()} -->\n"


def main() -> None:
    """Write every picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--measure", action="store_true", help="measure the profile's times anew")
    if parser.parse_args().measure:
        measure()
    for name, make in PICTURES.items():
        dot = make()
        (FOLDER / f"{name}.dot").write_text(dot.source, "utf-8")
        path = FOLDER / f"{name}.svg"
        viz.render_svg(dot, path)
        path.write_text(path.read_text("utf-8") + digest(dot.source), "utf-8")
        print(path)


if __name__ == "__main__":
    main()
