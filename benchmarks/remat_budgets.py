"""Prints what rematerialization buys: planned memory against operations, for several budgets.

The program is one training step of an MLPResNet with 30 blocks, compiled by the default pipeline.
"""

import sys
import time
import warnings
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    # What is measured is this checkout, not a needle_ir that is installed.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import needle_ir as ndl
from benchmarks.tables import Table, new_console, print_tables
from needle_ir import nn, optim
from needle_ir.compiler import read_pipeline
from needle_ir.ir import Graph, graph_cost
from needle_ir.passes import BudgetWarning, Remat, make_plan, peak_bytes, run_pipeline, schedule

BLOCKS, BATCH, WIDTH, CLASSES = 30, 1024, 64, 10
SHARES = (0.9, 0.75, 0.6, 0.5, 0.4)


def training_step(blocks: int = BLOCKS, batch: int = BATCH) -> Graph:
    """Forward, backward and Adam, after the passes."""
    layers: list[nn.Module] = [nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    for _ in range(blocks):
        inner = [nn.Linear(WIDTH, WIDTH // 2), nn.BatchNorm1d(WIDTH // 2), nn.ReLU()]
        inner += [nn.Dropout(0.1), nn.Linear(WIDTH // 2, WIDTH), nn.BatchNorm1d(WIDTH)]
        layers += [nn.Residual(nn.Sequential(*inner)), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, CLASSES))
    optimizer = optim.Adam(model.parameters())
    x = ndl.Tensor(np.zeros((batch, WIDTH), np.float32), requires_grad=False)
    labels = ndl.Tensor(np.arange(batch) % CLASSES)

    def step() -> ndl.Tensor:
        optimizer.reset_grad()
        loss = nn.SoftmaxLoss()(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    return run_pipeline(ndl.trace(step), read_pipeline(None))


def measure(graph: Graph, shares: tuple[float, ...] = SHARES) -> Table:
    """A row for each budget, which is a share of the peak without the pass."""
    before, flops = peak_bytes(graph, schedule(graph)), graph_cost(graph).flops
    rows = [_row("none", graph, before, flops, 0.0, True)]
    for share in shares:
        budget = int(before * share)
        started = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", BudgetWarning)
            smaller = Remat(budget).run(graph)
        seconds = time.perf_counter() - started
        rows.append(_row(f"{budget / 1e6:.1f} MB", smaller, before, flops, seconds, not caught))
    columns = ("budget", "reached", "peak", "of all", "arena", "FLOPs", "pass")
    return Table(f"remat of a training step, {BATCH} rows", columns, tuple(rows))


def _row(
    budget: str, graph: Graph, before: int, flops: int, seconds: float, reached: bool
) -> tuple[str, ...]:
    peak = peak_bytes(graph, schedule(graph))
    return (
        budget,
        "yes" if reached else "no",
        f"{peak / 1e6:.1f} MB",
        f"{peak / before:.0%}",
        f"{make_plan(graph).arena_bytes / 1e6:.1f} MB",
        f"×{graph_cost(graph).flops / flops:.3f}",
        f"{seconds:.1f} s",
    )


if __name__ == "__main__":
    print_tables([measure(training_step())], new_console())
