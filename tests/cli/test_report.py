"""`needle-ir report`: the page is written, and what goes wrong is told in one line."""

import sys

import pytest

from needle_ir.cli import main
from tests.frontend.report_data import held_in

SOURCE = """
import needle_ir as ndl


def loss(x):
    return (ndl.exp(x) * 1.0 + x).sum()
"""


@pytest.fixture
def target(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / "reported_example.py"
    path.write_text(SOURCE)
    yield f"{path}:loss"
    sys.modules.pop("reported_example", None)


def run(capsys, *arguments):
    sys.modules.pop("reported_example", None)
    status = main(["report", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_it_writes_the_page(capsys, target, tmp_path):
    page = tmp_path / "page.html"
    options = ("--input", "f32[4]", "-p", "simplify", "-o", page)
    status, out, err = run(capsys, target, *options)
    assert (status, err) == (0, "")
    html = page.read_text(encoding="utf-8")
    assert out == f"wrote {page} ({len(html.encode()) / 1e6:.2f} MB)\n"
    data, _ = held_in(html)
    assert [stage["text"] for stage in data["stages"]] == ["recorded", "simplify"]
    assert data["profile"]["seconds"] > 0
    _, out, _ = run(capsys, target, *options, "--no-profile")
    assert "profile" not in out
    assert held_in(page.read_text(encoding="utf-8"))[0]["profile"] is None


def test_errors(capsys, target, tmp_path):
    status, out, err = run(capsys, target, "-o", tmp_path / "no" / "page.html")
    assert (status, out) == (1, "")
    assert err == f"needle-ir report: there is no folder {tmp_path / 'no'} to write to\n"
    status, _, err = run(capsys, target, "--input", "f32[4]", "-o", tmp_path)
    assert status == 1
    assert err.startswith(f"needle-ir report: {tmp_path} can not be written: ")
    status, _, err = run(capsys, target, "-p", "inline")
    assert (status, err.count("\n")) == (1, 1)
    assert "no pass 'inline'" in err
    status, _, err = run(capsys, target, "--timeout", "0")
    assert (status, err) == (1, "needle-ir report: --timeout 0: expected seconds above 0\n")
