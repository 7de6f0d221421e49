"""A needle program as the course's text has it, and the course's functions of the app.

Both are compared with the same network written out in NumPy, in float64, from the same seeds.
"""

import gzip
import importlib.util
import struct
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import needle_ir as ndl
import needle_ir.nn as nn
from tests.frontend.test_training_against_numpy import EPS, Reference, adam, sgd

# The program. Only what the course's text names is used here. -----------------------------------


def residual_block(dim, hidden_dim, norm=nn.BatchNorm1d, drop_prob=0.1):
    return nn.Sequential(
        nn.Residual(
            nn.Sequential(
                nn.Linear(dim, hidden_dim),
                norm(hidden_dim),
                nn.ReLU(),
                nn.Dropout(drop_prob),
                nn.Linear(hidden_dim, dim),
                norm(dim),
            )
        ),
        nn.ReLU(),
    )


def mlp_resnet(dim, hidden_dim=100, num_blocks=3, num_classes=10):
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(dim, hidden_dim),
        nn.ReLU(),
        *[residual_block(hidden_dim, hidden_dim // 2) for _ in range(num_blocks)],
        nn.Linear(hidden_dim, num_classes),
    )


def run_epoch(dataloader, model, opt=None):
    np.random.seed(4)
    loss_function = nn.SoftmaxLoss()
    if opt is None:
        model.eval()
    else:
        model.train()
    wrong, total_loss, samples = 0, 0.0, 0
    for x, y in dataloader:
        logits = model(x)
        loss = loss_function(logits, y)
        if opt is not None:
            opt.reset_grad()
            loss.backward()
            opt.step()
        wrong += np.sum(logits.numpy().argmax(axis=1) != y.numpy())
        total_loss += float(loss.numpy()) * y.shape[0]
        samples += y.shape[0]
    return wrong / samples, total_loss / samples


# The same in NumPy. -------------------------------------------------------------------------------


class NumPyResNet(Reference):
    """The reference of the training tests, from seeded draws, with an evaluation mode."""

    def __init__(self, dim, hidden_dim, num_blocks=3, num_classes=10, drop_prob=0.1):
        self.blocks, self.axis, self.p = num_blocks, 0, drop_prob
        self.params, self.running_mean, self.running_var = {}, {}, {}
        self.draw("stem", dim, hidden_dim)
        for i in range(num_blocks):
            self.draw(f"blocks.{i}.linear1", hidden_dim, hidden_dim // 2)
            self.norm_of_ones(f"blocks.{i}.norm1", hidden_dim // 2)
            self.draw(f"blocks.{i}.linear2", hidden_dim // 2, hidden_dim)
            self.norm_of_ones(f"blocks.{i}.norm2", hidden_dim)
        self.draw("classifier", hidden_dim, num_classes)
        self.training = True

    def draw(self, name, fan_in, fan_out):
        bound = np.sqrt(2) * np.sqrt(3 / fan_in)
        self.params[f"{name}.weight"] = np.random.rand(fan_in, fan_out) * 2 * bound - bound
        bound = np.sqrt(2) * np.sqrt(3 / fan_out)
        self.params[f"{name}.bias"] = np.random.rand(1, fan_out) * 2 * bound - bound

    def norm_of_ones(self, name, size):
        self.params[f"{name}.weight"], self.params[f"{name}.bias"] = np.ones(size), np.zeros(size)
        self.running_mean[name], self.running_var[name] = np.zeros(size), np.ones(size)

    def linear(self, x, name):
        result = super().linear(x, name)
        if name == "classifier":
            self.logits = result
        return result

    def norm(self, x, name):
        if self.training:
            return super().norm(x, name)
        scale = 1 / np.sqrt(self.running_var[name] + EPS)
        normal = (x - self.running_mean[name]) * scale
        return normal * self.params[f"{name}.weight"] + self.params[f"{name}.bias"], normal, scale

    def epoch(self, x, y, batch_size, update=None):
        np.random.seed(4)
        self.training = update is not None
        order = np.arange(len(y))
        drop_prob, self.p = self.p, self.p if self.training else 0.0
        if self.training:
            np.random.shuffle(order)
        wrong, total_loss = 0, 0.0
        for start in range(0, len(y), batch_size):
            rows = order[start : start + batch_size]
            loss, grads = self.loss_and_grads(x[rows], y[rows])
            if update is not None:
                update(grads)
            wrong += (self.logits.argmax(1) != y[rows]).sum()
            total_loss += loss * len(rows)
        self.p = drop_prob
        return wrong / len(y), total_loss / len(y)


def expected_history(train, test, make_update, epochs, batch_size, hidden_dim):
    """(train error, train loss, test error, test loss) of every epoch."""
    np.random.seed(4)
    model = NumPyResNet(train[0].shape[1], hidden_dim)
    update = make_update(model.params)
    return [
        (*model.epoch(*train, batch_size, update), *model.epoch(*test, batch_size))
        for _ in range(epochs)
    ]


def read(files):
    """Images (n, pixels) in [0, 1] and labels of two gzipped IDX files."""
    images, labels = (gzip.decompress(path.read_bytes()) for path in files)
    _, count, rows, columns = struct.unpack(">4i", images[:16])
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(count, rows * columns)
    return pixels / 255, np.frombuffer(labels, np.uint8, offset=8)


def agree(history, expected, train, test):
    """Losses to float32's precision; errors to one sample, which may lie between two classes."""
    np.testing.assert_allclose(np.array(history)[:, 1::2], np.array(expected)[:, 1::2], rtol=1e-4)
    for column, data in ((0, train), (2, test)):
        difference = np.abs(np.array(history)[:, column] - np.array(expected)[:, column])
        assert difference.max() < 1.5 / len(data[1])
    return True


def test_the_program_trains_as_the_numbers_say():
    files = [ndl.data.digits_files(train) for train in (True, False)]
    train, test = map(read, files)
    assert train[0].shape == (1438, 64)

    np.random.seed(4)
    model = mlp_resnet(64, hidden_dim=20)
    opt = ndl.optim.Adam(model.parameters(), lr=0.005, weight_decay=0.001)
    train_loader = ndl.data.DataLoader(
        ndl.data.MNISTDataset(*files[0]), batch_size=100, shuffle=True
    )
    test_loader = ndl.data.DataLoader(
        dataset=ndl.data.MNISTDataset(*files[1]), batch_size=100, shuffle=False
    )
    history = [
        (*run_epoch(train_loader, model, opt), *run_epoch(test_loader, model)) for _ in range(3)
    ]
    update = partial(adam, lr=0.005, weight_decay=0.001)
    expected = expected_history(train, test, update, epochs=3, batch_size=100, hidden_dim=20)
    assert agree(history, expected, train, test)
    # It learned: the numbers moved by far more than they may differ.
    assert expected[2][2] < 0.4 < expected[0][0]
    assert expected[2][1] < 0.5 * expected[0][1]


# The app. -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def app():
    path = Path(__file__).resolve().parents[2] / "apps" / "mlp_resnet.py"
    spec = importlib.util.spec_from_file_location("mlp_resnet_as_the_course_has_it", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path):
    """MNIST's four files, small: 70 and 45 images, so that batches of 20 and 16 end short."""
    rng = np.random.RandomState(0)
    for name, count in (("train", 70), ("t10k", 45)):
        labels = rng.randint(0, 10, count).astype(np.uint8)
        images = rng.randint(0, 100, (count, 28, 28)).astype(np.uint8)
        images[np.arange(count), labels * 2] = 255
        for kind, head, array in (
            ("images-idx3", struct.pack(">4i", 2051, count, 28, 28), images),
            ("labels-idx1", struct.pack(">2i", 2049, count), labels),
        ):
            content = gzip.compress(head + array.tobytes())
            (tmp_path / f"{name}-{kind}-ubyte.gz").write_bytes(content)
    return tmp_path


def files(folder, name):
    return [folder / f"{name}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]


@pytest.mark.parametrize("batch_size", [20, 16])
def test_train_mnist(app, folder, batch_size):
    train, test = read(files(folder, "train")), read(files(folder, "t10k"))
    # Not Adam: its first step goes by the sign of a gradient, which rounding decides near zero, and
    # in batches as small as these one sign shows.
    options = {"batch_size": batch_size, "epochs": 2, "hidden_dim": 12}
    result = app.train_mnist(
        optimizer=partial(ndl.optim.SGD, momentum=0.5),
        lr=0.05,
        weight_decay=0.01,
        data_dir=str(folder),
        **options,
    )
    update = partial(sgd, lr=0.05, weight_decay=0.01, momentum=0.5)
    expected = expected_history(train, test, update, **options)
    assert agree([result], expected[-1:], train, test)
    assert abs(expected[0][1] - expected[1][1]) > 0.1


def test_train_mnist_has_the_courses_defaults(app, monkeypatch):
    seen = {}

    def train(train_set, test_set, make_model, make_optimizer, **options):
        model = make_model()
        seen.update(options, opt=make_optimizer(model), sets=(train_set, test_set), model=model)
        history = [app.Metrics(1, 1.0, 2.0, 3.0, 4.0), app.Metrics(2, 0.1, 0.2, 0.3, 0.4)]
        return app.Trained(model, history)

    monkeypatch.setattr(app, "train", train)
    monkeypatch.setattr(app, "mnist_files", lambda folder, train: [folder, train])
    monkeypatch.setattr(app, "MNISTDataset", lambda *files: files)
    assert app.train_mnist() == (0.1, 0.2, 0.3, 0.4)
    assert seen["sets"] == (("data", True), ("data", False))
    assert (seen["epochs"], seen["batch_size"]) == (10, 100)
    assert type(seen["opt"]) is ndl.optim.Adam
    assert (seen["opt"].lr, seen["opt"].weight_decay) == (0.001, 0.001)
    assert [p.shape for p in seen["model"].parameters()][:3] == [(784, 100), (1, 100), (100, 50)]


class Probe(nn.Module):
    """A linear model that remembers the mode of a module deep inside of it."""

    def __init__(self):
        self.body = nn.Sequential(nn.Flatten(), nn.Residual(nn.Dropout(0.5)), nn.Linear(4, 3))
        self.modes = []

    def forward(self, x):
        self.modes.append(self.body.modules[1].fn.training)
        return self.body(x)


def data_of(count):
    rng = np.random.RandomState(1)
    x, y = rng.randn(count, 2, 2, 1).astype(np.float32), rng.randint(0, 3, count).astype(np.uint8)
    return x, y, ndl.data.NDArrayDataset(x, y)


@pytest.mark.parametrize("training", [True, False])
def test_epoch_draws_from_a_fresh_stream(app, training):
    """The order of the samples, then one mask a batch; nothing before and nothing else."""
    np.random.seed(0)
    model, (_, _, dataset) = Probe(), data_of(10)
    opt = ndl.optim.SGD(model.parameters(), lr=0.1) if training else None
    app.epoch(ndl.data.DataLoader(dataset, 4, shuffle=True), model, opt)
    after = np.random.rand(3)

    np.random.seed(4)
    np.random.shuffle(np.arange(10))
    if training:
        for rows in (4, 4, 2):
            np.random.rand(rows, 4)
    np.testing.assert_array_equal(after, np.random.rand(3))


def test_epoch_sets_the_mode_of_everything_inside(app):
    np.random.seed(0)
    model, (_, _, dataset) = Probe(), data_of(5)
    loader = ndl.data.DataLoader(dataset, batch_size=4)
    opt = ndl.optim.SGD(model.parameters(), lr=0.1)
    for optimizer in (None, opt, None):
        app.epoch(loader, model, optimizer)
    assert model.modes == [False, False, True, True, False, False]
    assert not model.training


@pytest.mark.parametrize("batch_size", [1, 4, 7, 10, 100])
def test_averages_are_over_samples_however_they_are_cut(app, batch_size):
    np.random.seed(0)
    model, (x, y, dataset) = Probe(), data_of(10)
    linear = model.body.modules[2]
    logits = 2 * x.reshape(10, 4) @ linear.weight.numpy() + linear.bias.numpy()
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(10), y]
    error, loss = app.epoch(ndl.data.DataLoader(dataset, batch_size), model)
    assert error == np.mean(logits.argmax(1) != y)
    assert 0 < error < 1
    np.testing.assert_allclose(loss, losses.mean(), rtol=1e-6)
