"""A real browser, headless, and pages that are opened in it as files."""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import needle_ir as ndl

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def missing(what):
    """Skip, unless a browser is required."""
    if os.environ.get("NEEDLE_IR_REQUIRE_BROWSER"):
        pytest.fail(f"{what}, and NEEDLE_IR_REQUIRE_BROWSER is set")
    pytest.skip(what)


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """Chromium. Playwright gives it a fresh folder for its data."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        missing(f"no browser: none of {', '.join(NAMES)} is on the PATH")
    if importlib.util.find_spec("playwright") is None:
        missing("playwright is not installed: pip install 'needle-ir[browser]'")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, headless=True, args=[*FLAGS])
        yield launched
        launched.close()


@dataclass
class Opened:
    """A page, all that it asked for, and all that it complained of."""

    page: object
    url: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __getattr__(self, name):
        return getattr(self.page, name)

    def shows(self, text, selector="body"):
        """Wait until a part of the page shows a text."""
        self.page.locator(selector, has_text=text).first.wait_for()

    def ready(self):
        """Wait until the picture is drawn."""
        self.page.locator("body[data-ready]").wait_for()
        return self


@pytest.fixture
def open_page(browser):
    """A function that opens a page; at the end nothing was asked for but the file itself, and
    nothing stands in the console.
    """
    opened = []

    def open_file(path, place="", *, size=(1280, 800), **options):
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, **({"color_scheme": "light"} | options)
        )
        context.set_default_timeout(15_000)
        page = Opened(context.new_page(), path.as_uri())
        page.page.on("request", lambda request: page.requests.append(request.url))
        page.page.on("console", lambda m: page.complaints.append(f"{m.type}: {m.text}"))
        page.page.on("pageerror", lambda error: page.complaints.append(f"error: {error}"))
        opened.append(page)
        page.goto(f"{page.url}{place}")
        return page

    yield open_file
    for page in opened:
        page.page.context.close()
        assert {url.partition("#")[0] for url in page.requests} == {page.url}
        assert page.complaints == []


@pytest.fixture(scope="session")
def app():
    """The module apps/mlp_resnet.py."""
    spec = importlib.util.spec_from_file_location(
        "mlp_resnet_reported", ROOT / "apps" / "mlp_resnet.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def training_page(app, tmp_path_factory):
    """The page of a training step of the default MLPResNet."""
    path = tmp_path_factory.mktemp("report") / "training.html"
    ndl.report(app.train_step, *app.example_step(), path=path, timeout=120)
    return path


def small_loss(w, x):
    """The program of `small_page`."""
    y = x @ w * 1.0
    return ndl.log(ndl.exp(y).sum(axes=1)).sum()  # log-sum-exp


@pytest.fixture(scope="session")
def small_page(tmp_path_factory):
    """The page of a small function and its gradient."""
    path = tmp_path_factory.mktemp("report") / "small.html"
    numbers = np.random.default_rng(0)
    w, x = (numbers.standard_normal(s).astype("float32") for s in ((3, 4), (8, 3)))
    passes = "simplify, cse, stabilize, autodiff, lower, cse, dce"
    ndl.report(ndl.value_and_grad(small_loss), w, x, path=path, pipeline=passes)
    return path
