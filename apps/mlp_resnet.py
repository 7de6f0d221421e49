"""Trains an MLP ResNet on handwritten digits, through the compiler.

Without --data-dir it trains on the digits that come with needle_ir; with it, on MNIST's four IDX
files in that folder.
"""

import argparse
import csv
import math
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import needle_ir as ndl
from needle_ir import nn
from needle_ir.data import DataLoader, MNISTDataset, digits_files, mnist_files
from needle_ir.plots import (
    PlotsMissingError,
    save_confusion_matrix,
    save_curves,
    save_worst_mistakes,
)

NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm1d}
CLASSES = 10
OPTIMIZERS = {"adam": ndl.optim.Adam, "sgd": ndl.optim.SGD}

Number = TypeVar("Number", int, float)


class ResidualBlock(nn.Module):
    """relu(x + norm(linear(dropout(relu(norm(linear(x)))))))."""

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        norm: Callable[[int], nn.Module] = nn.BatchNorm1d,
        drop_prob: float = 0.1,
    ):
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.norm1 = norm(hidden_dim)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(drop_prob)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.norm2 = norm(dim)

    def forward(self, x: ndl.Tensor) -> ndl.Tensor:
        """(n, dim) to (n, dim)."""
        hidden = self.dropout(self.relu(self.norm1(self.linear1(x))))
        result: ndl.Tensor = self.relu(x + self.norm2(self.linear2(hidden)))
        return result


