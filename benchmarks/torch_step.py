"""The training step in PyTorch: eager, with the fused Adam, and through torch.compile.

torch.compile gets the model with its loss, forward and backward; Adam beside it is the fused one.
"""

import re

import torch
from torch import Tensor, nn

from benchmarks.configurations import Configuration
from benchmarks.contender import Step
from benchmarks.problem import batches, initial_parameters


class OneRowBatchNorm(nn.BatchNorm1d):
    """Batch normalization of a batch of one, which nn.BatchNorm1d refuses."""

    def forward(self, x: Tensor) -> Tensor:
        """(1, dim) to (1, dim)."""
        return torch.batch_norm(
            x,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            True,
            self.momentum,
            self.eps,
            False,
        )


class ResidualBlock(nn.Module):
    """relu(x + norm2(linear2(dropout(relu(norm1(linear1(x)))))))."""

    def __init__(self, configuration: Configuration):
        super().__init__()
        hidden, inner = configuration.hidden, configuration.hidden // 2
        norm = nn.BatchNorm1d if configuration.batch > 1 else OneRowBatchNorm
        settings = {"eps": configuration.norm_eps, "momentum": configuration.norm_momentum}
        self.linear1 = nn.Linear(hidden, inner)
        self.norm1 = norm(inner, **settings)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(configuration.dropout)
        self.linear2 = nn.Linear(inner, hidden)
        self.norm2 = norm(hidden, **settings)

    def forward(self, x: Tensor) -> Tensor:
        """(n, dim) to (n, dim)."""
        hidden = self.dropout(self.relu(self.norm1(self.linear1(x))))
        return self.relu(x + self.norm2(self.linear2(hidden)))


class MLPResNet(nn.Module):
    """Linear, ReLU, residual blocks of half the width, and a linear classifier."""

    def __init__(self, configuration: Configuration):
        super().__init__()
        self.stem = nn.Linear(configuration.features, configuration.hidden)
        self.relu = nn.ReLU()
        self.blocks = nn.Sequential(
            *[ResidualBlock(configuration) for _ in range(configuration.blocks)]
        )
        self.classifier = nn.Linear(configuration.hidden, configuration.classes)

    def forward(self, x: Tensor) -> Tensor:
        """(n, features) to (n, classes)."""
        return self.classifier(self.blocks(self.relu(self.stem(x))))


def make_step(configuration: Configuration, variant: str) -> Step:
    """The step: `variant` is "eager", "fused" or "compile"."""
    torch.manual_seed(0)
    data = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in batches(configuration)]
    model = _make_model(configuration)
    opt = torch.optim.Adam(
        model.parameters(),
        lr=configuration.lr,
        betas=(configuration.beta1, configuration.beta2),
        eps=configuration.adam_eps,
        weight_decay=configuration.weight_decay,
        fused=True if variant in ("fused", "compile") else None,
    )
    criterion = nn.CrossEntropyLoss()

    def evaluate(images: Tensor, labels: Tensor) -> Tensor:
        return criterion(model(images), labels)

    if variant == "compile":
        evaluate = torch.compile(evaluate)

    def run(number: int) -> Tensor:
        opt.zero_grad()
        loss = evaluate(*data[number % len(data)])
        loss.backward()
        opt.step()
        return loss

    return Step(run, wait=lambda loss: None, loss=lambda loss: loss.item(), facts=_facts)


def _make_model(configuration: Configuration) -> MLPResNet:
    """The model with the shared parameters. PyTorch keeps weights as (outputs, inputs)."""
    model = MLPResNet(configuration)
    arrays = initial_parameters(configuration)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(arrays[name].T))
    return model


def _facts() -> dict[str, str]:
    told = torch.__config__.show()
    patterns = {"MKL": r"Math Kernel Library Version ([\d.]+)", "oneDNN": r"MKL-DNN v([\d.]+)"}
    found = {name: re.search(pattern, told) for name, pattern in patterns.items()}
    libraries = [f"{name} {match[1]}" for name, match in found.items() if match]
    threads = torch.get_num_threads()
    kernels = f"{torch.backends.cpu.get_cpu_capability()}, {threads} thread{'s' * (threads > 1)}"
    return {
        "version": f"PyTorch {torch.__version__}",
        "BLAS": ", ".join([*libraries, kernels]),
        "random numbers": "MT19937",
    }
