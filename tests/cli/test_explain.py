"""`needle-ir explain`: plain when it is piped, colours on a terminal, JSON, its errors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import needle_ir as ndl
from needle_ir.cli import main

ROOT = Path(__file__).resolve().parents[2]
SOURCE = """
import needle_ir as ndl


def loss(x):
    return (ndl.exp(x) * 1.0 + x).sum()


def fails(x):
    return x @ x
"""


@pytest.fixture
def example(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / "explained_example.py"
    path.write_text(SOURCE)
    yield path
    sys.modules.pop("explained_example", None)


def explained(capsys, example, *arguments):
    """Exit status, stdout and stderr of the command."""
    sys.modules.pop("explained_example", None)
    status = main(["explain", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_it_prints_what_the_function_returns(capsys, example):
    target = f"{example}:loss"
    status, out, err = explained(capsys, example, target, "--input", "f32[4]", "-p", "simplify")
    assert (status, err) == (0, "")
    import explained_example

    x = ndl.Tensor([1.0] * 4, requires_grad=False)
    expected = ndl.explain(explained_example.loss, x, pipeline="simplify")
    # The times differ.
    assert out.split("\n\n")[2:] == [f"{expected.show()}\n".split("\n\n", 2)[2]]
    assert "times-one" in out
    assert "     | return (ndl.exp(x) * 1.0 + x).sum()" in out


def test_options(capsys, example):
    target = (f"{example}:loss", "--input", "f32[4]", "-p", "fold, simplify, cse")
    _, until, _ = explained(capsys, example, *target, "--until", "fold")
    assert "simplify" not in until
    _, only, _ = explained(capsys, example, *target, "--pass", "cse")
    assert "times-one, " not in only
    _, full, _ = explained(capsys, example, *target, "--full", "--rule", "times-one")
    assert "times-one, " in full
    _, text, _ = explained(capsys, example, *target, "--json", "--pass", "2")
    stages = json.loads(text)["stages"]
    assert [stage["pass"] for stage in stages if "changes" in stage] == ["simplify"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pass", "inline"], "no pass 'inline' here"),
        (["--until", "99"], "no pass '99' here"),
        (["--rule", "x"], "no rule 'x' was applied"),
        (["-p", "no-such-pass"], "no-such-pass"),
        (["-p", "cse{x=1}"], "pass 'cse'"),
    ],
)
def test_errors(capsys, example, arguments, message):
    target = (f"{example}:loss", "--input", "f32[4]")
    status, out, err = explained(capsys, example, *target, *arguments)
    assert (status, out) == (1, "")
    assert err.startswith("needle-ir explain: ")
    assert message in err
    assert "Traceback" not in err


def test_an_error_of_the_function_shows_its_lines(capsys, example):
    status, _, err = explained(capsys, example, f"{example}:fails", "--input", "f32[4,2]")
    assert status == 1
    assert "return x @ x" in err
    assert "inner dimensions 2 and 4 differ" in err
    assert str(ROOT) not in err


def command(*arguments, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
    return subprocess.Popen(
        [sys.executable, "-m", "needle_ir", "explain", *map(str, arguments)],
        env=environment | {"NO_COLOR": ""},
        stderr=subprocess.PIPE,
        **options,
    )


def test_a_reader_that_has_enough(example):
    """As `needle-ir explain … | head -1` does."""
    process = command(f"{example}:loss", "--input", "f32[4]", stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_colours_on_a_terminal_and_none_in_a_pipe(example):
    import pty

    arguments = (f"{example}:loss", "--input", "f32[4]", "-p", "simplify")
    piped = command(*arguments, stdout=subprocess.PIPE)
    plain, _ = piped.communicate(timeout=60)
    assert b"\x1b[" not in plain
    leader, follower = pty.openpty()
    on_terminal = command(*arguments, stdout=follower)
    os.close(follower)
    shown = b""
    try:
        while data := os.read(leader, 65536):
            shown += data
    except OSError:  # Linux: the other end is closed
        pass
    os.close(leader)
    on_terminal.communicate(timeout=60)
    assert b"\x1b[31m" in shown  # red: what went
    assert b"- %2 = multiply(%0, 1.0)" in shown
    assert b"- %2 = multiply(%0, 1.0)" in plain
