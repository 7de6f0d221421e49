"""Contenders in processes: turns, time limits, what is not installed, what fails."""

import os
import sys

import pytest

from benchmarks import cores, worker
from benchmarks.configurations import Configuration
from benchmarks.contender import CONTENDERS, Step
from benchmarks.cores import environment, pick_cores, usable_cores
from benchmarks.measure import Settings, compare
from benchmarks.processes import AbsentError, FailedError, Process, TimeLimitError

SMALL = Configuration("small", hidden=6, batch=5, blocks=1, features=7, classes=3)
HAND, TORCH = CONTENDERS["numpy"], CONTENDERS["torch-eager"]


def start(contender=HAND, limit=60.0, python=sys.executable):
    return Process(contender, SMALL, pick_cores(1), limit, python)


@pytest.fixture
def script(tmp_path):
    """An interpreter that is a shell script."""

    def write(line):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)
        return str(path)

    return write


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_process_answers_and_ends():
    with start() as process:
        assert set(process.phases) == {"import", "build", "first step"}
        assert process.first_seconds > sum(process.phases.values())
        losses = process.ask("losses", 3)
        assert len(losses) == 3
        assert process.ask("losses", 2) == losses[:2]
        samples = process.ask("turn", 0.02)
        assert samples
        assert all(0 < seconds < 1 for seconds in samples)
        assert process.ask("facts")["version"].startswith("NumPy")
        assert process.ask("memory") == {}
        assert is_running(process._process.pid)
        scratch = process._scratch.name
    assert not is_running(process._process.pid)
    assert not os.path.exists(scratch)


def test_a_start_over_the_limit_is_ended(script):
    python = script("echo $$ > pid; exec sleep 60")
    with pytest.raises(TimeLimitError, match=r"none within 0\.3 s"):
        start(limit=0.3, python=python)


def test_a_turn_over_the_limit_is_ended():
    with start() as process:
        process._limit = 0.1
        with pytest.raises(TimeLimitError):
            process.ask("turn", 30.0)
        assert not is_running(process._process.pid)


def test_what_is_not_installed_is_absent(script):
    bare = script(f'exec "{sys.executable}" -S "$@"')
    with pytest.raises(AbsentError, match="torch is not installed"):
        start(TORCH, python=bare)


def test_a_missing_package_of_our_own_is_a_failure(script):
    bare = script(f'exec "{sys.executable}" -S "$@"')
    with pytest.raises(FailedError, match="No module named 'numpy'"):
        start(HAND, python=bare)


def test_a_failure_says_what_the_process_said(script):
    with pytest.raises(FailedError, match="out of luck"):
        start(python=script("echo out of luck >&2; exit 3"))


def test_what_a_library_prints_is_no_answer(script, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import os; os.system('echo noise >&2')\n")
    python = script(f'exec "{sys.executable}" -c "$CODE" "$3"')
    code = "import benchmarks.worker as w\n{}\nw.main()"
    loud = "old = w.import_module\nw.import_module = lambda name: print('noise') or old(name)"
    os.environ["CODE"] = code.format(loud)
    try:
        with start(python=python) as process:
            assert len(process.ask("losses", 1)) == 1
    finally:
        del os.environ["CODE"]


def test_compare_takes_turns_and_names_what_is_missing(script):
    bare = script(f'exec "{sys.executable}" -S "$@"')
    settings = Settings(rounds=3, turn_seconds=0.02, starts=2, peer_python=bare)
    said = []
    contenders = [HAND, CONTENDERS["needle-jit"], TORCH]
    comparison = compare(SMALL, 1, contenders, settings, said.append)
    by_hand, ours, torch = comparison.outcomes.values()
    for outcome in (by_hand, ours):
        assert outcome.reason is None
        assert (len(outcome.first), len(outcome.phases), len(outcome.steps)) == (2, 2, 3)
        assert {"version", "BLAS", "random numbers"} == set(outcome.facts)
    assert ours.memory["temporaries"] > 0
    assert (torch.reason, torch.failed, torch.first) == ("torch is not installed", False, [])
    assert comparison.name == "small"
    assert sum("round" in text for text in said) == 3
    assert sum("PyTorch" in text for text in said) == 1


def test_compare_names_a_time_limit(script):
    settings = Settings(rounds=1, starts=3, limit=0.2, own_python=script("exec sleep 60"))
    outcome = compare(SMALL, 1, [HAND], settings).outcomes["numpy"]
    assert (outcome.reason, outcome.failed) == ("none within 0.2 s", False)


def test_the_environment_has_nothing_that_tunes(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("KEPT", "1")
    variables = environment(2, tmp_path / "path", tmp_path)
    assert not {"OPENBLAS_CORETYPE", "XLA_FLAGS", "PYTHONDONTWRITEBYTECODE"} & set(variables)
    assert variables["OMP_NUM_THREADS"] == variables["OPENBLAS_NUM_THREADS"] == "2"
    assert variables["KEPT"] == "1"
    assert "OPENBLAS_CORETYPE" in cores.removed_variables()


def test_more_cores_than_there_are():
    with pytest.raises(ValueError, match="cores are asked for"):
        pick_cores(len(usable_cores()) + 1)


def counting_step(clock, seconds):
    """A step that moves a clock by `seconds`."""
    waited = []

    def run(number):
        clock[0] += seconds
        return number

    return Step(run, wait=waited.append, loss=float, facts=dict), waited


def test_a_turn_samples_several_short_steps_at_once(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(worker.time, "perf_counter", lambda: clock[0])
    step, waited = counting_step(clock, 0.001)
    samples = worker._turn(step, 0.05, [])
    assert samples == pytest.approx([0.001] * 5)
    # Each sample is ten steps and waits for the last of them, after a first step and the warm-up.
    assert waited == [0, 2, 12, 22, 32, 42, 52]


def test_a_step_longer_than_the_turn_is_sampled_once(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(worker.time, "perf_counter", lambda: clock[0])
    step, waited = counting_step(clock, 2.0)
    assert worker._turn(step, 0.05, []) == [2.0]
    assert waited == [0, 1]