class MLPResNet(nn.Module):
    """Linear, ReLU, `num_blocks` residual blocks of half the width, and a linear classifier."""

    def __init__(
        self,
        dim: int,
        hidden_dim: int = 100,
        num_blocks: int = 3,
        num_classes: int = 10,
        norm: Callable[[int], nn.Module] = nn.BatchNorm1d,
        drop_prob: float = 0.1,
    ):
        self.stem = nn.Linear(dim, hidden_dim)
        self.relu = nn.ReLU()
        self.blocks = [
            ResidualBlock(hidden_dim, hidden_dim // 2, norm, drop_prob) for _ in range(num_blocks)
        ]
        self.classifier = nn.Linear(hidden_dim, num_classes)

    def forward(self, x: ndl.Tensor) -> ndl.Tensor:
        """(n, dim) to (n, num_classes)."""
        x = self.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        result: ndl.Tensor = self.classifier(x)
        return result


def evaluate(
    model: nn.Module, images: ndl.Tensor, labels: ndl.Tensor
) -> tuple[ndl.Tensor, ndl.Tensor]:
    """The logits and the loss of one batch of images of any shape (n, …)."""
    logits = model(images.reshape(images.shape[0], -1))
    return logits, nn.SoftmaxLoss()(logits, labels)


def train_step(
    model: nn.Module, opt: ndl.optim.Optimizer, images: ndl.Tensor, labels: ndl.Tensor
) -> tuple[ndl.Tensor, ndl.Tensor]:
    """One step of training: the logits and the loss from before the update."""
    opt.reset_grad()
    logits, loss = evaluate(model, images, labels)
    loss.backward()
    opt.step()
    return logits, loss


def example_step() -> tuple[nn.Module, ndl.optim.Optimizer, ndl.Tensor, ndl.Tensor]:
    """What `train_step` takes, on a batch of the embedded digits: for `needle-ir report`."""
    np.random.seed(0)
    images, labels = next(iter(DataLoader(MNISTDataset(*digits_files(train=True)), 100)))
    model = MLPResNet(math.prod(images.shape[1:]))
    return model, ndl.optim.Adam(model.parameters(), lr=0.001, weight_decay=0.001), images, labels


def epoch(
    dataloader: DataLoader,
    model: nn.Module,
    opt: ndl.optim.Optimizer | None = None,
    *,
    seed: int | None = 4,
    on_batch: Callable[[], None] = lambda: None,
) -> tuple[float, float]:
    """One pass over the data: training with `opt`, evaluation without.

    Seeds NumPy, except where `seed` is None. Returns the error rate and the loss, averaged over
    all samples.
    """
    if seed is not None:
        np.random.seed(seed)
    if opt is None:
        model.eval()
    else:
        model.train()
    wrong = samples = 0
    total_loss = 0.0
    for images, labels in dataloader:
        if opt is None:
            logits, loss = evaluate(model, images, labels)
        else:
            logits, loss = train_step(model, opt, images, labels)
        predicted = logits.numpy().argmax(axis=1)
        wrong += int((predicted != labels.numpy()).sum())
        samples += len(predicted)
        total_loss += loss.item() * len(predicted)
        on_batch()
    return wrong / samples, total_loss / samples


def predict(
    dataloader: DataLoader, model: nn.Module
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The predicted class and the loss of every sample in turn, each (n,)."""
    model.eval()
    predicted, losses = [], []
    with ndl.no_grad():
        for images, labels in dataloader:
            logits = model(images.reshape(images.shape[0], -1))
            chosen = logits.numpy()[np.arange(len(logits)), labels.numpy()]
            losses.append(ndl.logsumexp(logits, axes=1).numpy() - chosen)
            predicted.append(logits.numpy().argmax(axis=1))
    return np.concatenate(predicted), np.concatenate(losses)


class Metrics(NamedTuple):
    """What an epoch of training measured."""

    epoch: int
    train_error: float
    train_loss: float
    test_error: float
    test_loss: float


class Trained(NamedTuple):
    """A trained model, and the metrics of every epoch of its training."""

    model: nn.Module
    history: list[Metrics]


def train(
    train_set: MNISTDataset,
    test_set: MNISTDataset,
    make_model: Callable[[], nn.Module],
    make_optimizer: Callable[[nn.Module], ndl.optim.Optimizer],
    *,
    epochs: int,
    batch_size: int,
    seed: int = 4,
    seed_each_epoch: bool = False,
    dump_graphs: Path | None = None,
    console: Console | None = None,
) -> Trained:
    """Train a model. Progress is shown on `console`.

    NumPy is seeded once; with `seed_each_epoch` again at every pass, as the course does it: then
    every epoch has the same order of samples and the same dropout masks.
    """
    epoch_seed = seed if seed_each_epoch else None
    np.random.seed(seed)
    model = make_model()
    opt = make_optimizer(model)
    train_loader = DataLoader(train_set, batch_size=batch_size, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=batch_size)
    if dump_graphs is not None:
        images, labels = next(iter(DataLoader(train_set, batch_size=batch_size)))
        with ndl.dump_graphs(dump_graphs):
            ndl.compile(train_step, model, opt, images, labels)
    history: list[Metrics] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console or Console(quiet=True)) as bars:
        for number in range(1, epochs + 1):
            batches = len(train_loader) + len(test_loader)
            advance = partial(bars.advance, bars.add_task(f"epoch {number:>3}", total=batches))
            trained = epoch(train_loader, model, opt, seed=epoch_seed, on_batch=advance)
            tested = epoch(test_loader, model, seed=epoch_seed, on_batch=advance)
            history.append(Metrics(number, *trained, *tested))
    return Trained(model, history)


def train_mnist(
    batch_size: int = 100,
    epochs: int = 10,
    optimizer: Callable[..., ndl.optim.Optimizer] = ndl.optim.Adam,
    lr: float = 0.001,
    weight_decay: float = 0.001,
    hidden_dim: int = 100,
    data_dir: str | Path = "data",
) -> tuple[float, float, float, float]:
    """Train an MLPResNet on the MNIST files in `data_dir`.

    Returns (train error, train loss, test error, test loss) of the last epoch.
    """
    last = train(
        MNISTDataset(*mnist_files(data_dir, train=True)),
        MNISTDataset(*mnist_files(data_dir, train=False)),
        lambda: MLPResNet(784, hidden_dim=hidden_dim),
        lambda model: optimizer(model.parameters(), lr=lr, weight_decay=weight_decay),
        epochs=epochs,
        batch_size=batch_size,
        seed_each_epoch=True,
    ).history[-1]
    return last.train_error, last.train_loss, last.test_error, last.test_loss


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        train_set, test_set = _load(options.data_dir)
        _make_folders([x for x in (options.out, options.dump_graphs) if x is not None])
    except (OSError, ValueError) as error:
        parser.error(str(error))
    _, rows, columns, _ = train_set.images.shape
    make_optimizer = OPTIMIZERS[options.optimizer]
    console = Console()
    model, history = train(
        train_set,
        test_set,
        lambda: MLPResNet(
            rows * columns,
            hidden_dim=options.hidden_dim,
            num_blocks=options.blocks,
            norm=NORMS[options.norm],
            drop_prob=options.dropout,
        ),
        lambda model: make_optimizer(
            model.parameters(), lr=options.lr, weight_decay=options.weight_decay
        ),
        epochs=options.epochs,
        batch_size=options.batch_size,
        seed=options.seed,
        dump_graphs=options.dump_graphs,
        console=console,
    )
    console.print(_table(history))
    if options.out is not None:
        path = options.out / "metrics.csv"
        _write_csv(path, history)
        print(f"wrote {path}")
        try:
            for path in _draw(options.out, model, history, test_set):
                print(f"wrote {path}")
        except PlotsMissingError as error:
            print(f"{parser.prog}: no pictures in {options.out}: {error}", file=sys.stderr)
    print(f"test accuracy {100 * (1 - history[-1].test_error):.2f}%")
    return 0


def _load(data_dir: Path | None) -> tuple[MNISTDataset, MNISTDataset]:
    """The training and the test set. Raises ValueError where they do not fit the model."""
    train_set, test_set = (MNISTDataset(*_files(data_dir, train)) for train in (True, False))
    for name, dataset in (("training", train_set), ("test", test_set)):
        if not len(dataset):
            raise ValueError(f"{data_dir}: there are no {name} images")
        if dataset.labels.max() >= CLASSES:
            raise ValueError(
                f"{data_dir}: a {name} label is {dataset.labels.max()}; "
                f"the classes are 0 to {CLASSES - 1}"
            )
    if train_set.images.shape[1:] != test_set.images.shape[1:]:
        raise ValueError(f"{data_dir}: training and test images differ in size")
    return train_set, test_set


def _files(data_dir: Path | None, train: bool) -> tuple[Traversable, Traversable]:
    return digits_files(train) if data_dir is None else mnist_files(data_dir, train)


def _make_folders(folders: Sequence[Path]) -> None:
    for folder in folders:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"{folder} is a file; expected a folder to write to")
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)


def _table(history: Sequence[Metrics]) -> Table:
    table = Table("epoch", "train error", "train loss", "test error", "test loss")
    for column in table.columns:
        column.justify = "right"
    for m in history:
        errors = (f"{100 * m.train_error:.2f}%", f"{100 * m.test_error:.2f}%")
        table.add_row(
            str(m.epoch), errors[0], f"{m.train_loss:.4f}", errors[1], f"{m.test_loss:.4f}"
        )
    return table


def _write_csv(path: Path, history: Sequence[Metrics]) -> None:
    """Write the metrics under another name first: a reader never sees half a file."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Metrics._fields)
        writer.writerows(history)
    os.replace(temporary, path)


def _draw(
    folder: Path, model: nn.Module, history: Sequence[Metrics], test_set: MNISTDataset
) -> list[Path]:
    """Draw the training, and what the model takes the test images for. Returns the files."""
    panels = {
        name: {part: [getattr(m, f"{part}_{name}") for m in history] for part in ("train", "test")}
        for name in ("loss", "error")
    }
    paths = save_curves(folder, panels, percent=["error"])
    predicted, losses = predict(DataLoader(test_set, batch_size=100), model)
    labels = test_set.labels
    paths += save_confusion_matrix(folder, labels, predicted, CLASSES)
    return paths + save_worst_mistakes(folder, test_set.images, labels, predicted, losses)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--data-dir", type=Path, metavar="DIR", help="folder with MNIST's four IDX files")
    add("--epochs", type=_positive_int, default=20, help="passes over the training data")
    add("--batch-size", type=_positive_int, default=100, help="samples a step")
    add("--lr", type=_non_negative, default=0.001, help="learning rate")
    add("--weight-decay", type=_non_negative, default=0.001, help="L2 penalty, added to gradients")
    add("--hidden-dim", type=_width, default=100, help="width of the residual stream")
    add("--blocks", type=_non_negative_int, default=3, help="number of residual blocks")
    add("--norm", choices=sorted(NORMS), default="batch", help="normalization")
    add("--dropout", type=_probability, default=0.1, help="probability of zeroing an element")
    add("--optimizer", choices=sorted(OPTIMIZERS), default="adam", help="optimizer")
    add("--seed", type=_non_negative_int, default=0, help="seed of NumPy's generator")
    add("--dump-graphs", type=Path, metavar="DIR", help="write the training step after each pass")
    add("--out", type=Path, metavar="DIR", help="write metrics.csv, and pictures of the training")
    return parser


def _number(text: str, kind: type[Number], fits: Callable[[Number], bool], wanted: str) -> Number:
    try:
        value = kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}") from None
    if not fits(value):
        raise argparse.ArgumentTypeError(f"{text} is not {wanted}")
    return value


def _positive_int(text: str) -> int:
    return _number(text, int, lambda x: x > 0, "a positive whole number")


def _non_negative_int(text: str) -> int:
    return _number(text, int, lambda x: 0 <= x < 2**32, "a whole number from 0 to 2**32 - 1")


def _width(text: str) -> int:
    return _number(text, int, lambda x: x >= 2, "a whole number of at least 2")


def _non_negative(text: str) -> float:
    return _number(text, float, lambda x: 0 <= x < math.inf, "a number of at least 0")


def _probability(text: str) -> float:
    return _number(text, float, lambda x: 0 <= x < 1, "a probability below 1")


if __name__ == "__main__":
    sys.exit(main())
